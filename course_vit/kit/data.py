"""Real images: scikit-learn's bundled digits and photographs, and loaders for more."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
]

# For each data set its folder, the numbers of training and test images, and (c, h, w).
DOWNLOADS: dict[str, tuple[str, tuple[int, int], tuple[int, int, int]]] = {
    "mnist": ("MNIST", (60_000, 10_000), (1, 28, 28)),
    "fashion_mnist": ("FashionMNIST", (60_000, 10_000), (1, 28, 28)),
    "cifar10": ("cifar-10-batches-py", (50_000, 10_000), (3, 32, 32)),
    "imagenette": ("imagenette2-160", (9_469, 3_925), (3, 160, 160)),
}


def digit_images() -> tuple[Tensor, Tensor]:
    """1,797 handwritten digits, `b 1 8 8` between 0 and 1, and their labels `b`.

    The test part of UCI's Optical Recognition of Handwritten Digits (Alpaydin and
    Kaynak 1998), as bundled with scikit-learn. The images seem to be ordered by writer,
    so shuffle before you split.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    return images, torch.tensor(digits.target)


def photograph(name: str = "flower", size: tuple[int, int] = (224, 224)) -> Tensor:
    """One of scikit-learn's two photographs, `3 h w` between 0 and 1: flower or china.

    The largest centred part with the proportions of `size` (height, width) is cut out
    and resized.
    """
    from sklearn.datasets import load_sample_images

    names = {"china": 0, "flower": 1}
    if name not in names:
        raise ValueError(f"name must be flower or china, got {name!r}")
    pixels = torch.tensor(load_sample_images().images[names[name]])
    image = pixels.permute(2, 0, 1).float() / 255
    scale = min(image.shape[1] / size[0], image.shape[2] / size[1])
    height, width = round(size[0] * scale), round(size[1] * scale)
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    crop = image[None, :, top : top + height, left : left + width]
    resized = F.interpolate(crop, size=size, mode="bilinear", antialias=True)
    return resized[0].clamp(0, 1)


@dataclass(frozen=True)
class ImageData:
    """Loaders of images `b c h w` between 0 and 1 with labels `b`, and their sizes."""

    train: DataLoader
    test: DataLoader
    class_names: list[str]
    in_chans: int
    img_size: tuple[int, int]


def load_data(
    name: str = "digits",
    batch_size: int = 64,
    *,
    seed: int = 0,
    new_writers: bool = False,
    root: str | Path = "data",
    download: bool = False,
    num_workers: int = 0,
) -> ImageData:
    """Load one data set: the bundled digits, or a key of `DOWNLOADS`.

    360 digits are kept for testing: the same share of every class, drawn with `seed`,
    or, with `new_writers`, the last 360 in the file, from people whose writing is not
    in the training part. The other data sets are read from `root` and have their own
    split. `seed` also orders the batches, except in `fit`, which has its own seed.

    Raises ValueError for an unknown name, FileNotFoundError if the data set is not in
    `root` and `download` is off, and RuntimeError if it is damaged or incomplete.
    """
    if name != "digits" and name not in DOWNLOADS:
        names = ", ".join(["digits", *DOWNLOADS])
        raise ValueError(f"name must be one of {names}; got {name!r}")
    if name == "digits":
        train, test = split_digits(seed, new_writers)
        class_names, shape = NUMBERS, (1, 8, 8)
    elif new_writers:
        raise ValueError(f"only digits can be split by writer, got {name!r}")
    else:
        train, test, class_names = open_download(name, Path(root), download)
        shape = DOWNLOADS[name][2]
    order = torch.Generator().manual_seed(seed)
    loader = partial(DataLoader, batch_size=batch_size, num_workers=num_workers)
    return ImageData(
        loader(train, shuffle=True, generator=order),
        loader(test),
        class_names,
        in_chans=shape[0],
        img_size=shape[1:],
    )


def split_digits(seed: int, new_writers: bool) -> list[Dataset]:
    """1,437 digits for training and 360 for testing."""
    from sklearn.model_selection import train_test_split

    images, labels = digit_images()
    places = list(range(len(images)))
    parts = places[:-360], places[-360:]
    if not new_writers:
        options = {"test_size": 360, "stratify": labels.numpy(), "random_state": seed}
        parts = train_test_split(places, **options)
    return [TensorDataset(images[part], labels[part]) for part in parts]


def cluttered_digits(number: int, seed: int, test: bool = False) -> TensorDataset:
    """Draw images, `n 1 24 24`: a real digit at a random place, over six scraps.

    A scrap is 4 x 4 pixels of any digit. Training images are made of the first 1,437
    digits, test images of the last 360, which other people wrote. The same `seed` gives
    the same images.
    """
    images, labels = digit_images()
    part = slice(-360, None) if test else slice(-360)
    images, labels = images[part, 0], labels[part]
    source, each = torch.Generator().manual_seed(seed), torch.arange(number)

    def draw(below: int) -> Tensor:
        return torch.randint(below, (number,), generator=source)

    def window(where: Tensor, width: int, side: int) -> tuple[Tensor, ...]:
        """The index of a square at a random place in each image."""
        top, left = (draw(width - side + 1)[:, None] + torch.arange(side) for _ in "yx")
        return where[:, None, None], top[:, :, None], left[:, None, :]

    canvas, digit = torch.zeros(number, 24, 24), draw(len(images))
    for _ in range(6):
        scrap = images[window(draw(len(images)), 8, 4)]
        place = window(each, 24, 4)
        canvas[place] = torch.maximum(canvas[place], scrap)
    place = window(each, 24, 8)
    canvas[place] = torch.maximum(canvas[place], images[digit])
    return TensorDataset(canvas[:, None], labels[digit])


def open_download(
    name: str, root: Path, download: bool
) -> tuple[Dataset, Dataset, list[str]]:
    """Training part, test part and class names of a data set that torchvision knows.

    torchvision checks the archives by their checksums. Here the unpacked images are
    counted, because unpacking may have been interrupted.
    """
    folder, counts, _ = DOWNLOADS[name]
    if not download and not (root / folder).exists():
        raise FileNotFoundError(
            f"there is no {name} in {root / folder}: "
            f"call load_data({name!r}, download=True) once, with a network"
        )
    todo = f"delete {root / folder} and call load_data({name!r}, download=True)"
    try:
        train, test = (open_part(name, root, download, part) for part in (True, False))
    except (AssertionError, EOFError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RuntimeError(f"{name} could not be read ({reason}): {todo}") from error
    got = tuple(len(getattr(part, "targets", part)) for part in (train, test))
    if got != counts:
        raise RuntimeError(
            f"expected {counts} training and test images of {name}, got {got}: {todo}"
        )
    names = [n[0] if isinstance(n, tuple) else n for n in train.classes]
    return train, test, [n.split(" - ")[-1] for n in names]  # MNIST says "0 - zero"


def open_part(name: str, root: Path, download: bool, train: bool):
    """The training or the test part, as torchvision opens it."""
    from torchvision import datasets, transforms

    crop = transforms.CenterCrop(DOWNLOADS[name][2][1:])
    options = {"transform": transforms.Compose([crop, transforms.ToTensor()])}
    if name == "imagenette":
        part = "train" if train else "val"
        return datasets.Imagenette(root, part, "160px", download=download, **options)
    kinds = {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
    }
    return kinds[name](root, train, download=download, **options)
