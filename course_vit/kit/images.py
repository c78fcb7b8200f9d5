"""Images for `course-vit train`: where they are, their order, and how they change.

Nothing here depends on how many processes train. The order of an epoch follows from its
seed, and the changes of an image follow from a key, which is made of that seed and the
number of the image.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

from ..training import random_affine
from . import CourseError
from .data import DOWNLOADS, load_data
from .predict import FORMATS, ImageError, open_image, view
from .processes import shared_work
from .recipes import Recipe
from .weights import WeightSet


@dataclass(frozen=True)
class Images:
    """Images with their labels, for training and for validation.

    train, val: data sets of pairs (image, number of its class). An image is `c h w`
        between 0 and 1, or a picture of Pillow in RGB.
    class_names: the name of each class.
    in_chans: the channels of the images.
    img_size: the side of the images, or a usual one if they have different sizes.
    skipped: how many broken images were left out.
    """

    train: Any
    val: Any
    class_names: list[str]
    in_chans: int
    img_size: int
    skipped: int = 0


# --- Finding them ---


def find_images(place: str, seed: int = 0, skip_broken: bool = False) -> Images:
    """Open a data set of the kit or a folder of images.

    place: `digits`, a key of `DOWNLOADS` (already in `data/`), or a folder. The folder
        has `train/` and `val/` with a subfolder for each class, or just a subfolder for
        each class; then a fifth of each class, drawn with `seed`, is for validation.
    skip_broken: leave out images that cannot be read; otherwise they are an error.

    Raises CourseError if there are no such images, and if one is broken, with its name.
    """
    if place == "digits" or place in DOWNLOADS:
        try:
            data = load_data(place, seed=seed)
        except (FileNotFoundError, RuntimeError) as error:
            raise CourseError(str(error)) from error
        parts = data.train.dataset, data.test.dataset
        return Images(*parts, data.class_names, data.in_chans, data.img_size[0])
    folder = Path(place).expanduser()
    if not folder.is_dir():
        known = ", ".join(["digits", *DOWNLOADS])
        raise CourseError(f"{place!r} is neither a folder nor one of {known}")
    return folder_images(folder, seed, skip_broken)


def folder_images(folder: Path, seed: int, skip_broken: bool) -> Images:
    """Open a folder of images; arguments and errors are those of `find_images`."""
    names = [name for name in ("train", "val") if (folder / name).is_dir()]
    if len(names) == 1:
        raise CourseError(
            f"{folder} has {names[0]}/ only: put images for training into train/ and"
            " others for validation into val/"
        )
    parts = [Classes(folder / name) for name in names] or [Classes(folder)]
    classes = parts[0].classes
    if differ := set(classes) ^ set(parts[-1].classes):
        raise CourseError(
            f"train/ and val/ in {folder} must have the same classes, but only one has"
            f" {', '.join(sorted(differ))}"
        )
    paths = [path for part in parts for path, _ in part.samples]
    broken = dict(broken_images(paths))
    if broken and not skip_broken:
        first = [f"{path}: {why}" for path, why in [*broken.items()][:20]]
        raise CourseError(
            "\n".join(
                [f"of {len(paths)} images, {len(broken)} cannot be read:", *first]
            )
            + "\ncorrect or delete them, or leave them out with --skip-broken"
        )
    for part in parts:
        part.leave_out(broken)
    train, val = parts if names else held_out(parts[0], seed)
    return Images(train, val, classes, 3, 32, len(broken))


class Classes(ImageFolder):
    """A folder with a subfolder of images for each class; hidden ones do not count."""

    samples: list[tuple[str, int]]

    def __init__(self, folder: Path) -> None:
        try:
            super().__init__(str(folder), loader=open_path, is_valid_file=is_image)
        except FileNotFoundError as error:
            raise CourseError(
                f"each class in {folder} needs an image in one of the formats"
                f" {', '.join(FORMATS)}: {str(error).split('. ')[0]}"
            ) from error

    def find_classes(self, directory: Any) -> tuple[list[str], dict[str, int]]:
        found = [it.name for it in os.scandir(directory) if it.is_dir()]
        names = sorted(name for name in found if name[0] != ".")
        if len(names) < 2:
            raise CourseError(
                f"{directory} must have a subfolder for each class and at least two of"
                f" them, got {names or 'none'}"
            )
        return names, {name: number for number, name in enumerate(names)}

    def leave_out(self, broken: dict[str, str]) -> None:
        """Forget some images. Raises CourseError if a class then has none."""
        self.samples = [pair for pair in self.samples if pair[0] not in broken]
        self.targets = [label for _, label in self.samples]
        for number, name in enumerate(self.classes):
            if number not in self.targets:
                raise CourseError(f"every image of {name} in {self.root} is broken")


def is_image(path: str) -> bool:
    """Whether a file is named like an image in one of `FORMATS`, and is not hidden."""
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    return kind in FORMATS and Path(path).name[0] != "."


def open_path(path: str) -> Image.Image:
    return open_image(Path(path))


def broken_images(paths: list[str]) -> list[tuple[str, str]]:
    """Read each image once; returns those that cannot be read, and why."""

    def problem(path: str) -> list[tuple[str, str]]:
        try:
            open_path(path)
        except ImageError as error:
            return [(path, str(error))]
        return []

    def problems(paths: list[str]) -> list[tuple[str, str]]:
        with ThreadPoolExecutor() as pool:
            return [found for several in pool.map(problem, paths) for found in several]

    return shared_work(problems, paths)


def held_out(data: Classes, seed: int) -> list[Subset]:
    """Four fifths of each class, and the other fifth."""
    from sklearn.model_selection import train_test_split

    places = list(range(len(data)))
    options = {"test_size": 0.2, "stratify": data.targets, "random_state": seed}
    try:
        parts = train_test_split(places, **options)
    except ValueError as error:
        raise CourseError(
            f"{data.root} is too small to hold out a fifth of each class ({error}):"
            " make train/ and val/ yourself"
        ) from error
    return [Subset(data, part) for part in parts]


# --- Their order ---


class Order(Sampler[list[int]]):
    """The images that one process sees in each step of an epoch, as keys.

    The order of all images follows from the seed that `generator` has, which
    `train_epoch` changes in each epoch. Of each batch, the process number `rank` gets
    an equal part: its rows in one piece. Images that do not fill a last batch are left
    out of this epoch. The key of an image is `seed * number of images + its number`.
    """

    def __init__(
        self, images: int, batch: int, generator: torch.Generator, rank=0, number=1
    ) -> None:
        self.images, self.batch, self.generator = images, batch, generator
        self.rank, self.number = rank, number

    def __len__(self) -> int:
        return self.images // self.batch

    def __iter__(self) -> Iterator[list[int]]:
        seed = self.generator.initial_seed()
        own = torch.Generator().manual_seed(seed)
        order = seed * self.images + torch.randperm(self.images, generator=own)
        shape = len(self), self.number, self.batch // self.number
        rows = order[: len(self) * self.batch].view(shape)
        yield from rows[:, self.rank].tolist()


# --- How they change ---


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Let torch draw on the CPU from a seed, and afterwards as if nothing had been."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


class Prepared(Dataset):
    """Rows (key, image `c h w`, label), found by key; an image changes by its key."""

    def __init__(self, data: Any, change: Callable[[Any], Tensor]) -> None:
        self.data, self.change = data, change

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int) -> tuple[int, Tensor, int]:
        image, label = self.data[key % len(self.data)]
        with drawn_from(2 * key):
            return key, self.change(image).as_subclass(Tensor), int(label)


Row = tuple[int, Tensor, int]


def batch_of(
    rows: Sequence[Row], blend: Callable | None = None
) -> tuple[Tensor, Tensor]:
    """Make a batch of rows: images `b c h w`, and labels `b` or probabilities `b k`.

    blend: a function of two images and labels, MixUp or CutMix of torchvision. It is
        applied to each pair of neighbours and draws from the key of the first one.
    """
    keys, images, labels = zip(*rows, strict=True)
    batch = torch.stack(images), torch.tensor(labels)
    if blend is None:
        return batch
    pairs = []
    for key, *pair in zip(keys[::2], *(part.split(2) for part in batch), strict=True):
        with drawn_from(2 * key + 1):
            pairs.append(blend(*pair))
    blended, shares = zip(*pairs, strict=True)
    return torch.cat(blended), torch.cat(shares)


def blend_of(recipe: Recipe, num_classes: int) -> Callable | None:
    """MixUp, CutMix, a random choice of the two, or None, by the recipe."""
    kinds = {v2.MixUp: recipe.mixup, v2.CutMix: recipe.cutmix}
    wanted = [kind(alpha=a, num_classes=num_classes) for kind, a in kinds.items() if a]
    return v2.RandomChoice(wanted) if wanted else None


def as_shown(how: WeightSet) -> list[Callable]:
    """The changes before a model is judged, the same as in `course-vit predict`."""
    in_view = partial(view, how=how)
    return [partial(in_colours, len(how.mean)), in_view, *as_numbers(how)]


def as_numbers(how: WeightSet) -> list[Callable]:
    to_float = v2.ToDtype(torch.float32, scale=True)
    return [v2.ToImage(), to_float, v2.Normalize(list(how.mean), list(how.std))]


def as_trained(how: WeightSet, recipe: Recipe) -> list[Callable]:
    """The changes of a training image, some of them random."""
    if recipe.crop < 1:
        mode = InterpolationMode(how.interpolation)
        area = (recipe.crop, 1.0)
        crop = v2.RandomResizedCrop(how.img_size, scale=area, interpolation=mode)
        changes = [partial(in_colours, len(how.mean)), crop]
    else:
        changes = as_shown(how)[:2]
    if recipe.flip:
        changes.append(v2.RandomHorizontalFlip(recipe.flip))
    if recipe.randaugment:
        changes.append(v2.RandAugment(magnitude=recipe.randaugment))
    *to_floats, normalise = as_numbers(how)
    changes += to_floats
    if recipe.affine:
        changes.append(partial(moved, recipe.affine * how.img_size))
    changes.append(normalise)
    if recipe.erasing:
        changes.append(v2.RandomErasing(recipe.erasing, value="random"))
    return changes


def in_colours(channels: int, image: Any) -> Any:
    """A grey tensor as one with more channels; pictures of Pillow are in RGB."""
    return image.expand(channels, -1, -1) if isinstance(image, Tensor) else image


def moved(shift: float, image: Tensor) -> Tensor:
    """Lesson 7's random change of one image, `c h w -> c h w`."""
    return random_affine(image[None], shift=shift)[0]


# --- The loaders ---


class Shown(DataLoader):
    """A loader that shows a progress bar, which disappears at the end."""

    hidden: bool | None = None  # None: hidden unless a person is watching

    def __iter__(self) -> Any:
        from tqdm import tqdm

        return iter(tqdm(super().__iter__(), leave=False, disable=self.hidden))


def loaders(
    images: Images, how: WeightSet, recipe: Recipe, rank: int = 0, number: int = 1
) -> tuple[DataLoader, DataLoader]:
    """The loaders of one process, for training and for validation.

    Each process gets all validation images: it judges the whole model alone, so that no
    image can be missing or counted twice. Raises CourseError if the images do not
    fill one batch, or if a batch cannot be divided among processes, pieces and pairs.
    """
    blend = blend_of(recipe, len(images.class_names))
    unit = number * recipe.accumulate * (2 if blend else 1)
    if recipe.batch % unit:
        lower = recipe.batch // unit * unit
        fit = " or ".join(str(size) for size in (lower, lower + unit) if size)
        raise CourseError(
            f"--batch {recipe.batch} cannot be divided evenly: {number} processes,"
            f" {recipe.accumulate} pieces{' and pairs of images' if blend else ''} need"
            f" a multiple of {unit}, such as {fit}"
        )
    if len(images.train) < recipe.batch:
        raise CourseError(
            f"there are {len(images.train)} images for training, fewer than one batch:"
            f" set --batch to {len(images.train)} or less"
        )
    generator = torch.Generator()
    options: dict[str, Any] = {"num_workers": recipe.workers}
    if recipe.workers:  # a forked process would crash in CUDA
        options |= {"multiprocessing_context": "spawn", "persistent_workers": True}
    train = Shown(
        Prepared(images.train, v2.Compose(as_trained(how, recipe))),
        batch_sampler=Order(len(images.train), recipe.batch, generator, rank, number),
        generator=generator,
        collate_fn=partial(batch_of, blend=blend),
        **options,
    )
    train.hidden = True if rank else None
    val = DataLoader(
        Prepared(images.val, v2.Compose(as_shown(how))),
        batch_size=recipe.batch // number // recipe.accumulate,
        collate_fn=batch_of,
        **options,
    )
    return train, val
