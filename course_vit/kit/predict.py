"""Name what is in photographs: the command `course-vit predict`."""

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import torch
from matplotlib import colormaps
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ViT_B_16_Weights
from torchvision.transforms import functional as pictures
from tqdm import tqdm

from ..looking_inside import attention_maps, attention_rollout
from . import CourseError
from .models import create_model
from .weights import WeightSet, load_set

# No EPS among them, nor anything else for which Pillow starts another program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class PredictError(CourseError):
    """Says why an image or a model cannot be used, and what to do."""


class ImageError(PredictError):
    """Says why a single image cannot be used; the other images are not affected."""


def predict(
    places: Sequence[Path],
    name: str,
    weights: str | None = None,
    top: int = 5,
    overlay: Path | None = None,
    device: str = "cpu",
    names: Path | None = None,
    entry: str = "",
) -> bool:
    """Print the likeliest classes of each image; returns False if one was not read.

    places: files, folders and patterns (`find_images`).
    name, weights, device, entry: the arguments of `load`.
    top: how many classes to print for each image.
    overlay: a folder for drawings of each image and of where the model looked.
    names: a file with the names of the classes (`read_names`).

    If an image cannot be read or drawn, one line on stderr says why, and the other
    images are still read. A UserWarning about the weights becomes a line there, too.
    Nothing is fetched before one image has been read. Raises CourseError if a problem
    affects all images.
    """
    paths, failures = find_images(places, overlay)
    for failure in failures:
        print(failure, file=sys.stderr)
    if overlay and paths:
        make_folder(overlay, paths)
    model, drawn = None, set[Path]()
    for path in tqdm(paths, leave=False, disable=None if len(paths) > 1 else True):
        try:
            image = open_image(path)
            if model is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("always", UserWarning)
                    warnings.showwarning = print_warning
                    model, how = load(name, weights, device=device, entry=entry)
                classes = class_names(how, names)
            picture = view(image, how)
            images = as_images(picture, how).to(device)
            tqdm.write(table(path, likeliest(model, images, classes, top)))
            if overlay:
                drawn.add(place := free_place(overlay, path.stem, drawn))
                save(attention_overlay(model, images, picture), place)
        except ImageError as error:
            failures.append(f"{path}: {error}")
            tqdm.write(failures[-1], file=sys.stderr)
    return not failures


def print_warning(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning as a line on stderr, without the place in the code."""
    tqdm.write(str(message), file=sys.stderr)


# --- Finding and reading images ---


def find_images(
    places: Sequence[Path], overlay: Path | None = None
) -> tuple[list[Path], list[str]]:
    """Find the images at these places; the second list says which folders have none.

    A place is a file, a folder (all images in it and in the folders inside), or a
    pattern such as `*.png`, since not every shell replaces a pattern by the names.
    Drawings of an earlier run, in `overlay`, are left out.
    """
    paths: list[Path] = []
    failures = []
    for place in places:
        matching = [] if os.path.lexists(place) else glob(str(place), recursive=True)
        for path in map(Path, sorted(matching) or [str(place)]):
            found = [*images_in(path, overlay)] if os.path.isdir(path) else [path]
            if not found:
                failures.append(f"{path}: there is no image in this folder")
            paths += found
    return paths, failures


def images_in(folder: Path, overlay: Path | None) -> Iterator[Path]:
    """Yield the images in a folder and in those inside, but no hidden ones.

    Also yields each folder that is not searched, because it is locked or is a link,
    which might lead back; `open_image` will then report it.
    """
    known = Image.registered_extensions()
    suffixes = {suffix for suffix, kind in known.items() if kind in FORMATS}
    locked: list[OSError] = []
    for where, folders, files in os.walk(folder, onerror=locked.append):
        inside = [Path(where, name) for name in sorted(folders) if name[0] != "."]
        inside = [path for path in inside if not (overlay and is_same(path, overlay))]
        folders[:] = [path.name for path in inside]
        yield from (path for path in inside if path.is_symlink())
        for path in (Path(where, name) for name in sorted(files) if name[0] != "."):
            if path.suffix.lower() in suffixes:
                yield path
    yield from (Path(error.filename) for error in locked)


def is_same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one place, which need not exist."""
    return os.path.realpath(path) == os.path.realpath(other)


def open_image(path: Path) -> Image.Image:
    """Read an image in RGB, the right way up; of an animation, the first picture.

    Raises ImageError if the file is not an image or is damaged, or if it has more
    pixels than Pillow's limit of 89 million, since a small file could fill the memory.
    """
    if not os.path.isfile(path):
        raise ImageError(what_else(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow also warns of harmless things
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
            with image:
                if image.mode[0] not in "IF":  # Pillow would cut these off at 255
                    return ImageOps.exif_transpose(image).convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(
            f"the image has over {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"this is not an image in one of the formats {', '.join(FORMATS)}"
        ) from error
    except Exception as error:  # a decoder may raise anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"the file is damaged or locked ({reason})") from error
    raise ImageError(
        f"expected 8 bits per channel, got Pillow's mode {image.mode}: convert it"
    )


def what_else(path: Path) -> str:
    """Say what a path is that is not a file."""
    if os.path.isdir(path):
        return "a folder that is a link or is locked is not searched: give its own path"
    try:
        path.stat()
    except FileNotFoundError:
        return (
            "this link leads nowhere" if path.is_symlink() else "there is no such file"
        )
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "this is not an ordinary file"


def view(image: Any, how: WeightSet) -> Any:
    """Show an image as the model will see it: resized, with the middle cut out.

    The image is one of Pillow or a tensor `c h w`, and so is the result.

    As in timm's evaluation, the square in the middle covers the share `how.crop` of the
    shorter side. Raises ImageError if the image is so thin that resizing would make it
    huge.
    """
    side = math.floor(how.img_size / how.crop)
    width, height = pictures.get_image_size(image)
    if side**2 * max(width, height) > 50_000_000 * min(width, height):
        raise ImageError(
            f"the image is too thin, {width} x {height} pixels: crop it to what matters"
        )
    mode = pictures.InterpolationMode(how.interpolation)
    return pictures.center_crop(pictures.resize(image, [side], mode), [how.img_size])


def as_images(picture: Image.Image, how: WeightSet) -> Tensor:
    """Make a batch of one, `1 3 h w`, normalised by the mean and std of training."""
    return pictures.normalize(pictures.to_tensor(picture), how.mean, how.std)[None]


# --- The model and its classes ---


def load(
    name: str, weights: str | None = None, device: str = "cpu", entry: str = ""
) -> tuple[nn.Module, WeightSet]:
    """Load a model in eval mode; returns also how its images are prepared.

    name: one of `list_models()`.
    weights: a file, or the name of a set; None = the published ones.
    device: where the model runs.
    entry: which of several models in a file to load (`kit.weights.read_weights`).

    The model has as many classes as the weights. Raises PredictError if there is no
    such name or device, or if the weights do not fit or have no head.
    """
    try:
        torch.ones(1, device=device).item()
    except (AssertionError, RuntimeError) as error:
        raise PredictError(
            f"there is no device {device!r} on this computer: use cpu"
        ) from error
    try:
        loaded = load_set(name, True if weights is None else weights, entry=entry)
        if not loaded.how.classes:
            raise PredictError(
                f"{loaded.how.source} has no head, so it cannot name classes: use a"
                " file that has one"
            )
        model = create_model(name, loaded, num_classes=loaded.how.classes)
    except ValueError as error:
        raise PredictError(str(error)) from error
    return model.eval().to(device), loaded.how


def class_names(how: WeightSet, file: Path | None = None) -> list[str]:
    """Return the name of each class, from a file or else from what is known.

    Without a file, the names are those in a `config.json` beside the weights or, for a
    thousand classes, ImageNet's; otherwise each name is "". Raises PredictError if the
    file has a different number of names.
    """
    if file is None:
        imagenet = ViT_B_16_Weights.DEFAULT.meta["categories"]
        known = (names_beside(how), imagenet, [""] * how.classes)
        return next(names for names in known if len(names) == how.classes)
    names = read_names(file)
    if len(names) != how.classes:
        raise PredictError(
            f"{file} has {len(names)} names for {how.classes} classes: give a name for"
            " each class of the weights, in their order"
        )
    return names


def names_beside(how: WeightSet) -> list[str]:
    """Return the names in a `config.json` beside a file of weights, or [] if none."""
    source = Path(how.source)  # absolute if it is a path
    file = (source if source.is_dir() else source.parent) / "config.json"
    try:
        return read_names(file) if source.is_absolute() else []
    except PredictError:
        return []


def read_names(file: Path) -> list[str]:
    """Read the names of classes, in the order of their numbers.

    The file has a name in each line, or it is JSON: a list of names, names by their
    numbers, or a `config.json` of transformers or timm that contains such names. Raises
    PredictError if the file is anything else.
    """
    try:
        text = file.read_text("utf-8-sig")
        if file.suffix != ".json":
            return text.strip().splitlines()
        names = json.loads(text)
        if isinstance(names, dict):
            names = names.get("id2label") or names.get("label_names") or names
        if isinstance(names, dict):
            names = [names[str(number)] for number in range(len(names))]
        return [name if isinstance(name, str) else name[-1] for name in names]
    except OSError as error:
        raise PredictError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise PredictError(
            f"{file} does not have the names of classes: write one in each line, or a"
            " JSON list of them"
        ) from error


@torch.inference_mode()
def likeliest(
    model: nn.Module, images: Tensor, names: Sequence[str], top: int = 5
) -> list[tuple[float, int, str]]:
    """Find the most probable classes of one image `1 3 h w`: probability, number, name.

    `names` has the name of each class.
    """
    shares = model(images)[0].float().softmax(dim=0)
    found = shares.topk(min(top, len(shares)))
    rows = zip(found.values.tolist(), found.indices.tolist(), strict=True)
    return [(share, number, names[number]) for share, number in rows]


def table(path: Path, rows: Sequence[tuple[float, int, str]]) -> str:
    """Write probability, number and name of the classes under the path of an image."""
    lines = [f"{share:11.1%}  {number:5}  {name}" for share, number, name in rows]
    return "\n".join(line.rstrip() for line in [f"probability  class  {path}", *lines])


# --- The drawings ---


def make_folder(overlay: Path, paths: Sequence[Path]) -> None:
    """Make the folder of the drawings. Raises PredictError if it cannot be used."""
    if any(is_same(path.parent, overlay) for path in paths):
        raise PredictError(
            f"your images are in {overlay}: choose a different folder for the drawings"
        )
    try:
        overlay.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PredictError(
            f"the folder {overlay} cannot be made ({error.strerror}): choose a"
            " different one for the drawings"
        ) from error


def free_place(folder: Path, stem: str, taken: set[Path]) -> Path:
    """Choose a file name that no other drawing of this run has.

    The name is cut, because most systems limit it to 255 bytes.
    """
    stem = os.fsencode(stem)[:120].decode(errors="ignore")
    place, number = folder / f"{stem}_attention.png", 2
    while place in taken:
        place, number = folder / f"{stem}_attention_{number}.png", number + 1
    return place


def save(drawing: Image.Image, place: Path) -> None:
    """Write a drawing whole or not at all. Raises ImageError if that is impossible."""
    partial = place.with_suffix(".partial")
    try:
        drawing.save(partial, "PNG")
        partial.replace(place)
    except OSError as error:
        raise ImageError(
            f"its drawing {place} cannot be written ({error.strerror}): make room, or"
            " choose a different folder"
        ) from error


def attention_overlay(
    model: nn.Module, images: Tensor, picture: Image.Image
) -> Image.Image:
    """Draw what the model is shown, and beside it where it looked, in blue and yellow.

    The colours show the rollout of lesson 8 from the tokens that the head reads to the
    patches (for T2T-ViT, in its backbone), for one image `1 3 h w` and its `picture`.
    Blue is 0, and yellow is the most that any patch gets.
    """
    prefix = model.num_prefix_tokens
    rollout = attention_rollout(attention_maps(model, images))[0].float()
    read = rollout[:prefix] if prefix else rollout  # without a class token, all
    heat = read.mean(dim=0)[prefix:].unflatten(0, model.grid_size)
    heat = heat[None, None] / heat.max()
    heat = F.interpolate(heat, size=picture.size[::-1], mode="bilinear")
    colors = colormaps["viridis"](heat[0, 0].cpu().numpy(), bytes=True)[..., :3]
    both = Image.new("RGB", (2 * picture.width, picture.height))
    both.paste(picture)
    both.paste(Image.blend(picture, Image.fromarray(colors), 0.6), (picture.width, 0))
    return both
