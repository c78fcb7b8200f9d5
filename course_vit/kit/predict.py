"""Name what is in photographs: the command `course-vit predict`."""

import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

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
    """An image or a model that cannot be used: why, and what to do."""


def predict(
    places: Sequence[Path],
    name: str,
    weights: str | None = None,
    top: int = 5,
    overlay: Path | None = None,
    device: str = "cpu",
) -> bool:
    """Print the likeliest classes of each image; returns False if one was not read.

    places: images, and folders of images.
    name, weights, device: the arguments of `load`.
    top: how many classes to print for each image.
    overlay: a folder in which each image is drawn, with where the model looked.

    An image that cannot be read gives one line on stderr, and the other images are
    still read. Raises CourseError for a problem that concerns all of them.
    """
    paths, failures = find_images(places)
    for failure in failures:
        print(failure, file=sys.stderr)
    if not paths:
        return False
    if overlay:
        if overlay.resolve() in {path.resolve().parent for path in paths}:
            raise PredictError(
                f"your images are in {overlay}: choose another folder for the drawings"
            )
        overlay.mkdir(parents=True, exist_ok=True)
    model, how = load(name, weights=weights, device=device)
    drawn: set[Path] = set()
    for path in tqdm(paths, leave=False, disable=None if len(paths) > 1 else True):
        try:
            picture = view(open_image(path), how)
        except PredictError as error:
            failures.append(f"{path}: {error}")
            tqdm.write(failures[-1], file=sys.stderr)
            continue
        images = as_images(picture, how).to(device)
        tqdm.write(table(path, likeliest(model, images, top)))
        if overlay:
            drawn.add(place := free_place(overlay, path.stem[:99], drawn))
            attention_overlay(model, images, picture).save(place)
    return not failures


def find_images(places: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Find files and the images in folders; the second list names what has none."""
    known = Image.registered_extensions()
    suffixes = {suffix for suffix, kind in known.items() if kind in FORMATS}
    paths, failures = [], []
    for place in places:
        try:
            found, what = [place] if place.is_file() else [], "there is no such file"
            if place.is_dir():
                files = (path for path in sorted(place.iterdir()) if path.is_file())
                found = [path for path in files if path.suffix.lower() in suffixes]
                found = [path for path in found if path.name[0] != "."]
                what = "there is no image in this folder"
        except OSError as error:
            found, what = [], f"cannot be read: {error.strerror}"
        paths += found
        if not found:
            failures.append(f"{place}: {what}")
    return paths, failures


def open_image(path: Path) -> Image.Image:
    """Read an image in RGB, the right way up; of an animation, the first picture.

    Raises PredictError for a file that is no image, is damaged, or has more pixels than
    Pillow's limit of 89 million, since a small file could fill the memory.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow also warns of harmless things
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
            with image:
                if image.mode[0] not in "IF":  # Pillow would cut these off at 255
                    return ImageOps.exif_transpose(image).convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PredictError(
            f"the image has over {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise PredictError(
            f"this is not an image in one of the formats {', '.join(FORMATS)}"
        ) from error
    except Exception as error:  # a decoder may raise anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PredictError(f"the file is damaged or locked ({reason})") from error
    raise PredictError(
        f"expected 8 bits per channel, got Pillow's mode {image.mode}: convert it"
    )


def view(image: Image.Image, how: WeightSet) -> Image.Image:
    """Show an image as the model will see it: resized, and the middle cut out.

    As in timm's evaluation, the square in the middle is the share `how.crop` of the
    shorter side. Raises PredictError for an image so thin that resizing would make it
    huge.
    """
    side = math.floor(how.img_size / how.crop)
    if side**2 * max(image.size) > 50_000_000 * min(image.size):
        raise PredictError(
            f"the image is too thin, {image.width} x {image.height} pixels: crop it to"
            " what matters"
        )
    mode = pictures.InterpolationMode(how.interpolation)
    return pictures.center_crop(pictures.resize(image, [side], mode), [how.img_size])


def as_images(picture: Image.Image, how: WeightSet) -> Tensor:
    """Make a batch of one, `1 3 h w`, scaled by the mean and std of the training."""
    return pictures.normalize(pictures.to_tensor(picture), how.mean, how.std)[None]


def load(
    name: str, weights: str | None = None, device: str = "cpu"
) -> tuple[nn.Module, WeightSet]:
    """Load a model in eval mode, and how its images are prepared.

    name: one of `list_models()`.
    weights: a file, or the name of a set; None = the published ones.
    device: where the model runs.

    The model has as many classes as the weights. Raises PredictError for a name or a
    device that does not exist and for weights that do not fit or have no head.
    """
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise PredictError(
            f"there is no device {device!r} on this computer: use cpu"
        ) from error
    try:
        loaded = load_set(name, True if weights is None else weights)
        if not loaded.how.classes:
            raise PredictError(
                f"{loaded.how.source} has no head, so it cannot name classes: use a"
                " file that has one"
            )
        model = create_model(name, loaded, num_classes=loaded.how.classes)
    except ValueError as error:
        raise PredictError(str(error)) from error
    return model.eval().to(device), loaded.how


@torch.inference_mode()
def likeliest(
    model: nn.Module, images: Tensor, top: int = 5
) -> list[tuple[float, int, str]]:
    """Find the most probable classes of one image `1 3 h w`: probability, number, name.

    A model with a thousand classes is taken to know ImageNet's; others have no names.
    """
    shares = model(images)[0].float().softmax(dim=0)
    names = ViT_B_16_Weights.DEFAULT.meta["categories"]
    if len(shares) != len(names):
        names = [""] * len(shares)
    found = shares.topk(min(top, len(shares)))
    rows = zip(found.values.tolist(), found.indices.tolist(), strict=True)
    return [(share, number, names[number]) for share, number in rows]


def table(path: Path, rows: Sequence[tuple[float, int, str]]) -> str:
    """Write probability, number and name of the classes under the path of an image."""
    lines = [f"{share:11.1%}  {number:5}  {name}" for share, number, name in rows]
    return "\n".join(line.rstrip() for line in [f"probability  class  {path}", *lines])


def free_place(folder: Path, stem: str, taken: set[Path]) -> Path:
    """Choose a file name that no other drawing of this run has."""
    place, number = folder / f"{stem}_attention.png", 2
    while place in taken:
        place, number = folder / f"{stem}_attention_{number}.png", number + 1
    return place


def attention_overlay(
    model: nn.Module, images: Tensor, picture: Image.Image
) -> Image.Image:
    """Draw what the model is shown, and beside it where it looked, in blue and yellow.

    This is the rollout of lesson 8 from the tokens that the head reads to the patches
    (of T2T-ViT, in its backbone), for one image `1 3 h w` and its `picture`. Blue is 0,
    yellow the most that any patch gets.
    """
    prefix = model.num_prefix_tokens
    rollout = attention_rollout(attention_maps(model, images))[0].float()
    heat = rollout[:prefix].mean(dim=0)[prefix:].unflatten(0, model.grid_size)
    heat = heat[None, None] / heat.max()
    heat = F.interpolate(heat, size=picture.size[::-1], mode="bilinear")
    colors = colormaps["viridis"](heat[0, 0].cpu().numpy(), bytes=True)[..., :3]
    both = Image.new("RGB", (2 * picture.width, picture.height))
    both.paste(picture)
    both.paste(Image.blend(picture, Image.fromarray(colors), 0.6), (picture.width, 0))
    return both
