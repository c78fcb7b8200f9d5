"use strict";
/* The page itself: it keeps a drawing and some changes, runs `forward` of vit.js after
   each of them, and shows the results. */

const $ = (id) => document.getElementById(id);
const model = JSON.parse($("model").textContent);
for (const [name, { columns, base64 }] of Object.entries(model.w)) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const all = [...new Float32Array(bytes.buffer)];
  model.w[name] = columns ? inRows(all, columns) : all;
}
const { sizes } = model, side = sizes.img_size[0], patch = sizes.patch_size[0];
const grid = side / patch, places = [...Array(grid * grid).keys()];
const prefix = model.w.cls_token ? 1 : 0, READER = -1; // the class token or the mean
const readerName = prefix ? "the class token" : "the mean of all patches";
const state = { strokes: [], image: [], query: READER, cursor: [0, 0] };
const untouched = () => ({ order: null, positions: true, leftOut: [] });
let changes = untouched(), reading, before, waiting;

function inRows(all, columns) {
  return Array.from({ length: all.length / columns }, (_, i) =>
    all.slice(i * columns, (i + 1) * columns));
}
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const placeName = (p) => `row ${Math.floor(p / grid) + 1}, column ${(p % grid) + 1}`;
const best = (shares) => shares.indexOf(Math.max(...shares));

// --- Colours ---

const VIRIDIS = [
  [68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function viridis(share) {
  const at = Math.min(Math.max(share, 0), 1) * 4, i = Math.min(Math.floor(at), 3);
  return VIRIDIS[i].map((from, c) => from + (at - i) * (VIRIDIS[i + 1][c] - from));
}
const grey = (share) => Array(3).fill(255 * share);

/** Draw numbers as pixels of a canvas, from `low` to `high`; NaN is transparent. */
function paint(canvas, rows, low, high, colour = viridis) {
  [canvas.width, canvas.height] = [rows[0].length, rows.length];
  const pixels = rows.flat().flatMap((value) => Number.isNaN(value)
    ? [0, 0, 0, 0] : [...colour((value - low) / (high - low || 1)), 255]);
  const data = new ImageData(new Uint8ClampedArray(pixels), rows[0].length);
  canvas.getContext("2d").putImageData(data, 0, 0);
}

/** Draw a map of the grid, and on it the outline of the image that the model gets. */
function paintMap(canvas, shares, most, image) {
  const small = document.createElement("canvas"), context = canvas.getContext("2d");
  paint(small, inRows(shares, grid), 0, most);
  canvas.width = canvas.height = 12 * side;
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.width);
  Object.assign(context, { strokeStyle: "#fff", lineWidth: 1.5, globalAlpha: 0.6 });
  context.scale(12, 12);
  context.lineWidth /= 12;
  context.beginPath();
  const ink = (y, x) => (image[y]?.[x] ?? 0) > 0.4;
  for (let y = 0; y <= side; y++)
    for (let x = 0; x <= side; x++) {
      if (ink(y, x) !== ink(y - 1, x)) line(context, x, y, x + 1, y);
      if (ink(y, x) !== ink(y, x - 1)) line(context, x, y, x, y + 1);
    }
  context.stroke();
}

function line(context, x0, y0, x1, y1) {
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
}

// --- From strokes to pixels, as scikit-learn's digits were made ---

/** Strokes of a line width on a bitmap that is filled from top to bottom. */
function bitmap(strokes, size, width) {
  const [xs, ys] = [0, 1].map((axis) => strokes.flat().map((point) => point[axis]));
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const [top, bottom] = [Math.min(...ys), Math.max(...ys)];
  const high = Math.max(bottom - top, (right - left) / 3, 0.05);
  const scale = (size - width) / high;
  const squeeze = Math.min(scale, (0.8 * size - width) / Math.max(right - left, 0.01));
  const context = new OffscreenCanvas(size, size).getContext("2d",
    { willReadFrequently: true });
  context.translate(size / 2, size / 2);
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    for (const [x, y] of [stroke[0], ...stroke])
      context.lineTo(
        (x - (left + right) / 2) * squeeze, (y - (top + bottom) / 2) * scale);
    context.stroke();
  }
  const { data } = context.getImageData(0, 0, size, size);
  const alpha = [...data.filter((_, i) => i % 4 === 3)];
  return inRows(alpha.map((ink) => Number(ink > 127)), size);
}

/** The number of set bits in each block of 4 x 4, divided by 16.
    The pen gets broader until 30 % of the bits are set, as they are in the data. */
function toPixels(strokes) {
  const size = 4 * side;
  let bits;
  for (let width = 0.1 * size; width <= 0.25 * size; width += 0.01 * size) {
    bits = bitmap(strokes, size, width);
    if (bits.flat().reduce((a, b) => a + b) > 0.3 * size * size) break;
  }
  const counts = patchify(bits, 4).map((block) => block.reduce((a, b) => a + b));
  return inRows(counts.map((count) => count / 16), side);
}

// --- Reading ---

function update() {
  const changed = changes.order || !changes.positions || changes.leftOut.length;
  before = changed ? forward(state.image, model) : null;
  reading = forward(state.image, model, changes);
  reading.rollout = attentionRollout(reading.maps);
  if (changes.leftOut.includes(state.query)) state.query = READER;
  show();
}

/** The query's row of a map, for each place of the grid; NaN if it is left out. */
function look(map) {
  const kept = places.filter((place) => !changes.leftOut.includes(place));
  const at = state.query === READER ? 0 : prefix + kept.indexOf(state.query);
  const row = state.query === READER && !prefix ? mean(map) : map[at];
  const rest = row.slice(prefix);
  const shares = places.map((p) => kept.includes(p) ? rest[kept.indexOf(p)] : NaN);
  return { row, shares, token: prefix ? row[0] : NaN };
}

// --- Showing ---

function drawPad() {
  const context = $("pad").getContext("2d"), { width } = $("pad");
  context.clearRect(0, 0, width, width);
  if (!state.strokes.length) {
    const small = document.createElement("canvas");
    paint(small, state.image, 0, 1, grey);
    return context.drawImage(small, 0, 0, width, width);
  }
  Object.assign(context, { strokeStyle: "#fff", lineWidth: width / 11, lineCap: "round",
    lineJoin: "round", shadowColor: "#fff", shadowBlur: width / 40 });
  for (const stroke of state.strokes) {
    context.beginPath();
    for (const [x, y] of [stroke[0], ...stroke]) context.lineTo(x * width, y * width);
    context.stroke();
  }
}

function show() {
  const { logits, probabilities, tokens, maps, rollout } = reading;
  drawPad();
  paint($("pixels"), state.image, 0, 1, grey);
  const [y, x] = state.cursor, context = $("pixels").getContext("2d");
  if (document.activeElement === $("pixels")) {
    context.fillStyle = "#e69f00b0";
    context.fillRect(x, y, 1, 1);
  }

  let patches = patchify(state.image, patch);
  if (changes.order) patches = changes.order.map((place) => patches[place]);
  const image = state.image.map((row, y) => row.map((_, x) => patches[
    Math.floor(y / patch) * grid + Math.floor(x / patch)][(y % patch) * patch + x % patch]));
  [...$("patches").children].forEach((button, place) => {
    const out = changes.leftOut.includes(place), asked = state.query === place;
    paint(button.firstChild, inRows(patches[place], patch), 0, 1, grey);
    button.classList.toggle("asked", asked);
    button.classList.toggle("out", out);
    button.setAttribute("aria-pressed", asked);
    const ink = percent(patches[place].reduce((a, b) => a + b) / patch ** 2);
    button.setAttribute("aria-label",
      `patch in ${placeName(place)}, ink ${ink}${out ? ", left out" : ""}`);
  });
  const all = tokens.flat(), reach = Math.max(...all.map(Math.abs));
  paint($("tokens"), tokens, -reach, reach);
  $("tokens").setAttribute("aria-label", `${tokens.length} tokens of ${tokens[0].length}`
    + ` numbers between ${Math.min(...all).toFixed(1)} and ${Math.max(...all).toFixed(1)}`);
  $("reach").textContent = reach.toFixed(1);
  $("below").textContent = (-reach).toFixed(1).replace("-", "−");
  $("n").textContent = tokens.length;
  $("d").textContent = tokens[0].length;
  $("positions")?.classList.toggle("off", !changes.positions);

  const who = state.query === READER ? readerName
    : `the patch in ${placeName(state.query)}`;
  document.querySelectorAll(".query").forEach((name) => { name.textContent = who; });
  $("reader").setAttribute("aria-pressed", state.query === READER);
  const looks = maps.map((heads) => heads.map(look)), total = look(rollout);
  const most = Math.max(
    ...looks.flat().flatMap((it) => it.shares.filter((share) => share >= 0)));
  const mostRollout = Math.max(...total.shares.filter((share) => share >= 0));
  looks.flat().forEach((it, i) => picture(attentionCanvases[i], it, most, who, image));
  picture($("rollout"), total, mostRollout, who, image);
  $("most").textContent = `${percent(most)} of the attention`;
  $("most-rollout").textContent = percent(mostRollout);

  const now = best(probabilities), then = before && best(before.probabilities);
  $("reading").innerHTML = `<b>${now}</b> with ${percent(probabilities[now])}` + (before
    ? `<span class="before">without the changes: ${then} with
       ${percent(before.probabilities[then])}</span>` : "");
  const said = `It reads ${now}, ${Math.round(100 * probabilities[now])} %.`
    + (before ? ` Without the changes: ${then}.` : "");
  if ($("said").textContent !== said) $("said").textContent = said;
  [...$("bars").tBodies[0].rows].forEach((row, k) => {
    row.className = k === now ? "best" : "";
    const [now_, then_] = row.querySelectorAll("i");
    now_.style.width = percent(probabilities[k]).replace(" ", "");
    then_.style.width = before ? percent(before.probabilities[k]).replace(" ", "") : 0;
    then_.hidden = !before;
    then_.textContent = before ? `before: ${percent(before.probabilities[k])}` : "";
    row.cells[2].textContent = percent(probabilities[k]);
    row.cells[3].textContent = logits[k].toFixed(2);
  });
  $("shuffle").setAttribute("aria-pressed", Boolean(changes.order));
  $("positionless").setAttribute("aria-pressed", !changes.positions);
  showNumbers(looks, total);
}

function picture(canvas, { shares, token }, most, who, image) {
  paintMap(canvas, shares, most, image);
  const place = shares.indexOf(Math.max(...shares.filter((share) => share >= 0)));
  const rest = prefix ? `; the class token gets ${percent(token)}` : "";
  canvas.setAttribute("aria-label", `${canvas.dataset.name}: ${who} looks most at`
    + ` ${placeName(place)}, ${percent(shares[place])}${rest}`);
}

function showNumbers(looks, total) {
  const names = [...(prefix ? ["class token"] : []), ...places.map(placeName)];
  const cells = (token, shares, print) => [...(prefix ? [token] : []), ...shares]
    .map((value) => `<td>${Number.isNaN(value) ? "left out" : print(value)}`).join("");
  const lengths = look(reading.maps[0][0].map(() =>
    reading.tokens.map((token) => Math.sqrt(dot(token, token)))));
  const rows = looks.flatMap((heads, i) => heads.map((it, h) =>
    [`block ${i + 1}, head ${h + 1}`, it, percent])).concat([["rollout", total, percent],
    ["length of the token", lengths, (value) => value.toFixed(2)]]);
  $("numbers").innerHTML = `<caption class="hidden">Attention of the chosen query, rollout
    and lengths</caption><tr><td>${names.map((n) => `<th scope="col">${n}`).join("")}`
    + rows.map(([name, { token, shares }, print]) =>
      `<tr><th scope="row">${name}${cells(token, shares, print)}`).join("");
}

// --- Building the page ---

const attentionCanvases = [];
function build() {
  $("title").textContent = `${model.title}: ${sizes.depth} blocks of width `
    + `${sizes.embed_dim} with ${sizes.num_heads} heads`;
  $("side").textContent = `${side} × ${side}`;
  $("reader").textContent = prefix ? "Ask the class token" : "Ask the mean";
  model.samples.forEach(({ pixels }, digit) => {
    const button = $("samples").appendChild(document.createElement("button"));
    button.type = "button";
    button.setAttribute("aria-label", `test digit ${digit}`);
    paint(button.appendChild(document.createElement("canvas")), pixels, 0, 1, grey);
    button.onclick = () => setImage(pixels);
  });
  $("patches").style.gridTemplateColumns = `repeat(${grid}, 1fr)`;
  for (const place of places) {
    const button = $("patches").appendChild(document.createElement("button"));
    button.type = "button";
    button.tabIndex = place ? -1 : 0;
    button.append(document.createElement("canvas"));
    button.onclick = () => choose(place);
  }
  $("attention").style.gridTemplateColumns =
    `auto repeat(${sizes.num_heads}, minmax(3rem, 6rem))`;
  const label = (text) => {
    $("attention").appendChild(document.createElement("span")).textContent = text;
  };
  label("");
  for (let h = 1; h <= sizes.num_heads; h++) label(`head ${h}`);
  for (let i = 1; i <= sizes.depth; i++) {
    label(`block ${i}`);
    for (let h = 1; h <= sizes.num_heads; h++) {
      const canvas = $("attention").appendChild(document.createElement("canvas"));
      canvas.setAttribute("role", "img");
      canvas.dataset.name = `block ${i}, head ${h}`;
      attentionCanvases.push(canvas);
    }
  }
  $("rollout").dataset.name = "rollout";
  $("bars").tBodies[0].innerHTML = model.samples[0].logits.map((_, k) =>
    `<tr><th scope="row">${k}<td class="bar"><i></i><i></i><td><td>`).join("");
  showAgreement();
  showPositions();
  showCode();
  for (const link of document.querySelectorAll("[data-lesson]"))
    if (model.lessons) link.href = `${model.lessons}${link.dataset.lesson}.html`;
}

/** Compare the logits of the samples with torch's, which were exported with them. */
function showAgreement() {
  const far = model.samples.map(({ pixels, logits }) => Math.max(
    ...forward(pixels, model).logits.map((logit, k) => Math.abs(logit - logits[k]))));
  $("agreement").textContent = "On the ten test digits, its logits and PyTorch's differ by "
    + `at most ${Math.max(...far).toExponential(0)}.`;
}

function showPositions() {
  if (!model.w.pos_embed) return $("positions").closest("section").remove();
  const alike = positionSimilarity(model.w.pos_embed, prefix), step = grid + 1;
  paint($("positions"), Array.from({ length: grid * step - 1 }, (_, y) =>
    Array.from({ length: grid * step - 1 }, (_, x) => {
      const tile = Math.floor(y / step) * grid + Math.floor(x / step);
      const inside = y % step < grid && x % step < grid;
      return inside ? alike[tile][(y % step) * grid + (x % step)] : NaN;
    })), -1, 1);
  const next = places.filter((place) => (place + 1) % grid).map((p) => alike[p][p + 1]);
  const mid = next.reduce((a, b) => a + b, 0) / next.length;
  $("positions").setAttribute("aria-label", `${grid * grid} tiles; the cosine of two`
    + ` neighbours in a row is ${mid.toFixed(2)} on average`);
}

const CODE = {
  patches: [patchify, linear], tokens: [embed], positions: [positionSimilarity],
  attention: [splitHeads, attentionWeights, softmax, attention],
  block: [layerNorm, gelu, erf, mlp, block], rollout: [attentionRollout],
  answer: [forward],
};
function showCode() {
  for (const [step, functions] of Object.entries(CODE)) {
    const details = $("code").appendChild(document.createElement("details"));
    details.innerHTML = `<summary>${step[0].toUpperCase() + step.slice(1)}</summary>
      <div class="pair"><div><h3>Python</h3><pre tabindex="0"></pre></div>
      <div><h3>JavaScript</h3><pre tabindex="0"></pre></div></div>`;
    const [python, script] = details.querySelectorAll("pre");
    python.textContent = model.code[step];
    script.textContent = functions.map(String).join("\n\n");
  }
}

// --- Input ---

function setImage(rows) {
  cancelAnimationFrame(waiting);
  state.strokes = [];
  state.image = rows.map((row) => [...row]);
  update();
}

function choose(place) {
  const { leftOut } = changes;
  if (!$("drop").checked) state.query = state.query === place ? READER : place;
  else if (leftOut.includes(place))
    changes.leftOut = leftOut.filter((p) => p !== place);
  else if (leftOut.length < places.length - 1) changes.leftOut = [...leftOut, place];
  update();
}

function shuffled(list) {
  const keys = list.map((item) => [Math.random(), item]);
  return keys.sort(([a], [b]) => a - b).map(([, item]) => item);
}

function leaveOutThree(order) {
  changes.leftOut = order.slice(0, Math.min(3, places.length - 1));
  update();
}

/** All patches, largest rollout first, computed with nothing left out. */
function namedByRollout() {
  const all = forward(state.image, model, { ...changes, leftOut: [] });
  const rollout = attentionRollout(all.maps);
  const row = (prefix ? rollout[0] : mean(rollout)).slice(prefix);
  return [...places].sort((a, b) => row[b] - row[a]);
}

$("clear").onclick = () => setImage(inRows(Array(side * side).fill(0), side));
$("shuffle").onclick = () => {
  changes.order = changes.order ? null : shuffled(places);
  update();
};
$("positionless").onclick = () => {
  changes.positions = !changes.positions;
  update();
};
$("named").onclick = () => leaveOutThree(namedByRollout());
$("chance").onclick = () => leaveOutThree(shuffled(places));
$("undo").onclick = () => {
  changes = untouched();
  update();
};
$("reader").onclick = () => {
  state.query = READER;
  update();
};
function setTheme(dark) {
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  $("theme").textContent = dark ? "Light colours" : "Dark colours";
  $("theme").onclick = () => setTheme(!dark);
}

const ARROWS = {
  ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const within = (at, length) => Math.min(Math.max(at, 0), length - 1);
$("patches").onkeydown = (event) => {
  const step = ARROWS[event.key], at = [...$("patches").children].indexOf(event.target);
  if (!step) return;
  const y = within(Math.floor(at / grid) + step[0], grid);
  const next = $("patches").children[y * grid + within((at % grid) + step[1], grid)];
  [event.target.tabIndex, next.tabIndex] = [-1, 0];
  next.focus();
  event.preventDefault();
};
$("pixels").onkeydown = (event) => {
  let [y, x] = state.cursor;
  const step = ARROWS[event.key], ink = "0123456789".indexOf(event.key);
  if (step) [y, x] = [within(y + step[0], side), within(x + step[1], side)];
  else if (event.key === " ") state.image[y][x] = state.image[y][x] > 0.5 ? 0 : 1;
  else if (ink >= 0) state.image[y][x] = Math.round((ink * 16) / 9) / 16;
  else return;
  event.preventDefault();
  state.cursor = [y, x];
  if (!step) state.strokes = [];
  $("at").textContent = `Row ${y + 1}, column ${x + 1}: ink ${Math.round(
    16 * state.image[y][x])} of 16`;
  update();
};
$("pixels").onfocus = $("pixels").onblur = show;

$("pad").onpointerdown = (event) => {
  $("pad").setPointerCapture(event.pointerId);
  state.strokes.push([]);
  stroke(event);
};
$("pad").onpointermove = (event) => {
  if ($("pad").hasPointerCapture(event.pointerId)) stroke(event);
};
function stroke(event) {
  const box = $("pad").getBoundingClientRect();
  for (const { clientX, clientY } of [...event.getCoalescedEvents(), event])
    state.strokes.at(-1).push(
      [(clientX - box.left) / box.width, (clientY - box.top) / box.height]);
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => {
    state.image = toPixels(state.strokes);
    update();
  });
}

setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
build();
setImage(model.samples[3 % model.samples.length].pixels);
