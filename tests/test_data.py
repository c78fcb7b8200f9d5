"""Images and loaders; each downloaded data set from small files in its real format."""

import gzip
import hashlib
import pickle
import shutil
import struct
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image

from course_vit.kit import data as kit_data
from course_vit.kit.data import (
    DOWNLOADS,
    cluttered_digits,
    digit_images,
    load_data,
    photograph,
)

COUNTS = (12, 7)
NOISE = np.random.default_rng(0)


def test_the_digits_are_all_there():
    images, labels = digit_images()
    assert images.shape == (1797, 1, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert labels.bincount().tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]


def test_a_photograph_has_the_size_asked_for():
    assert photograph("china", (32, 48)).shape == (3, 32, 48)
    with pytest.raises(ValueError, match="name must be flower or china, got 'rose'"):
        photograph("rose")


# Digits


def keys(loader):
    """Every image as bytes, so that sets of images can be compared."""
    return {image.numpy().tobytes() for image, _ in loader.dataset}


def test_digits_are_split_in_equal_shares_without_overlap():
    data = load_data("digits", batch_size=50)
    assert (len(data.train.dataset), len(data.test.dataset)) == (1437, 360)
    assert not keys(data.train) & keys(data.test)
    shares = torch.cat([labels for _, labels in data.test]).bincount()
    assert set(shares.tolist()) <= {35, 36, 37}
    images, labels = next(iter(data.train))
    assert images.shape == (50, data.in_chans, *data.img_size) == (50, 1, 8, 8)
    assert labels.dtype == torch.int64
    assert data.class_names[3] == "three"


def test_the_seed_decides_the_split_and_the_order():
    first, again, other = (load_data(seed=seed) for seed in (1, 1, 2))
    assert keys(first.test) == keys(again.test) != keys(other.test)
    assert torch.equal(next(iter(first.train))[0], next(iter(again.train))[0])
    one, two = (next(iter(first.train))[0] for _ in range(2))
    assert not torch.equal(one, two), "every epoch has its own order"


def test_new_writers_are_the_last_in_the_file():
    data = load_data(new_writers=True)
    images, labels = digit_images()
    assert torch.equal(data.test.dataset.tensors[0], images[-360:])
    assert torch.equal(data.train.dataset.tensors[1], labels[:-360])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(
        ValueError, match=r"name must be one of digits, mnist, .*; got 'svhn'"
    ):
        load_data("svhn")
    with pytest.raises(
        ValueError, match="only digits can be split by writer, got 'mnist'"
    ):
        load_data("mnist", new_writers=True)


# Small files in the real formats


def idx(array):
    """The format of MNIST: two zeros, 8 for bytes, the rank, the sizes, the bytes."""
    return (
        struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        + array.tobytes()
    )


def write_mnist(root, name):
    folder = root / DOWNLOADS[name][0] / "raw"
    folder.mkdir(parents=True)
    for part, count in zip(("train", "t10k"), COUNTS, strict=True):
        images = NOISE.integers(256, size=(count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))


def write_cifar10(root, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = root / DOWNLOADS["cifar10"][0]
    folder.mkdir(parents=True)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    def batch(name, count):
        pixels = NOISE.integers(256, size=(count, 3072), dtype=np.uint8)
        return write(name, {"data": pixels, "labels": [i % 10 for i in range(count)]})

    sizes = [4, 2, 2, 2, 2]
    train = [batch(f"data_batch_{i}", size) for i, size in enumerate(sizes, 1)]
    names = [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
    ]
    _, md5 = write("batches.meta", {"label_names": [*names, "truck"]})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", [batch("test_batch", COUNTS[1])])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5})


def write_imagenette(root):
    ids = "n01440764 n02102040 n02979186 n03000684 n03028079 n03394916 n03417042"
    ids = [*ids.split(), "n03425413", "n03445777", "n03888257"]
    for part, count in zip(("train", "val"), COUNTS, strict=True):
        for i in range(max(count, 10)):
            folder = root / DOWNLOADS["imagenette"][0] / part / ids[i % 10]
            folder.mkdir(parents=True, exist_ok=True)
            size = (160, 213, 3) if i % 2 else (240, 160, 3)
            pixels = NOISE.integers(256, size=size, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"ILSVRC2012_val_{i:08}.JPEG")


@pytest.fixture(params=DOWNLOADS)
def on_disk(request, tmp_path, monkeypatch):
    """The name of a data set, and a folder that holds a small one of its kind."""
    name = request.param
    counts = (12, 10) if name == "imagenette" else COUNTS
    folder, _, shape = DOWNLOADS[name]
    if name == "imagenette":
        write_imagenette(tmp_path)
    elif name == "cifar10":
        write_cifar10(tmp_path, monkeypatch)
    else:
        write_mnist(tmp_path, name)
    monkeypatch.setitem(kit_data.DOWNLOADS, name, (folder, counts, shape))
    return name, tmp_path


def test_every_data_set_comes_as_loaders_of_one_kind(on_disk):
    name, root = on_disk
    data = load_data(name, batch_size=5, root=root)
    _, counts, shape = kit_data.DOWNLOADS[name]
    assert (len(data.train.dataset), len(data.test.dataset)) == counts
    images, labels = next(iter(data.test))
    assert images.shape == (5, *shape) == (5, data.in_chans, *data.img_size)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert 0.5 < images.max() <= 1
    assert labels.dtype == torch.int64
    assert len(data.class_names) == 10
    assert data.train.num_workers == 0
    assert sum(len(labels) for _, labels in data.train) == counts[0]


def test_class_names_are_one_word_each(on_disk):
    name, root = on_disk
    firsts = {"mnist": "zero", "fashion_mnist": "T-shirt/top", "cifar10": "airplane"}
    names = load_data(name, root=root).class_names
    assert names[0] == firsts.get(name, "tench")


def test_missing_files_are_named_and_not_downloaded(on_disk):
    name, root = on_disk
    folder = root / DOWNLOADS[name][0]
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match=f"no {name} in .*download=True"):
        load_data(name, root=root)
    assert not folder.exists()


def test_a_lost_file_is_noticed(on_disk):
    name, root = on_disk
    folder = root / DOWNLOADS[name][0]
    lost = sorted(path for path in folder.rglob("*") if path.is_file())[-1]
    lost.unlink()
    with pytest.raises(RuntimeError, match=f"(?s){name} .*delete .*download=True"):
        load_data(name, root=root)


def read_everything(name, root):
    data = load_data(name, root=root)
    return [list(data.train), list(data.test)]


def test_a_file_cut_short_is_noticed(on_disk):
    name, root = on_disk
    folder = root / DOWNLOADS[name][0]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises((RuntimeError, OSError)):
            read_everything(name, root)
        path.write_bytes(whole)
    read_everything(name, root)


def test_fewer_images_than_published_are_refused(on_disk, monkeypatch):
    name, root = on_disk
    folder, counts, shape = kit_data.DOWNLOADS[name]
    more = (counts[0] + 1, counts[1])
    monkeypatch.setitem(kit_data.DOWNLOADS, name, (folder, more, shape))
    rule = rf"\({more[0]}, {more[1]}\) training and test images of {name}, got \("
    with pytest.raises(RuntimeError, match=rule):
        load_data(name, root=root)


def test_the_published_numbers_of_images_are_asked_for():
    assert {name: counts for name, (_, counts, _) in DOWNLOADS.items()} == {
        "mnist": (60_000, 10_000),
        "fashion_mnist": (60_000, 10_000),
        "cifar10": (50_000, 10_000),
        "imagenette": (9_469, 3_925),
    }


@pytest.fixture
def serve():
    """A web server for a folder, on this machine only."""
    servers = []

    def start(folder):
        handler = partial(SimpleHTTPRequestHandler, directory=folder)
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_download_is_compared_with_its_checksum(
    tmp_path, monkeypatch, serve, damaged
):
    from torchvision.datasets import MNIST

    write_mnist(tmp_path / "server", "mnist")
    source, resources = tmp_path / "server" / "MNIST" / "raw", []
    for path in sorted(source.iterdir()):
        packed = source / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        resources.append((packed.name, hashlib.md5(packed.read_bytes()).hexdigest()))
        if damaged and "t10k-labels" in path.name:
            packed.write_bytes(packed.read_bytes()[:-20])
    monkeypatch.setattr(MNIST, "resources", resources)
    monkeypatch.setattr(MNIST, "mirrors", [f"{serve(source)}/"])
    folder, _, shape = DOWNLOADS["mnist"]
    monkeypatch.setitem(kit_data.DOWNLOADS, "mnist", (folder, COUNTS, shape))
    root = tmp_path / "learner"
    if damaged:
        with pytest.raises(
            RuntimeError, match=r"mnist could not be read \(Error downloading"
        ):
            load_data("mnist", root=root, download=True)
        return
    assert len(load_data("mnist", root=root, download=True).test.dataset) == COUNTS[1]
    load_data("mnist", root=root)  # the second time without


# Clutter


def test_clutter_is_a_digit_over_scraps_and_a_seed_decides():
    images, labels = cluttered_digits(300, seed=0).tensors
    assert images.shape == (300, 1, 24, 24)
    assert 0 <= images.min() < images.max() <= 1
    again = cluttered_digits(300, seed=0).tensors
    assert torch.equal(images, again[0])
    assert torch.equal(labels, again[1])
    assert not torch.equal(images, cluttered_digits(300, seed=1).tensors[0])
    assert labels.bincount(minlength=10).min() >= 15
    lit = (images > 0).float().mean(dim=0)[0]
    middle, corner = lit[8:16, 8:16].mean(), lit[:4, :4].mean()
    assert 0 < corner < middle, "pieces lie anywhere inside"


@pytest.mark.parametrize("test", [False, True])
def test_the_digit_is_whole_and_by_the_right_hands(test):
    digits, names = digit_images()
    part = slice(-360, None) if test else slice(-360)
    sources = list(zip(digits[part, 0], names[part], strict=True))
    for image, label in cluttered_digits(8, seed=3, test=test):
        windows = image[0].unfold(0, 8, 1).unfold(1, 8, 1).flatten(0, 1)
        whole = [
            name for digit, name in sources if (windows >= digit).all((1, 2)).any()
        ]
        assert label in whole
