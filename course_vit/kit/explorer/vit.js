"use strict";
/* The forward pass of lesson 6's VisionTransformer for one image. The Python line that
   a function repeats is written above it.

   Tokens are a list of `n` rows with `d` numbers. `w` holds the weights by the names of
   the state dict: a matrix is a list of rows, a bias is a list of numbers. */

// rearrange(images, "b c (gh ph) (gw pw) -> b (gh gw) (c ph pw)")
function patchify(image, p) {
  const patches = [];
  for (let top = 0; top < image.length; top += p)
    for (let left = 0; left < image[0].length; left += p)
      patches.push(
        image.slice(top, top + p).flatMap((row) => row.slice(left, left + p)));
  return patches;
}

// a @ b
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

// x + y
function add(x, y) {
  return x.map((row, i) => row.map((value, j) => value + y[i][j]));
}

// shares @ x, for one row of shares
function mix(shares, x) {
  return x[0].map((_, j) => x.reduce((sum, row, i) => sum + shares[i] * row[j], 0));
}

// x.mean(dim=0)
function mean(x) {
  return mix(x.map(() => 1 / x.length), x);
}

// nn.Linear: x @ weight.T + bias
function linear(x, w, name) {
  const weight = w[`${name}.weight`], bias = w[`${name}.bias`];
  return x.map((row) => weight.map((each, j) => dot(row, each) + (bias ? bias[j] : 0)));
}

// nn.LayerNorm: (x - x.mean(-1)) / (x.var(-1, correction=0) + eps).sqrt(),
// then * weight + bias
function layerNorm(x, w, name, eps) {
  const weight = w[`${name}.weight`], bias = w[`${name}.bias`];
  return x.map((row) => {
    const middle = row.reduce((sum, v) => sum + v, 0) / row.length;
    const variance = row.reduce((sum, v) => sum + (v - middle) ** 2, 0) / row.length;
    const scale = 1 / Math.sqrt(variance + eps);
    return row.map((v, j) => (v - middle) * scale * weight[j] + bias[j]);
  });
}

// scores.softmax(dim=-1); the largest score is subtracted so that exp stays finite
function softmax(scores) {
  const most = Math.max(...scores);
  const shares = scores.map((score) => Math.exp(score - most));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => share / sum);
}

// torch.erf: a series of terms with one sign, so nothing cancels
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

// nn.GELU: x * (1 + erf(x / sqrt(2))) / 2
function gelu(x) {
  return (x * (1 + erf(x / Math.SQRT2))) / 2;
}

// rearrange(self.qkv(x), "b n (three h e) -> three b h n e").unbind(0)
function splitHeads(x, w, name, heads) {
  const qkv = linear(x, w, `${name}.qkv`), d = qkv[0].length / 3, e = d / heads;
  const part = (three, h) => qkv.map((r) => r.slice(three * d + h * e).slice(0, e));
  return [0, 1, 2].map((three) =>
    Array.from({ length: heads }, (_, h) => part(three, h)));
}

// (torch.einsum("... n e, ... m e -> ... n m", q, k) * e ** -0.5).softmax(dim=-1)
function attentionWeights(q, k) {
  const scale = q[0].length ** -0.5;
  return q.map((query) => softmax(k.map((key) => dot(query, key) * scale)));
}

// MultiHeadAttention.forward, which also returns the map of each head, `h n m`
function attention(x, w, name, heads) {
  const [q, k, v] = splitHeads(x, w, name, heads);
  const maps = q.map((queries, h) => attentionWeights(queries, k[h]));
  const mixed = x.map((_, i) => maps.flatMap((map, h) => mix(map[i], v[h])));
  return [linear(mixed, w, `${name}.proj`), maps];
}

// self.fc2(self.act(self.fc1(x)))
function mlp(x, w, name) {
  const hidden = linear(x, w, `${name}.fc1`).map((row) => row.map(gelu));
  return linear(hidden, w, `${name}.fc2`);
}

// x = x + self.attn(self.norm1(x)); return x + self.mlp(self.norm2(x))
function block(x, w, name, { num_heads, norm_eps }) {
  const [looked, maps] = attention(
    layerNorm(x, w, `${name}.norm1`, norm_eps), w, `${name}.attn`, num_heads);
  x = add(x, looked);
  x = add(x, mlp(layerNorm(x, w, `${name}.norm2`, norm_eps), w, `${name}.mlp`));
  return [x, maps];
}

// Backbone.embed; a patch is left out after it got its position, as in lesson 8.8
function embed(image, { w, sizes }, { order, positions = true, leftOut = [] }) {
  let patches = patchify(image, sizes.patch_size[0]);
  if (order) patches = order.map((place) => patches[place]);
  let x = linear(patches, w, "patch_embed.proj");
  if (w.cls_token) x = [...w.cls_token, ...x];
  if (w.pos_embed && positions) x = add(x, w.pos_embed);
  const prefix = w.cls_token ? 1 : 0;
  return x.filter((_, i) => !leftOut.includes(i - prefix));
}

// x = self.norm(blocks(embed(image))); self.head(x[:, 0]) or self.head(x.mean(dim=1))
function forward(image, model, changes = {}) {
  const { w, sizes } = model, tokens = embed(image, model, changes), maps = [];
  let x = tokens;
  for (let i = 0; i < sizes.depth; i++) {
    let map;
    [x, map] = block(x, w, `blocks.${i}`, sizes);
    maps.push(map);
  }
  x = layerNorm(x, w, "norm", sizes.norm_eps);
  const [logits] = linear([w.cls_token ? x[0] : mean(x)], w, "head");
  return { tokens, maps, logits, probabilities: softmax(logits) };
}

// rollout = (weights.mean(dim=1) + identity) / 2 @ rollout, block by block
function attentionRollout(maps) {
  const n = maps[0][0].length;
  let rollout = Array.from({ length: n }, (_, i) =>
    Array.from({ length: n }, (_, j) => Number(i === j)));
  for (const heads of maps) {
    const step = rollout.map((_, i) =>
      mean(heads.map((map) => map[i])).map((share, j) => (share + (i === j)) / 2));
    rollout = step.map((shares) => mix(shares, rollout));
  }
  return rollout;
}

// rows = F.normalize(position[0, num_prefix_tokens:], dim=-1); rows @ rows.T
function positionSimilarity(position, prefix) {
  const rows = position.slice(prefix).map((row) => {
    const length = Math.sqrt(dot(row, row));
    return row.map((number) => number / length);
  });
  return rows.map((row) => rows.map((other) => dot(row, other)));
}
