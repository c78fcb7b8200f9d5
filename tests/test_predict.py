"""The command `course-vit predict`: what it says of good images and of bad ones."""

import json
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from functools import cache, partial

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images
from timm.data import create_transform
from torchvision.models import ViT_B_16_Weights
from weights import answer, drawn, with_weights

from course_vit import DistilledVisionTransformer, VisionTransformer, create_model
from course_vit.kit import predict as kit_predict
from course_vit.kit.cli import main
from course_vit.kit.weights import load_set
from course_vit.looking_inside import attention_rollout

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
MODELS = {
    "vit_tiny_patch16_224": HALF,
    "deit_tiny_distilled_patch16_224": IMAGENET,
    "t2t_vit_7": IMAGENET,
}
TINY = "vit_tiny_patch16_224"
NAMES = ViT_B_16_Weights.DEFAULT.meta["categories"]
NOISE = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory):
    """A file of drawn weights for a model with a number of classes."""
    folder = tmp_path_factory.mktemp("weights")

    @cache
    def weights_of(name, num_classes=1000):
        path = folder / f"{name}_{num_classes}.safetensors"
        build = partial(create_model, name, num_classes=num_classes)
        save_file(drawn(build, torch.float32), path)
        return path

    return weights_of


@pytest.fixture
def photos(tmp_path):
    """A folder with two photographs, 640 x 427 pixels each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, pixels in zip("ab", load_sample_images().images, strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def run(weights_of, capsys):
    """Run the command: exit code, rows under each path, lines of complaint."""

    def run(*arguments, model=TINY, weights=None):
        options = ("--model", model, "--weights", weights or weights_of(model))
        code = main(["predict", *map(str, [*arguments, *options])])
        said = capsys.readouterr()
        return code, read_tables(said.out), said.err.splitlines()

    return run


def read_tables(text):
    """The rows (probability in percent, number, name) under each path."""
    found = {}
    for line in text.splitlines():
        head, _, path = line.partition("probability  class  ")
        if path:
            rows = found[path] = []
            continue
        share, number, *name = re.split(r"%? {2,}", head.strip(), maxsplit=2)
        rows.append((float(share), int(number), *name))
    return found


# Good images


@pytest.mark.parametrize("name", MODELS)
def test_the_table_is_what_timm_makes_of_the_image(run, weights_of, photos, name):
    """By its transform, and by its model where it has one."""
    code, found, complaints = run(photos / "b.png", photos / "a.png", model=name)
    assert (code, complaints) == (0, [])
    assert list(found) == [f"{photos / 'b.png'}", f"{photos / 'a.png'}"]
    options = {"interpolation": "bicubic", "crop_pct": 0.9, **MODELS[name]}
    transform = create_transform(224, **options)
    peer = timm.create_model if timm.is_model(name) else create_model
    model = with_weights(partial(peer, name), load_file(weights_of(name)))
    for path, rows in found.items():
        images = transform(Image.open(path))[None]
        shares, numbers = answer(model, images)[0].softmax(dim=0).topk(5)
        assert [number for _, number, _ in rows] == numbers.tolist()
        assert [text for *_, text in rows] == [NAMES[number] for number in numbers]
        assert [share for share, *_ in rows] == [
            pytest.approx(100 * share, abs=0.06) for share in shares.tolist()
        ]


def test_a_folder_stands_for_the_images_in_it(run, photos):
    (photos / "a.png").rename(photos / "C.JPG")  # what is inside counts
    (photos / "notes.txt").write_text("not an image")
    (photos / "._b.png").write_bytes(b"what a Mac leaves on a memory stick")
    code, found, complaints = run(photos, "--top", 1)
    assert (code, complaints) == (0, [])
    assert list(found) == [f"{photos / 'C.JPG'}", f"{photos / 'b.png'}"]
    assert [len(rows) for rows in found.values()] == [1, 1]


@pytest.mark.parametrize("form", ["L", "1", "P", "CMYK", "RGBA", "turned", "animated"])
def test_every_kind_of_ordinary_image_is_seen_as_what_it_shows(tmp_path, form):
    pixels = Image.fromarray(load_sample_images().images[0]).resize((90, 60))
    path, options, expected = tmp_path / "image.tif", {}, pixels
    if form == "turned":  # as phones do: stored lying, with a note
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
        path, pixels = tmp_path / "image.png", pixels.transpose(Image.ROTATE_90)
    elif form == "animated":
        path, expected = tmp_path / "image.gif", pixels.convert("P").convert("RGB")
        options = {"save_all": True, "append_images": [Image.new("RGB", (90, 60))]}
        pixels = pixels.convert("P")
    else:
        pixels = pixels.convert(form)
        expected = pixels.convert("RGB")
    pixels.save(path, **options)
    seen = kit_predict.open_image(path)
    assert seen.mode == "RGB"
    assert np.array_equal(np.asarray(seen), np.asarray(expected))


def test_other_classes_than_imagenets_have_numbers_only(run, weights_of, photos):
    code, found, _ = run(photos / "a.png", "--top", 9, weights=weights_of(TINY, 7))
    (rows,) = found.values()
    assert code == 0
    assert sorted(number for _, number in rows) == [0, 1, 2, 3, 4, 5, 6]
    assert sum(share for share, _ in rows) == pytest.approx(100, abs=0.5)


# Where it looked


@pytest.mark.parametrize("kind", [VisionTransformer, DistilledVisionTransformer])
def test_the_overlay_is_yellow_where_the_model_looks(monkeypatch, kind):
    """A made map: the tokens that are read look at one patch of 2 x 3, all else not."""
    sizes = {"img_size": (16, 24), "patch_size": 8, "embed_dim": 12, "num_heads": 3}
    model = kind(depth=1, **sizes)
    first, n = model.num_prefix_tokens, model.num_prefix_tokens + 6
    white = Image.new("RGB", (24, 16), "white")
    for patch in range(6):
        maps = torch.zeros(1, 3, n, n)
        maps[:, :, :first, first + patch] = 1
        maps[:, :, first:, first + (patch + 1) % 6] = 1
        monkeypatch.setattr(kit_predict, "attention_maps", lambda *_, maps=maps: [maps])
        drawn = kit_predict.attention_overlay(model, torch.zeros(1, 3, 16, 24), white)
        assert drawn.size == (48, 16)
        pixels = np.asarray(drawn).astype(int)
        assert (pixels[:, :24] == 255).all()
        green = pixels[4::8, 28::8, 1].flatten()  # viridis: little of it is blue
        assert green.argmax() == patch
        assert np.ptp(np.delete(green, patch)) < 0.5 * np.ptp(green)


def test_an_overlay_for_every_image_beside_what_was_shown(run, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (photos / "b.png").rename(other / "a.png")
    drawn = tmp_path / "new" / "drawn"
    code, found, _ = run(photos, other, "--overlay", drawn)
    assert (code, len(found)) == (0, 2)
    names = ["a_attention.png", "a_attention_2.png"]
    assert sorted(path.name for path in drawn.iterdir()) == names
    transform = create_transform(
        224, interpolation="bicubic", crop_pct=0.9, std=(1,) * 3
    )
    for name, folder in zip(names, [photos, other], strict=True):
        picture = Image.open(drawn / name)
        assert picture.size == (448, 224)
        shown = np.asarray(picture.crop((0, 0, 224, 224)))
        expected = transform(Image.open(folder / "a.png"))
        expected = 255 * (expected + torch.tensor(IMAGENET["mean"])[:, None, None])
        assert np.abs(shown - expected.permute(1, 2, 0).numpy()).max() < 1


def test_without_a_class_token_the_overlay_is_the_mean_of_all_rows(monkeypatch):
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "num_heads": 3}
    model = VisionTransformer(pool="mean", depth=2, **sizes)
    maps = [torch.randn(1, 3, 4, 4).mul(9).softmax(dim=-1) for _ in range(2)]
    monkeypatch.setattr(kit_predict, "attention_maps", lambda *_: maps)
    black = Image.new("RGB", (16, 16))
    drawn = kit_predict.attention_overlay(model, torch.zeros(1, 3, 16, 16), black)
    greens = np.asarray(drawn)[4::8, 20::8, 1].flatten()
    mean = attention_rollout(maps)[0].mean(dim=0)
    assert (np.argsort(greens) == mean.argsort().numpy()).all()
    assert len(set(greens.tolist())) == 4


def test_the_drawings_of_an_earlier_run_are_no_images(run, photos):
    for _ in range(2):
        code, found, complaints = run(photos, "--overlay", photos / "drawn")
        assert (code, len(found), complaints) == (0, 2, [])
    assert len([*(photos / "drawn").iterdir()]) == 2


def test_names_of_drawings_are_cut_by_bytes(run, photos, tmp_path):
    (photos / "a.png").rename(photos / f"{82 * '圖'}.png")
    (photos / "b.png").rename(photos / f"{83 * '圖'}.png")
    code, found, complaints = run(photos, "--overlay", tmp_path / "drawn")
    assert (code, len(found), complaints) == (0, 2, [])
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == [f"{40 * '圖'}_attention.png", f"{40 * '圖'}_attention_2.png"]


def test_a_drawing_that_cannot_be_written_is_a_line(run, photos, tmp_path):
    (tmp_path / "drawn" / "a_attention.png").mkdir(parents=True)
    code, found, complaints = run(photos, "--overlay", tmp_path / "drawn")
    assert (code, len(found), len(complaints)) == (1, 2, 1)
    assert re.match(r".*a\.png: its drawing .* cannot be written", complaints[0])
    assert (tmp_path / "drawn" / "b_attention.png").exists()


@pytest.mark.parametrize("what", ["file", "loop"])
def test_a_folder_that_cannot_be_made_is_named(run, photos, tmp_path, what):
    place = tmp_path / what
    place.symlink_to(place) if what == "loop" else place.touch()
    code, found, complaints = run(photos, "--overlay", place)
    assert (code, found, len(complaints)) == (1, {}, 1)
    assert complaints[0].startswith(f"the folder {place} cannot be made")


# Names of classes

CLASSES = ["un", "deux", "trois"]
FILES = {
    "lines.txt": "un\ndeux\ntrois\n",
    "bom.txt": "\ufeffun\r\ndeux\r\ntrois",
    "list.json": json.dumps(CLASSES),
    "numbers.json": json.dumps({"2": "trois", "0": "un", "1": "deux"}),
    "imagenet.json": json.dumps({i: [f"n{i}", CLASSES[i]] for i in range(3)}),
    "config.json": json.dumps({"id2label": dict(enumerate(CLASSES)), "x": 1}),
    "timm.json": json.dumps({"label_names": CLASSES}),
}


@pytest.mark.parametrize("name", FILES)
def test_classes_have_the_names_of_a_file(run, weights_of, photos, tmp_path, name):
    (tmp_path / name).write_text(FILES[name], "utf-8")
    weights = weights_of(TINY, 3)
    code, found, _ = run(photos / "a.png", "--names", tmp_path / name, weights=weights)
    (rows,) = found.values()
    assert code == 0
    assert {number: text for _, number, text in rows} == dict(enumerate(CLASSES))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("two.txt", "un\ndeux", "two.txt has 2 names for 3 classes"),
        ("bad.json", "{", "bad.json does not have the names of classes"),
        ("gap.json", '{"0": "un", "2": "trois"}', "gap.json does not have the names"),
        ("none.json", "3", "none.json does not have the names of classes"),
        ("binary.txt", None, "binary.txt does not have the names of classes"),
        ("missing/file.txt", "", "file.txt cannot be read: No such file"),
    ],
)
def test_a_file_without_these_names_is_refused(
    run, weights_of, photos, tmp_path, name, content, message
):
    if content is None:
        (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    elif content:
        (tmp_path / name).write_text(content)
    file = tmp_path / name
    code, found, complaints = run(photos, "--names", file, weights=weights_of(TINY, 3))
    assert (code, found, len(complaints)) == (1, {}, 1)
    assert message in complaints[0]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (json.dumps({"id2label": dict(enumerate(CLASSES))}), CLASSES),
        (json.dumps({"label_names": CLASSES}), CLASSES),
        (json.dumps({"id2label": {"0": "un"}}), ["", "", ""]),
        (json.dumps({"architecture": TINY}), ["", "", ""]),
        ("{", ["", "", ""]),
    ],
)
def test_classes_have_the_names_beside_the_weights(
    weights_of, tmp_path, content, names
):
    path = tmp_path / "model.safetensors"
    path.write_bytes(weights_of(TINY, 3).read_bytes())
    (tmp_path / "config.json").write_text(content)
    for place in (path, tmp_path):
        how = load_set(TINY, place).how
        assert kit_predict.class_names(how) == names
    (tmp_path / "names.txt").write_text("one\ntwo\nthree")
    found = kit_predict.class_names(how, tmp_path / "names.txt")
    assert found == ["one", "two", "three"]


# Bad images


def huge(path):
    """More than 89 million pixels in a file of 12 kB."""
    Image.new("1", (10_000, 10_000)).save(path)


def a_bomb(path):
    """It claims 65,535 x 65,535 pixels and holds none of them."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 65_535, 65_535, 8, 2, 0, 0, 0)
    Image.new("RGB", (1, 1)).save(path)
    whole = path.read_bytes()
    checksum = struct.pack(">I", zlib.crc32(header))
    path.write_bytes(whole[:12] + header + checksum + whole[33:])


def cut_off(path):
    Image.fromarray(NOISE.integers(256, size=(99, 99, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5000])


def deep(path):
    Image.fromarray(NOISE.integers(65_536, size=(9, 9), dtype=np.uint16)).save(path)


BAD = {
    "missing": (lambda path: None, "there is no such file"),
    "empty": (
        lambda path: path.touch(),
        "this is not an image in one of the formats BMP, GIF, JPEG, PNG, PPM",
    ),
    "text": (
        lambda path: path.write_text("a cat"),
        "this is not an image in one of the formats BMP, GIF, JPEG",
    ),
    "postscript": (
        lambda path: Image.new("RGB", (9, 9)).save(path, "EPS"),
        "this is not an image in one of the formats BMP, GIF, JPEG, PNG, PPM, TIFF,",
    ),
    "cut off": (cut_off, r"the file is damaged or locked \(.+\)"),
    "huge": (huge, "the image has over 89,478,485 pixels: make it smaller"),
    "bomb": (a_bomb, "the image has over 89,478,485 pixels: make it smaller"),
    "thin": (
        lambda path: Image.new("L", (80_000, 3)).save(path),
        "the image is too thin, 80000 x 3 pixels: crop it to what matters",
    ),
    "deep": (deep, "expected 8 bits per channel, got Pillow's mode I;16: convert it"),
    "no images": (lambda path: path.mkdir(), "there is no image in this folder"),
}


def test_bad_images_are_a_line_each_and_the_others_go_on(run, photos, tmp_path):
    paths = {what: tmp_path / f"{what}.png" for what in BAD}
    for what, path in paths.items():
        BAD[what][0](path)
    code, found, complaints = run(*paths.values(), photos)
    assert code == 1
    assert list(found) == [f"{photos / 'a.png'}", f"{photos / 'b.png'}"]
    assert len(complaints) == len(BAD)
    for what, path in paths.items():
        message = f"{re.escape(str(path))}: {BAD[what][1]}.*"
        assert [line for line in complaints if re.fullmatch(message, line)], what


def test_what_may_not_be_read_is_a_line_and_the_others_go_on(run, photos, monkeypatch):
    locked, stat = photos.parent / "locked" / "cat.png", kit_predict.Path.stat

    def guarded(path, **options):
        if path == locked:
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(kit_predict.Path, "stat", guarded)
    code, found, complaints = run(locked, photos / "a.png")
    assert (code, list(found)) == (1, [f"{photos / 'a.png'}"])
    assert complaints == [f"{locked}: cannot be read: Permission denied"]


def test_what_is_no_file_in_a_folder_is_a_line_each(run, photos):
    (photos / "folder.png").mkdir()
    (photos / "broken.png").symlink_to("nowhere.png")
    (photos / "loop.png").symlink_to("loop.png")
    (photos / "round").symlink_to(photos)
    os.mkfifo(photos / "pipe.png")  # it would never come to an end
    code, found, complaints = run(photos, "--top", 1)
    assert (code, len(found)) == (1, 2)
    assert sorted(complaints) == [
        f"{photos / 'broken.png'}: this link leads nowhere",
        f"{photos / 'loop.png'}: cannot be read: Too many levels of symbolic links",
        f"{photos / 'pipe.png'}: this is not an ordinary file",
        f"{photos / 'round'}: a folder that is a link or is locked is not searched: "
        "give its own path",
    ]


def test_a_folder_of_classes_a_pattern_and_the_home_folder(run, photos, monkeypatch):
    val = photos.parent / "val"
    for name in "ab":
        (val / name / ".hidden").mkdir(parents=True)
        (photos / f"{name}.png").rename(val / name / "1.png")
        (val / name / ".hidden" / "no.png").write_text("no image")
    both = [f"{val / 'a' / '1.png'}", f"{val / 'b' / '1.png'}"]
    monkeypatch.setenv("HOME", str(val))
    for place in (val, val / "*" / "1.p?g", "~"):
        code, found, complaints = run(place, "--top", 1)
        assert (code, list(found), complaints) == (0, both, [])
    for name in ["[a].png", "*.png"]:  # a name is not a pattern where there is a file
        (val / "a" / "1.png").rename(val / "a" / name)
        assert list(run(val / "a" / name)[1]) == [f"{val / 'a' / name}"]
        (val / "a" / name).rename(val / "a" / "1.png")
    code, found, complaints = run(val / "*.jpg")
    assert (code, complaints) == (1, [f"{val / '*.jpg'}: there is no such file"])


def test_any_name_of_a_file_can_be_printed(photos, weights_of, tmp_path):
    (photos / "a.png").rename(photos / "фото.png")
    command = [sys.executable, "-m", "course_vit", "predict", str(photos)]
    options = ["--model", TINY, "--weights", str(weights_of(TINY))]
    paths = os.pathsep.join(sys.path)
    ours = {"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": paths}
    done = subprocess.run(
        [*command, *options], env=os.environ | ours, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u0444\\u043e\\u0442\\u043e.png" in done.stdout


def test_a_palette_with_transparency_is_no_news(run, photos):
    picture = Image.open(photos / "a.png").convert("P")
    picture.save(photos / "a.png", transparency=bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, found, complaints = run(photos / "a.png")
    assert (code, len(found), complaints) == (0, 1, [])


def test_nothing_is_drawn_among_the_images(run, photos):
    before = sorted(photos.iterdir())
    code, found, complaints = run(photos / "a.png", "--overlay", photos)
    assert (code, found) == (1, {})
    (said,) = complaints
    assert said == (
        f"your images are in {photos}: choose a different folder for the drawings"
    )
    assert sorted(photos.iterdir()) == before


def test_without_an_image_no_weights_are_looked_for(capsys, tmp_path):
    """Nothing is fetched for a slip of the pen."""
    text, missing = tmp_path / "text.png", tmp_path / "cat.png"
    text.write_text("a cat")
    assert main(["predict", str(missing), str(text), "--model", TINY]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2


# What concerns all images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model", "deit_tini"],
            "there is no model 'deit_tini'.*one of .*deit_tiny_",
        ),
        (["--model", "vit_huge_patch32_224"], ".*no.* weights for vit_huge_patch32.*"),
        (
            ["--device", "abacus"],
            "there is no device 'abacus' on this computer: use cpu",
        ),
        (["--device", "meta"], "there is no device 'meta' on this computer: use cpu"),
        (["--weights", "missing.pth"], ".*missing.pth.*"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(capsys, photos, options, message):
    assert main(["predict", str(photos), "--model", TINY, *options]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert re.match(message, line)


def test_weights_for_another_model_or_without_a_head_are_refused(
    run, weights_of, photos
):
    code, found, complaints = run(photos, weights=weights_of("t2t_vit_7"))
    assert (code, found, len(complaints)) == (1, {}, 1)
    code, found, complaints = run(photos, weights=weights_of(TINY, 0))
    assert (code, found, len(complaints)) == (1, {}, 1)
    assert "has no head" in complaints[0]


def test_weights_with_nan_are_refused_by_name(run, weights_of, photos, tmp_path):
    state, path = load_file(weights_of(TINY)), tmp_path / "broken.safetensors"
    state["head.bias"][7] = float("nan")
    save_file(state, path)
    code, found, complaints = run(photos, weights=path)
    assert (code, found, len(complaints)) == (1, {}, 1)
    assert "not finite: head.bias;" in complaints[0]


def test_one_of_several_models_is_chosen_or_the_choice_is_a_line(
    run, weights_of, photos, tmp_path
):
    path, mine = tmp_path / "run.pth", load_file(weights_of(TINY, 3))
    zeros = {key: torch.zeros_like(tensor) for key, tensor in mine.items()}
    torch.save({"model": mine, "model_ema": zeros}, path)
    right = run(photos / "a.png", weights=weights_of(TINY, 3))
    assert run(photos / "a.png", "--entry", "model", weights=path) == right
    code, found, complaints = run(photos / "a.png", weights=path)
    assert (code, len(complaints)) == (0, 1)
    assert complaints[0].startswith(f"{path} holds several models, ['model_ema', ")
    assert {share for rows in found.values() for share, _ in rows} == {33.3}
    code, found, complaints = run(photos, "--entry", "other", weights=path)
    assert (code, found, len(complaints)) == (1, {}, 1)
    assert complaints[0].startswith(f"{path} has no model at 'other'")


@pytest.mark.parametrize("number", ["0", "-1", "five", "1.5"])
def test_how_many_must_be_a_number_from_1_up(capsys, number):
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "cat.png", "--model", TINY, f"--top={number}"])
    message = f"must be a positive integer, got '{number}'"
    assert message in capsys.readouterr().err


def test_an_empty_path_is_not_this_folder(capsys):
    for arguments in (["predict", ""], ["predict", "cat.png", "--overlay", ""]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert "must be a path, got an empty string" in capsys.readouterr().err


def test_a_package_that_is_missing_is_named(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "course_vit.kit.predict")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["predict", "cat.png", "--model", TINY]) == 1
    message = "course-vit predict needs matplotlib: pip install 'course_vit[course]'"
    assert capsys.readouterr().err.startswith(message)
