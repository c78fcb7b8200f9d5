"""The explorer: what its page computes, and how a learner's own model gets into it.

`make test-browser` runs the tests that need a browser; `SCREENSHOTS=folder make
test-browser` keeps a picture of the page in light and dark colours and on a phone.
"""

import importlib
import os
import re
from math import cos, radians, sin
from pathlib import Path

import pytest
import torch

from course_vit import DistilledVisionTransformer, VisionTransformer
from course_vit.kit import CourseError, explorer
from course_vit.kit.cli import main
from course_vit.kit.data import digit_images, load_data
from course_vit.kit.explorer import KEPT, PAGE, keep, page, sizes
from course_vit.kit.results import stored_model
from course_vit.looking_inside import (
    attention_maps,
    attention_rollout,
    position_similarity,
)
from course_vit.patch_embedding import patchify, unpatchify
from course_vit.training import fit

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0}
OTHER = [
    {"pool": "mean", "patch_size": 4},
    {"position": "none", "qkv_bias": False},
    {"position": "sincos_2d", "patch_size": 1, "norm_eps": 1e-5},
    {"position": "sinusoid", "img_size": 12, "patch_size": 3, "num_classes": 4},
]


def other_model(**changes):
    """An untrained model of other sizes, with weights large enough to matter."""
    given = {"img_size": 8, "patch_size": 2, "in_chans": 1, "num_classes": 10}
    model = VisionTransformer(**given | SMALL | changes).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def own_model(mine, width=48):
    """A model that the learner's my_vit builds and that was trained for a moment."""
    own = importlib.import_module("my_vit.vision_transformer").VisionTransformer
    model = own(8, 4, 1, 10, embed_dim=width, depth=2, num_heads=3, mlp_ratio=1.1)
    fit(model, load_data().train, epochs=2, lr=3e-3)
    return model.eval()


# --- The file that lesson 7 keeps, and the command ---


@pytest.mark.parametrize("changes", OTHER, ids=str)
def test_sizes_make_a_model_of_the_same_shape(changes):
    model = other_model(**changes)
    again = VisionTransformer(**sizes(model))
    again.load_state_dict(model.state_dict())
    images = torch.rand(2, 1, *model.patch_embed.img_size)
    assert torch.equal(again.eval()(images), model(images))


def test_outside_a_workbook_no_model_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    keep(stored_model())
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out == ""


def test_the_command_shows_the_model_that_was_kept(mine, capsys):
    own = mine.folder / "my_vit" / "encoder_block.py"
    code = own.read_text("utf-8")
    last = "return x + self.drop_path(self.mlp(self.norm2(x)))"
    assert code.count(last) == 1
    own.write_text(code.replace(last, f"{last}  # mine"), "utf-8")
    model = own_model(mine)
    keep(model)
    assert f"your model is saved in {KEPT}" in capsys.readouterr().out
    assert main(["explore", "--no-browser", str(mine.folder)]) == 0
    said = capsys.readouterr().out
    assert f"{KEPT}: your model, computed by my_vit" in said
    assert (mine.folder / PAGE).as_uri() in said
    html = (mine.folder / PAGE).read_text("utf-8")
    assert '"embed_dim": 48' in html
    assert "# mine" in html  # the learner's own code stands beside the script


def test_without_a_model_of_ones_own_the_courses_is_shown(mine, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(explorer.webbrowser, "open", opened.append)
    assert main(["explore", str(mine.folder)]) == 0
    assert "the course's model: section 7.12" in capsys.readouterr().out
    assert opened == [(mine.folder / PAGE).as_uri()]
    assert "the course's model" in (mine.folder / PAGE).read_text("utf-8")


def test_without_a_workbook_the_command_says_how_to_make_one(tmp_path, capsys):
    assert main(["explore", str(tmp_path)]) == 1
    assert "course-vit start" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"no model", {"weights": {}}, "another"])
def test_a_file_that_holds_no_model_is_refused(mine, tmp_path, capsys, content):
    file = tmp_path / "model.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "another":
        kept = {"sizes": sizes(other_model()), "weights": stored_model().state_dict()}
        torch.save(kept, file)
    elif content is not None:
        torch.save(content, file)
    assert main(["explore", "--model", str(file), str(mine.folder)]) == 1
    said = capsys.readouterr().err
    assert f"{file} is not a model that my_vit can build" in said
    assert "section 7.12" in said
    assert not (mine.folder / PAGE).exists()


def test_a_model_that_computes_something_else_is_refused():
    class Doubled(VisionTransformer):
        def forward(self, images):
            return 2 * super().forward(images)

    model = Doubled(8, 2, 1, 10, **SMALL)
    with pytest.raises(CourseError, match=r"its logits differ by \d"):
        page(model, "your model")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (torch.nn.Linear(2, 2), "lesson 6, got Linear"),
        (
            DistilledVisionTransformer(8, 2, 1, 10, **SMALL),
            "Unexpected key.*dist_token",
        ),
        (VisionTransformer(8, 2, 3, 10, **SMALL), "with 3 channels"),
        (VisionTransformer((8, 4), 2, 1, 10, **SMALL), "images 8 x 4"),
        (VisionTransformer(8, (2, 4), 1, 10, **SMALL), "patches 2 x 4"),
        (VisionTransformer(22, 2, 1, 10, **SMALL), "at most 100 square patches"),
        (VisionTransformer(8, 2, 1, 0, **SMALL), "lesson 6, got VisionTransformer"),
    ],
    ids=str.__class__.__name__.format,
)
def test_what_the_page_cannot_show_is_refused(model, said):
    with pytest.raises(CourseError, match=said):
        page(model, "your model")


def test_the_page_is_one_file_that_asks_for_nothing():
    html = page(stored_model(), "a model", lessons="../notebooks/")
    assert "@@" not in html
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import|https?:', html)
    assert html.count("</script>") == 3


# --- The page in a browser ---


@pytest.fixture
def shown(browser, tmp_path):
    """Open the page of a model; fail if anything goes wrong in the page."""
    pages, wrong = [], []

    def open_page(model, width=1300, lessons="", **options):
        file = tmp_path / PAGE
        file.write_text(page(model, "a model", lessons), "utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, **options
        )
        pages.append(opened := context.new_page())
        opened.on("console", lambda message: wrong.append(message.text))
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("request", lambda it: wrong.append(it.url) if is_outside(it) else 0)
        opened.goto(file.as_uri())
        return opened

    yield open_page
    for opened in pages:
        opened.context.close()
    assert not wrong


def is_outside(request):
    return not request.url.startswith(("file:", "data:"))


def difference(numbers, tensor):
    """The largest difference of the page's numbers and torch's."""
    return (torch.tensor(numbers, dtype=torch.float64) - tensor).abs().max().item()


def read(page, images, changes="{}"):
    """The logits that the page computes for images `b 1 h w`."""
    script = f"images => images.map(image => forward(image, model, {changes}).logits)"
    return page.evaluate(script, images[:, 0].tolist())


@pytest.mark.browser
@torch.no_grad()
def test_the_page_computes_what_torch_computes(shown):
    model, images = stored_model(), digit_images()[0][::17][:100]
    opened, few = shown(model), images[:5]
    far = {"logits": difference(read(opened, images), model(images))}
    maps = attention_maps(model, few)
    right = {
        "tokens": model.embed(few),
        "maps": torch.stack(maps, dim=1),
        "rollout": attention_rollout(maps),
        "probabilities": model(few).softmax(dim=-1),
    }
    script = """images => images.map(image => {
        const read = forward(image, model);
        return { ...read, rollout: attentionRollout(read.maps) };
    })"""
    seen = opened.evaluate(script, few[:, 0].tolist())
    for name, tensor in right.items():
        far[name] = difference([image[name] for image in seen], tensor)
    tiles = opened.evaluate("positionSimilarity(model.w.pos_embed, prefix)")
    similarity = position_similarity(model.pos_embed, (4, 4))
    far["positions"] = difference(tiles, similarity.flatten(1))
    for name, value in far.items():
        print(f"{name}: {value:.1e}")
    assert max(far.values()) < 1e-5
    assert "PyTorch's differ by at most" in opened.inner_text("#agreement")


@pytest.mark.browser
@pytest.mark.parametrize("changes", OTHER, ids=str)
@torch.no_grad()
def test_models_of_other_sizes_are_shown(shown, changes):
    model = other_model(**changes)
    opened = shown(model)
    images = torch.rand(10, 1, *model.patch_embed.img_size)
    assert difference(read(opened, images), model(images)) < 1e-4
    assert opened.locator("#attention canvas").count() == 2 * 3
    gh, gw = model.grid_size
    assert opened.locator("#patches button").count() == gh * gw
    assert opened.locator("#positions").count() == (changes.get("position") != "none")


@pytest.mark.browser
def test_a_learners_own_model_is_shown(shown, mine):
    model = own_model(mine)
    keep(model)
    opened = shown(explorer.kept_model(mine, mine.folder / KEPT))
    images = digit_images()[0][:100]
    far = difference(read(opened, images), model(images).detach())
    print(f"logits: {far:.1e}")
    assert far < 1e-4
    assert "2 blocks of width 48 with 3 heads" in opened.inner_text("#title")


@pytest.mark.browser
@torch.no_grad()
def test_changes_do_what_torch_does_with_the_same_change(shown):
    model, images = stored_model(), digit_images()[0][:10]
    opened = shown(model)
    order, out = torch.randperm(16), [2, 5, 9]

    def logits(changes):
        return read(opened, images, changes)

    moved = unpatchify(patchify(images, 2)[:, order], 2)
    assert difference(logits(f"{{ order: {order.tolist()} }}"), model(moved)) < 1e-5
    x = model.embed(images)[:, [0, *(1 + p for p in range(16) if p not in out)]]
    for block in model.blocks:
        x = block(x)
    without = model.head(model.norm(x)[:, 0])
    assert difference(logits(f"{{ leftOut: {out} }}"), without) < 1e-5
    model.pos_embed.zero_()
    nowhere = model(images)
    assert difference(logits("{ positions: false }"), nowhere) < 1e-5
    both = logits(f"{{ positions: false, order: {order.tolist()} }}")
    assert difference(both, nowhere) < 1e-5  # without positions the order is nothing


# --- Drawing ---


def arc(x, y, width, height, start, end):
    """Points of an ellipse; angles in degrees, clockwise from the right."""
    angles = [radians(start + (end - start) * i / 10) for i in range(11)]
    return [(x + width * cos(angle), y + height * sin(angle)) for angle in angles]


STROKES = [  # each digit in a box of one by one, y downwards
    [arc(0.5, 0.5, 0.3, 0.5, -90, 270)],
    [[(0.3, 0.25), (0.52, 0), (0.52, 1)]],
    [[*arc(0.5, 0.27, 0.3, 0.27, 190, 400), (0.2, 1), (0.85, 1)]],
    [arc(0.45, 0.25, 0.28, 0.25, 200, 450) + arc(0.45, 0.74, 0.32, 0.26, -90, 160)],
    [[(0.6, 0), (0.15, 0.65), (0.85, 0.65)], [(0.65, 0.35), (0.65, 1)]],
    [[(0.8, 0), (0.3, 0), (0.25, 0.42), *arc(0.48, 0.68, 0.3, 0.32, -130, 150)]],
    [[(0.65, 0), (0.4, 0.25), (0.25, 0.6), *arc(0.5, 0.74, 0.26, 0.26, 190, 560)]],
    [[(0.15, 0), (0.85, 0), (0.4, 1)]],
    [arc(0.5, 0.25, 0.24, 0.25, 90, 450) + arc(0.5, 0.75, 0.28, 0.25, -90, 270)],
    [[*arc(0.45, 0.27, 0.26, 0.27, 0, -360), (0.7, 0.3), (0.66, 1)]],
]
HANDS = {  # x and y on the pad from x and y in the box
    "upright": lambda x, y: (0.22 + 0.55 * x, 0.1 + 0.8 * y),
    "slanted": lambda x, y: (0.34 + 0.5 * x - 0.18 * y, 0.12 + 0.75 * y),
    "small, in a corner": lambda x, y: (0.05 + 0.22 * x, 0.06 + 0.3 * y),
    "wide": lambda x, y: (0.1 + 0.8 * x, 0.15 + 0.7 * y),
}


def draw(page, strokes, hand):
    """Draw with the mouse; returns the digit that the page says it reads."""
    page.click("#clear")
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        points = [hand(x, y) for x, y in stroke]
        places = [
            (box["x"] + x * box["width"], box["y"] + y * box["height"])
            for x, y in points
        ]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()
    page.evaluate("new Promise(requestAnimationFrame)")
    return int(re.search(r"It reads (\d)", page.inner_text("#said"))[1])


@pytest.mark.browser
def test_drawn_digits_are_read(shown):
    opened = shown(stored_model())
    answers = {
        name: [draw(opened, strokes, hand) for strokes in STROKES]
        for name, hand in HANDS.items()
    }
    for name, digits in answers.items():
        print(f"{name}: 0 to 9 are read as {digits}")
        assert digits[3] == 3
    right = sum(a == k for digits in answers.values() for k, a in enumerate(digits))
    assert right >= 36, answers


@pytest.mark.browser
def test_a_drawing_looks_like_the_training_data(shown):
    opened = shown(stored_model())
    draw(opened, STROKES[3], HANDS["small, in a corner"])
    image = torch.tensor(opened.evaluate("state.image"))
    assert torch.equal(image * 16, (image * 16).round())  # 17 greys
    assert image[0].any()  # it fills the height
    assert image[-1].any()
    assert 0.25 < image.mean() < 0.36  # the ink of the digits is 0.305 on average


# --- Looking, and working without a mouse ---


def tab_to(page, selector):
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.matches({selector!r})"):
            return
    pytest.fail(f"the Tab key does not reach {selector}")


@pytest.mark.browser
def test_all_of_it_can_be_done_by_keyboard(shown):
    opened = shown(stored_model())
    keys = opened.keyboard
    tab_to(opened, "#clear")
    keys.press("Enter")
    assert opened.evaluate("state.image.flat().every(ink => ink === 0)")
    tab_to(opened, "[aria-label='test digit 7']")
    keys.press("Space")
    assert "It reads 7" in opened.inner_text("#said")
    tab_to(opened, "#pixels")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "9"):
        keys.press(key)
    assert opened.evaluate("state.image[1][2]") == 1
    assert opened.inner_text("#at") == "Row 2, column 3: ink 16 of 16"
    keys.press("Space")
    assert opened.evaluate("state.image[1][2]") == 0
    tab_to(opened, "#patches button")
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        keys.press(key)
    assert opened.inner_text(".query >> nth=0") == "the patch in row 2, column 2"
    tab_to(opened, "#drop")
    for key in ("Space", "Shift+Tab", "Shift+Tab", "Enter"):
        keys.press(key)
    assert opened.evaluate("changes.leftOut") == [5]
    assert opened.inner_text(".query >> nth=0") == "the class token"
    keys.press("ArrowLeft")
    tab_to(opened, "#drop")
    keys.press("Space")
    tab_to(opened, "#patches button[tabindex='0']")
    keys.press("Enter")
    tab_to(opened, "#reader")
    assert opened.inner_text(".query >> nth=0") == "the patch in row 2, column 1"
    keys.press("Enter")
    assert opened.inner_text(".query >> nth=0") == "the class token"
    for name in ("shuffle", "positionless", "named"):
        tab_to(opened, f"#{name}")
        keys.press("Enter")
    assert "Without the changes: " in opened.inner_text("#said")
    assert len(opened.evaluate("changes.leftOut")) == 3
    tab_to(opened, "#undo")
    keys.press("Enter")
    assert "Without the changes" not in opened.inner_text("#said")
    tab_to(opened, "summary")
    keys.press("Enter")
    assert "rearrange(self.proj(images)" in opened.inner_text("#code pre >> nth=0")


@pytest.mark.browser
def test_rollout_names_the_three_patches_that_are_left_out(shown):
    model, image = stored_model(), load_data().test.dataset[0][0][None]
    opened = shown(model)
    opened.evaluate("rows => setImage(rows)", image[0, 0].tolist())
    opened.click("#named")
    rollout = attention_rollout(attention_maps(model, image))[0, 0, 1:]
    named = rollout.argsort(descending=True)[:3].tolist()
    assert opened.evaluate("changes.leftOut") == named


@pytest.mark.browser
def test_the_numbers_are_there_as_text(shown):
    model = stored_model()
    opened = shown(model)
    image = torch.tensor(opened.evaluate("state.image"))[None, None]
    opened.click("#patches button >> nth=6")
    opened.click("text=The numbers of the pictures")
    rows = opened.locator("#numbers tr").all_inner_texts()
    block_2_head_3 = attention_maps(model, image)[1][0, 2, 7]
    wanted = [f"{100 * share:.1f} %" for share in block_2_head_3.tolist()]
    assert rows[7].split("\t") == ["block 2, head 3", *wanted]
    assert len(opened.locator("#bars tbody tr").all()) == 10
    for canvas in opened.locator("canvas[role=img]").all():
        assert canvas.get_attribute("aria-label")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 360])
def test_the_page_is_open_to_all(shown, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    opened = shown(
        stored_model(),
        width,
        "../notebooks/",
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    opened.evaluate(
        "for (const it of document.querySelectorAll('details')) it.open = true"
    )
    for press in ("#shuffle", "#positionless", "#named", "#patches button >> nth=3"):
        opened.click(press)
    found = Axe().run(opened).response["violations"]
    assert found == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    before = opened.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor"
    )
    opened.click("#theme")
    after = opened.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor"
    )
    assert before != after
    if folder := os.environ.get("SCREENSHOTS"):
        opened.click("#theme")
        opened.reload()
        name = f"explorer_{scheme}_{width}.png"
        opened.screenshot(path=Path(folder) / name, full_page=True)


@pytest.mark.browser
def test_without_javascript_one_digit_is_shown(shown):
    opened = shown(stored_model(), java_script_enabled=False)
    assert "block" in opened.get_attribute("noscript img", "alt")
    assert re.search(r"3\s+\d\d\.\d%", opened.inner_text("noscript table"))
