"""Fetching and reading weights, against a server on this machine that speaks the hub's
protocol: HEAD names commit, checksum and size and sends on to another host, where GET
knows ranges.
"""

import argparse
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import warnings
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import huggingface_hub
import nbformat
import numpy as np
import pytest
import torch
from house import NOTEBOOKS, ROOT
from nbclient import NotebookClient
from PIL import Image
from safetensors.torch import save, save_file
from sklearn.datasets import load_sample_images
from timm.models import adapt_input_conv
from torch import nn
from weights import answer, distance

import course_vit
from course_vit.kit import predict
from course_vit.kit.demo_weights import as_jax
from course_vit.kit.predict import as_images, view
from course_vit.kit.weights import (
    WEIGHT_SETS,
    WeightsError,
    WeightSet,
    fetch,
    load_set,
    published_sets,
    read_weights,
    torchvision_address,
    weight_set,
)

TINY = "vit_tiny_patch16_224"
SET = f"{TINY}.augreg_in21k_ft_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tiny(name=TINY, **options):
    return course_vit.create_model(name, depth=1, **options)


def load(pretrained, name=TINY, **options):
    """A model of one block with weights, of which it must have nothing to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".* the average '.*' was chosen")
        return tiny(name, pretrained=pretrained, **options)


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


def same(model, other):
    state, others = model.state_dict(), other.state_dict()
    return all(torch.equal(state[key], others[key]) for key in state | others)


def save_npz(model, path):
    arrays = as_jax(model.state_dict(), 3)
    np.savez(path, **{key: array.cpu().numpy() for key, array in arrays.items()})


# The server


class Hub(ThreadingHTTPServer):
    """`files` by path; `breaks` holds after how many bytes the next answers end."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.files, self.breaks, self.seen, self.status = {}, [], [], None
        self.corrupt = False

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        headers.setdefault("Content-Length", len(body))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self):
        self.handle_one("HEAD")

    def do_GET(self):
        self.handle_one("GET")

    def handle_one(self, method):
        hub, path = self.server, urlsplit(self.path).path.lstrip("/")
        seen = self.headers.get("Range"), self.headers.get("Authorization")
        hub.seen.append((method, path, *seen))
        if hub.status:
            return self.answer(hub.status)
        elsewhere = f"http://localhost:{hub.server_port}/cdn"
        if "/resolve/main/" in path:
            repository, name = path.split("/resolve/main/")
            if (path := f"{repository}/{name}") not in hub.files:
                known = any(file.startswith(f"{repository}/") for file in hub.files)
                what = "EntryNotFound" if known else "RepoNotFound"
                headers = {"X-Error-Code": what, "X-Repo-Commit": COMMIT}
                return self.answer(404 if known else 401, **headers)
            content = hub.files[path]
            return self.answer(
                302,
                Location=f"{elsewhere}/{path}?signature=0",
                X_Repo_Commit=COMMIT,
                X_Linked_Size=len(content),
                X_Linked_Etag=f'"{hashlib.sha256(content).hexdigest()}"',
            )
        if path.startswith("release/"):  # as GitHub does
            return self.answer(302, Location=f"{elsewhere}/{path}")
        content = hub.files.get(path.removeprefix("cdn/"))
        if content is None:
            return self.answer(404)
        return self.send_content(content)

    def send_content(self, content):
        hub, size = self.server, len(content)
        if hub.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", size - start)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        stop = start + hub.breaks.pop(0) if hub.breaks else size
        self.wfile.write(content[start:stop])
        if stop < size:
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The server; the libraries use it in place of the hub, and empty caches."""
    server = Hub()
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    address, folder = {"endpoint": server.address}, {"cache_dir": tmp_path / "hub"}
    for name, here in {
        "hf_hub_download": address | folder,
        "hf_hub_url": address,
        "try_to_load_from_cache": folder,
    }.items():
        there = partial(getattr(huggingface_hub, name), **here)
        monkeypatch.setattr(huggingface_hub, name, there)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between two tries
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    yield server
    server.shutdown()
    server.server_close()


def publish(hub, model, name=SET):
    content = save(model.state_dict())
    hub.files[f"timm/{name}/model.safetensors"] = content
    return content


def downloads(hub):
    return [seen for seen in hub.seen if seen[0] == "GET" and "cdn/" in seen[1]]


def kept(folder):
    """The files of a cache that hold weights, whole or not."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.resolve() for path in files if path.stat().st_size > 1000}


def refused(words, call, *arguments, **options):
    """The call must raise a WeightsError with these words, in one line."""
    with pytest.raises(WeightsError, match=words) as raised:
        call(*arguments, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


# From the hub


def test_a_name_is_enough_and_the_second_time_nothing_is_fetched(hub, tmp_path, capsys):
    published = tiny()
    publish(hub, published)
    assert same(load(True), published)
    assert len(downloads(hub)) == 1
    (file,) = kept(tmp_path / "hub")
    assert same(load(SET), published)
    assert len(downloads(hub)) == 1
    assert file in kept(tmp_path / "hub")
    assert capsys.readouterr().out == ""


def test_without_a_network_the_cache_is_enough(hub, monkeypatch):
    published = tiny()
    publish(hub, published)
    load(True)
    seen = len(hub.seen)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert same(load(True), published)
    assert len(hub.seen) == seen


def test_offline_with_an_empty_cache(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = refused("HF_HUB_OFFLINE is set, so unset it once", load, True)
    assert message.startswith(f"timm/{SET} was not fetched: ")
    assert message.endswith("get the file in a different way and give its path")
    assert hub.seen == []


def test_no_network(hub, monkeypatch):
    """It is said at once: the download alone would try six times, in 23 seconds."""
    hub.shutdown()
    hub.server_close()
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("this is a retry"))
    refused(
        r"was not fetched: there is no connection, or it broke \(.*\), so try again",
        load,
        True,
    )


def test_a_broken_connection_is_taken_up_where_it_broke(hub):
    published = tiny()
    content = publish(hub, published)
    hub.breaks = [len(content) // 3, len(content) // 3]
    assert same(load(True), published)
    starts = [seen[2] for seen in downloads(hub)]
    assert len(starts) == 3
    assert starts[0] is None
    assert starts[1].startswith("bytes=")
    assert starts[2] > starts[1]


def test_what_broke_for_good_is_not_kept(hub, tmp_path):
    published = tiny()
    content = publish(hub, published)
    hub.breaks = [len(content) // 2] + 20 * [0]
    refused("there is no connection, or it broke", load, True)
    assert kept(tmp_path / "hub") == set()
    hub.breaks = []
    assert same(load(True), published)


def test_a_wrong_checksum_is_refused_and_what_came_is_deleted(hub, tmp_path):
    published = tiny()
    publish(hub, published)
    hub.corrupt = True
    message = refused("it was deleted, so run this again", load, True)
    assert "is not what was published, since its checksum is not" in message
    assert kept(tmp_path / "hub") == set()
    hub.corrupt = False
    assert same(load(True), published)


def test_a_file_that_was_damaged_in_the_cache_is_found(hub, tmp_path):
    published = tiny()
    publish(hub, published)
    load(True)
    (file,) = kept(tmp_path / "hub")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    refused("is not what was published", load, True)
    assert same(load(True), published)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "the server wants a token or has no such file .401., see HF_TOKEN"),
        (404, "the server has no such file .404."),
        (403, "the server wants a token or has no such file .403., see HF_TOKEN"),
        (503, "the server answered 503, so try again later"),
    ],
)
def test_what_the_server_has_not(hub, status, words):
    hub.status = status
    refused(f"timm/{SET} was not fetched: {words}; or get", load, True)


def test_a_repository_without_the_file(hub):
    hub.files[f"timm/{SET}/pytorch_model.bin"] = b""
    refused("the server has no such file", load, True)


@pytest.mark.parametrize("proxy", [False, True], ids=["direct", "by a proxy"])
def test_the_variables_of_the_hub_are_obeyed(hub, tmp_path, proxy):
    publish(hub, tiny())
    code = f"import course_vit; course_vit.create_model({TINY!r}, True, depth=1)"
    ours = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    if proxy:  # which alone knows where that is
        ours |= {"HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.address}
    ours |= {"HF_TOKEN": "hf_secret", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    run = subprocess.run(command, env=os.environ | ours, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert len(downloads(hub)) == 1
    tokens = {seen[1].startswith("cdn/"): seen[3] for seen in hub.seen}
    assert tokens == {False: "Bearer hf_secret", True: None}
    assert kept(tmp_path / "home")


def test_the_code_of_the_readme_runs(hub, tmp_path, monkeypatch):
    name = "deit_tiny_distilled_patch16_224"
    publish(hub, course_vit.create_model(name), f"{name}.fb_in1k")
    publish(hub, course_vit.create_model(TINY))
    state = course_vit.create_model("deit_tiny_patch16_224").state_dict()
    torch.save({"model": state}, tmp_path / "weights.pth")
    Image.fromarray(load_sample_images().images[0]).save(tmp_path / "holiday.jpg")
    monkeypatch.chdir(tmp_path)
    text, space = (ROOT / "README.md").read_text(encoding="utf-8"), {}
    *first, second = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    exec("".join(first), space)
    assert space["logits"].shape == (1, 10)
    assert space["first"].shape == space["last"].shape == (1, 197, 192)
    with pytest.warns(UserWarning, match="model 5 classes, checkpoint 1000"):
        exec(second, space)
    assert space["tokens"].shape == (1, 17, 64)
    assert space["logits"].shape == (1, 1000)
    assert space["features"](space["images"]).shape == (1, 192)
    assert torch.equal(space["mine"].pos_embed, state["pos_embed"])


def test_lesson_11_reads_published_weights_if_asked_to(hub, tmp_path, monkeypatch):
    """From its first cell to its last, with the change that it invites, and with
    shorter trainings."""
    publish(hub, course_vit.create_model(TINY))
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    notebook = nbformat.read(NOTEBOOKS[11], as_version=4)
    (asked,) = (cell for cell in notebook.cells if cell.source.startswith("WEIGHTS ="))
    asked.source = f"WEIGHTS = {TINY!r}"
    for long, short in {
        "fit(model, loader, 12,": "fit(model, loader, 1,",
        "fit(model, loader, 30,": "fit(model, loader, 2,",
        "in progress(range(3))": "in progress(range(1))",
    }.items():
        (slow,) = (cell for cell in notebook.cells if long in cell.source)
        slow.source = slow.source.replace(long, short)
    NotebookClient(notebook, timeout=600).execute()
    (named,) = (cell for cell in notebook.cells if "maps_of_classes" in cell.source)
    said = "".join(output.get("text", "") for output in named.outputs)
    rows = re.findall(r"^ +[0-9.]+%  \w.*$", said, re.MULTILINE)
    assert len(rows) == 10, said
    assert len(downloads(hub)) == 1


# From an address, as T2T-ViT's and torchvision's


def t2t_file(model, path, **more):
    """A file as T2T-ViT's training script leaves it."""
    averaged = {f"module.{key}": t for key, t in model.state_dict().items()}
    last = {key: t + 1 for key, t in averaged.items()}
    options = argparse.Namespace(model="t2t_vit_7", lr=5e-4)
    content = {"epoch": 309, "arch": "t2t_vit_7", "args": options, **more}
    torch.save(content | {"state_dict": last, "state_dict_ema": averaged}, path)


@pytest.fixture
def release(hub, monkeypatch, tmp_path):
    """T2T-ViT-7 of one block as released, on the server, and how to load it."""
    model, name = tiny("t2t_vit_7"), "71.7_T2T_ViT_7.pth.tar"
    t2t_file(model, tmp_path / "file")
    hub.files[f"release/{name}"] = (tmp_path / "file").read_bytes()
    found = replace(
        WEIGHT_SETS["t2t_vit_7.in1k"], source=f"{hub.address}/release/{name}"
    )
    monkeypatch.setitem(WEIGHT_SETS, "t2t_vit_7.in1k", found)
    return model


def test_a_released_t2t_file_is_fetched_once(hub, release, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert same(load(True, "t2t_vit_7"), release)
    assert same(load(True, "t2t_vit_7"), release)
    assert len(downloads(hub)) == 1
    assert {seen[3] for seen in hub.seen} == {None}  # the token is not theirs
    (file,) = kept(tmp_path / "torch")
    assert file == tmp_path / "torch/hub/checkpoints/71.7_T2T_ViT_7.pth.tar"


def test_a_broken_release_is_taken_up_or_not_kept(hub, release, tmp_path):
    hub.breaks = [100_000] + 20 * [0]
    refused(
        "was not fetched: there is no connection, or it broke", load, True, "t2t_vit_7"
    )
    assert not any((tmp_path / "torch").rglob("*.*"))
    hub.seen.clear()
    hub.breaks = [100_000]
    assert same(load(True, "t2t_vit_7"), release)
    assert [seen[2] for seen in downloads(hub)] == [None, "bytes=100000-"]


def test_a_release_that_is_gone(hub, release):
    hub.files.clear()
    refused("the server has no such file .404.", load, True, "t2t_vit_7")


def test_a_folder_that_cannot_be_written(hub, release, tmp_path):
    (tmp_path / "torch").touch()
    refused("it cannot be kept .*torch", load, True, "t2t_vit_7")


def test_a_release_and_offline_mode(hub, release, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused("HF_HUB_OFFLINE is set", load, True, "t2t_vit_7")
    assert hub.seen == []


def test_a_checksum_in_the_name_of_a_file(hub, tmp_path):
    content = save({"a": torch.ones(1000)})
    good = hashlib.sha256(content).hexdigest()[:8]
    for digits, well in ((good, True), ("01234567", False)):
        name = f"release/vit_b_16-{digits}.pth"
        hub.files[name] = content
        found = WeightSet(f"{hub.address}/{name}")
        path, checksum = fetch(found)
        assert checksum == digits
        assert path.read_bytes() == content
        if well:
            assert read_weights(path, checksum).keys() == {"a"}
        else:
            words = "its checksum is not 01234567: it was deleted"
            refused(words, read_weights, path, checksum)
    assert [path.name for path in kept(tmp_path)] == [f"vit_b_16-{good}.pth"]


def test_torchvision_says_where_its_files_are(hub, tmp_path, monkeypatch):
    content = pickle.dumps({}) * 1000
    file = f"vit_b_16-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    hub.files[f"release/{file}"] = content
    theirs = {"vit_b_16": [SimpleNamespace(url=f"{hub.address}/release/{file}")]}
    monkeypatch.setattr("torchvision.models.get_model_weights", theirs.get)
    found = WeightSet(f"torchvision/{file}")
    assert fetch(found)[0].read_bytes() == content
    monkeypatch.setitem(sys.modules, "torchvision.models", None)  # not asked again
    assert fetch(found)[0] == tmp_path / "torch/hub/checkpoints" / file
    assert len(downloads(hub)) == 1
    other = WeightSet("torchvision/vit_b_16-01234567.pth")
    refused("fetching .* needs torchvision.models: pip install", fetch, other)


def test_the_libraries_are_named_if_they_are_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("needs huggingface_hub: pip install 'course_vit", load, True)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "a.safetensors").touch()
    refused("reading .* needs safetensors", read_weights, tmp_path / "a.safetensors")


# The table


def test_the_sets_of_vit_and_deit_are_those_of_timm():
    from timm.models import get_arch_pretrained_cfgs

    for name in course_vit.list_models():
        if name.startswith("t2t_"):
            continue
        theirs = {
            known: cfg
            for known, cfg in get_arch_pretrained_cfgs(name).items()
            if cfg.hf_hub_id and cfg.num_classes == 1000
        }
        ours = [known for known in published_sets(name) if "tv_" not in known]
        assert ours == list(theirs)
        for known, cfg in theirs.items():
            found = WEIGHT_SETS[known]
            assert found.source == cfg.hf_hub_id
            assert (found.mean, found.std, found.crop) == (
                cfg.mean,
                cfg.std,
                cfg.crop_pct,
            )
            assert found.interpolation == cfg.interpolation
            assert (found.img_size,) * 2 == cfg.input_size[1:]
            assert found.classes == cfg.num_classes


def test_the_sets_of_torchvision_are_those_of_torchvision():
    import torchvision.models as peers

    names = {"base": "b", "large": "l", "huge": "h"}
    sets = {name: found for name, found in WEIGHT_SETS.items() if ".tv_" in name}
    picture = Image.fromarray(load_sample_images().images[0])
    assert len(sets) == 6
    for name, found in sets.items():
        size, patch = name.split("_")[1], name.split("_")[2].removeprefix("patch")
        weights = getattr(peers, f"ViT_{names[size].upper()}_{patch}_Weights")
        address = torchvision_address(found.source.removeprefix("torchvision/"))
        (theirs,) = (member for member in weights if member.url == address)
        expected = theirs.transforms()(picture)
        prepared = as_images(view(picture, found), found)[0]
        assert torch.allclose(prepared.cpu(), expected.cpu(), atol=1e-6)
        assert len(theirs.meta["categories"]) == found.classes
        with torch.device("meta"):
            model = course_vit.create_model(name.split(".")[0])
        count = sum(parameter.numel() for parameter in model.parameters())
        assert count == theirs.meta["num_params"]


def test_every_set_is_of_a_model_and_every_model_with_weights_has_one():
    models = course_vit.list_models()
    assert {name.split(".")[0] for name in WEIGHT_SETS} <= set(models)
    without = [name for name in models if not published_sets(name)]
    assert without == [
        "vit_tiny_patch32_224",
        "vit_large_patch14_224",
        "vit_huge_patch16_224",
        "vit_huge_patch32_224",
        "t2t_vit_14_resnext",
        "t2t_vit_14_wide",
    ]
    for name in without:
        refused(
            f"the course knows no published weights for {name}: choose a different",
            load,
            True,
            name,
        )


def test_a_set_for_larger_images_makes_a_larger_model(hub, monkeypatch, tmp_path):
    name = "t2t_vit_14.in1k_384"
    model = tiny("t2t_vit_14", img_size=384)
    t2t_file(model, tmp_path / "file")
    hub.files["release/a.pth.tar"] = (tmp_path / "file").read_bytes()
    found = replace(WEIGHT_SETS[name], source=f"{hub.address}/release/a.pth.tar")
    monkeypatch.setitem(WEIGHT_SETS, name, found)
    assert same(load(name, "t2t_vit_14"), model)


# Reading files


@pytest.fixture
def model():
    return tiny(num_classes=7)


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
    "model": lambda state: {"model": state, "optimizer": {"state": {}}},
    "averaged": lambda state: {
        "state_dict": {key: t + 1 for key, t in state.items()},
        "state_dict_ema": state,
    },
    "averaged DeiT": lambda state: {
        "model": {key: t + 1 for key, t in state.items()},
        "model_ema": state,
        "args": argparse.Namespace(lr=1e-3),
    },
    "parallel": lambda state: {
        "state_dict": OrderedDict((f"module.{key}", t) for key, t in state.items())
    },
    "nested": lambda state: {"model": {"state_dict": state}},
    "no average": lambda state: {"state_dict_ema": {}, "state_dict": state},
    "T2T, transferred": lambda state: {"net": state, "acc": 98.3, "epoch": 59},
    "torch's tutorial": lambda state: {"model_state_dict": state, "epoch": 3},
    "DeepSpeed": lambda state: {"module": state, "global_steps": 3},
    "any other key": lambda state: {"my_vit": state, "step": torch.ones(3)},
    "deeper": lambda state: {"run": {"ema": {"shadow": state}, "decay": 0.99}},
    "with an optimizer": lambda state: {
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3), 5: torch.ones(99)}}},
        "models": [state],
    },
    "in a tuple": lambda state: (3, state),
    "beside numbers": lambda state: {**state, "epoch": 3, 0: torch.ones(3)},
    "a head in a list": lambda state: in_a_list(state),
    "in a circle": lambda state: in_a_circle({"model": state, "also": state}),
}


def in_a_list(state):
    return {key.replace("head.", "head.1."): t for key, t in state.items()}


def in_a_circle(content):
    content["again"] = [content]
    return content


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_whatever_torch_saved_is_unwrapped(model, tmp_path, wrapping, legacy):
    path = tmp_path / "weights.pth.tar"
    content = WRAPPINGS[wrapping](model.state_dict())
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert same(load(path, num_classes=7), model)


@pytest.mark.parametrize(
    ("wrap", "places"),
    [
        (lambda one, two: {"model": one, "model_ema": two}, ["model", "model_ema"]),
        (lambda one, two: {"a": {"state_dict": one, "state_dict_ema": two}}, None),
        (
            lambda one, two: {
                "state_dict": wrapped(one, "net.") | wrapped(two, "ema.")
            },
            ["state_dict.net", "state_dict.ema"],
        ),
        (
            lambda one, two: (
                wrapped(one, "student.backbone.") | wrapped(two, "teacher.")
            ),
            ["student.backbone", "teacher"],
        ),
        (lambda one, two: [one, two], ["0", "1"]),
    ],
)
def test_one_of_several_models_is_chosen(model, tmp_path, wrap, places):
    path, other = tmp_path / "a.pth", tiny(num_classes=7)
    places = places or ["a.state_dict", "a.state_dict_ema"]
    torch.save(wrap(model.state_dict(), other.state_dict()), path)
    for place, right in zip(places, (model, other), strict=True):
        assert same(load(path, num_classes=7, entry=place), right)
        assert same(load(load_set(TINY, path, entry=place), num_classes=7), right)
    words = re.escape(f"has no model at 'optimizer': choose one of {places}")
    refused(words, load, path, num_classes=7, entry="optimizer")
    if "ema" in places[1]:
        words = f"{[places[1], places[0]]}, and the average {places[1]!r} was chosen:"
        words = rf"{re.escape(words)} for a different one, pass entry={places[0]!r}$"
        with pytest.warns(UserWarning, match=words):
            assert same(tiny(pretrained=path, num_classes=7), other)
    else:
        words = re.escape(f"models, {places}: choose one, as in entry={places[0]!r}")
        refused(words, load, path, num_classes=7)


def test_the_only_model_needs_no_entry(model, tmp_path):
    path = tmp_path / "a.pth"
    torch.save(model.state_dict(), path)
    refused("no model at 'ema': leave entry out", load, path, entry="ema")


def wrapped(state, wrapper):
    return {f"{wrapper}{key}": tensor for key, tensor in state.items()}


def test_a_head_of_several_layers_is_left_out(model, tmp_path):
    state = in_a_list(model.state_dict()) | {"head.0.weight": torch.ones(192)}
    torch.save(state, tmp_path / "a.pth")
    words = "the model has no such layers: head.1.weight, head.1.bias, head.0.weight$"
    with pytest.warns(UserWarning, match=words):
        tensors = read_weights(tmp_path / "a.pth")
    assert tensors.keys() == {key for key in model.state_dict() if key[:4] != "head"}


FOLDERS = {
    "one file": ["model.safetensors"],
    "HF Trainer": ["model.safetensors", "optimizer.pt", "training_args.bin"],
    "DeepSpeed": ["mp_rank_00_model_states.pt", "zero_pp_rank_0_optim_states.pt"],
    "a run": ["best.pth", "log.txt"],
    "parts": ["model.safetensors.index.json"],
}


@pytest.mark.parametrize("files", FOLDERS)
def test_the_weights_in_a_folder_are_found(model, tmp_path, files):
    state = model.state_dict()
    for name in FOLDERS[files]:
        (tmp_path / name).touch()
    place = tmp_path / FOLDERS[files][0]
    if files == "parts":
        places = {key: f"part-{len(key) % 2}.safetensors" for key in state}
        place.write_text(json.dumps({"weight_map": places}))
        for part in set(places.values()):
            own = {key: t for key, t in state.items() if places[key] == part}
            save_file(own, tmp_path / part)
    elif place.suffix == ".safetensors":
        save_file(state, place)
    else:
        torch.save({"module": state}, place)
    assert same(load(tmp_path, num_classes=7), model)
    assert same(load(place, num_classes=7), model)


def test_a_folder_without_one_file_of_weights_is_refused(model, tmp_path):
    refused("must hold one file of weights, found none: give the path", load, tmp_path)
    for name in ("a.pth", "b.pth", "notes.txt"):
        (tmp_path / name).touch()
    refused("must hold one file of weights, found a.pth, b.pth: give", load, tmp_path)
    index = tmp_path / "a.index.json"
    index.write_text(json.dumps({"weight_map": {"norm.bias": "c.safetensors"}}))
    refused(r"there is no file .*c\.safetensors$", load, tmp_path)
    index.write_text("{}")
    refused("a.index.json cannot be read", load, index)
    index.write_text(json.dumps({"weight_map": {}}))
    refused("a.index.json cannot be read .it lists no files.", load, index)


def test_safetensors_and_npz_are_read(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert same(load(str(tmp_path / "a.safetensors"), num_classes=7), model)
    save_npz(model, tmp_path / "a.npz")
    assert same(load(tmp_path / "a.npz", num_classes=7), model)


def test_the_tensors_of_safetensors_come_in_one_order(model, tmp_path):
    """The library gives them in a random one, and messages name them in turn."""
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert list(read_weights(tmp_path / "a.safetensors")) == sorted(model.state_dict())


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.SAFETENSORS", "0123abcd"])
def test_safetensors_are_known_by_what_is_inside(model, tmp_path, name):
    save_file(model.state_dict(), tmp_path / name)
    assert same(load(tmp_path / name, num_classes=7), model)


def test_a_file_that_may_not_be_read(model, tmp_path, monkeypatch):
    def refuse(*_, **options):
        raise PermissionError(13, "Permission denied")

    save_file(model.state_dict(), tmp_path / "a.safetensors")
    monkeypatch.setattr("pathlib.Path.open", refuse)
    refused("cannot be read: Permission denied$", load, tmp_path / "a.safetensors")


class Malice:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "npz", "npz pickle"])
def test_no_pickle_is_executed(model, tmp_path, kind):
    trap, path = tmp_path / "trap", tmp_path / "weights.pth"
    content = {"state_dict": model.state_dict(), "evil": Malice(trap)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif kind.startswith("np"):
        path = path.with_suffix(".npz")
        array = np.array([Malice(trap)], dtype=object)
        with path.open("wb") as file:
            np.savez(file, array=array) if kind == "npz" else pickle.dump(array, file)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    if kind == "npz pickle":
        refused("cannot be read .it is not a zip archive.: is it complete", load, path)
    else:
        words = "could run code and was not loaded; ask for a .safetensors file"
        message = refused(words, load, path)
        assert message.startswith(f"{path} contains more than tensors (")
        assert (".mkdir): it could" in message) == (kind in ("zip", "legacy"))
    assert not trap.exists()


def test_a_whole_model_is_refused_as_code(model, tmp_path):
    torch.save(model, tmp_path / "model.pth")
    refused(r"VisionTransformer\): it could run code", load, tmp_path / "model.pth")


def whole_files(model, folder):
    save_file(model.state_dict(), folder / "a.safetensors")
    save_npz(model, folder / "a.npz")
    torch.save(model.state_dict(), folder / "zip.pth")
    legacy = {"_use_new_zipfile_serialization": False}
    torch.save(model.state_dict(), folder / "legacy.pth.tar", **legacy)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.5, 0.99])
@pytest.mark.parametrize("number", range(4))
def test_a_truncated_file_is_refused(model, tmp_path, number, share):
    path = whole_files(model, tmp_path)[number]
    assert read_weights(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(
        r"cannot be read \(.+\): is it complete, and a file of weights.$", load, path
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz", ".bin", ".ckpt"])
def test_a_page_saved_in_place_of_a_file_is_refused(tmp_path, suffix):
    path = (tmp_path / "weights").with_suffix(suffix)
    path.write_text("<!DOCTYPE html><html>Not Found</html>" * 30)
    refused(r"cannot be read \(.+\): is it complete", load, path)


def test_what_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    for content, words in {
        (1, 2): "contains no tensors with names but a tuple",
        torch.ones(2): "contains no tensors with names but a Tensor",
    }.items():
        torch.save(content, path)
        refused(words, read_weights, path)
    torch.save({}, path)
    refused("contains no tensors with names", read_weights, path)
    torch.save({0: torch.ones(2)}, path)
    refused("contains no tensors with names but a dict", read_weights, path)
    two = {"a": torch.ones(2), "c": torch.ones(2)}  # no naming knows them: the most
    torch.save({"net": two, "b": torch.tensor(3)}, path)
    assert read_weights(path).keys() == two.keys()


def test_a_file_that_is_not_there(tmp_path):
    refused("there is no file", read_weights, tmp_path / "a.pth")
    words = f"a.pth' is neither a file nor a set: give a file .* of {TINY} .{SET}"
    refused(words, load, tmp_path / "a.pth")
    refused("'' is neither a file nor a set", load, "")
    os.mkfifo(tmp_path / "fifo")
    refused("fifo' is neither a file nor a set", load, tmp_path / "fifo")
    refused(".there is none.", load, "a.pth", "vit_tiny_patch32_224")


@pytest.mark.parametrize("content", [{}, []])
def test_what_contains_only_itself_is_refused(tmp_path, content):
    content.update(model=content) if content == {} else content.append(content)
    torch.save(content, tmp_path / "a.pth")
    refused("contains no tensors with names", read_weights, tmp_path / "a.pth")


def test_a_path_may_begin_at_home(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert same(load("~/a.safetensors", num_classes=7), model)
    assert read_weights("~/a.safetensors").keys() == model.state_dict().keys()


# One path, one read


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """The files of weights that Python opened; once read, a file is gone for all."""
    opened, really_open, read_bytes = [], open, Path.read_bytes

    def count(file, mode="r", *arguments, **options):
        ours = "r" in mode and str(file).startswith(str(tmp_path))
        if ours and os.path.getsize(file) > 1000:  # else a note of the hub's client
            opened.append(file)
        return really_open(file, mode, *arguments, **options)

    def read_and_remove(path):
        content = read_bytes(path)
        path.unlink()
        return content

    monkeypatch.setattr("builtins.open", count)
    monkeypatch.setattr("io.open", count)
    monkeypatch.setattr(Path, "read_bytes", read_and_remove)
    return opened


@pytest.mark.parametrize("kind", ["path", "npz", "torch", "name", "True"])
@pytest.mark.parametrize("how", ["create_model", "predict"])
def test_a_file_is_read_once(hub, opened, tmp_path, kind, how):
    published = tiny() if how == "create_model" else course_vit.create_model(TINY)
    publish(hub, published)
    save_file(published.state_dict(), tmp_path / "a.safetensors")
    save_npz(published, tmp_path / "a.npz")
    torch.save(published.state_dict(), tmp_path / "a.pth")
    pretrained = {
        "path": tmp_path / "a.safetensors",
        "npz": tmp_path / "a.npz",
        "torch": tmp_path / "a.pth",
        "name": SET,
        "True": True,
    }[kind]
    if how == "create_model":
        model = load(pretrained)
    else:
        weights = None if pretrained is True else str(pretrained)
        model, known = predict.load(TINY, weights=weights)
        assert known.classes == 1000
    assert same(model, published)
    assert len(opened) == 1


def test_what_was_loaded_makes_any_number_of_models(model, opened, tmp_path):
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    loaded = load_set(TINY, tmp_path / "a.safetensors")
    assert (loaded.how.naming, loaded.how.classes) == ("timm", 7)
    assert loaded.tensors.keys() == model.state_dict().keys()
    for _ in range(2):
        assert same(load(loaded, num_classes=7), model)
    assert len(opened) == 1


# Models


def test_a_set_for_another_model_is_refused():
    words = f"deit_tiny_patch16_224.fb_in1k is not for {TINY}: give a file"
    refused(words, load, "deit_tiny_patch16_224.fb_in1k")


def test_a_file_for_another_architecture_is_refused_with_names(tmp_path):
    save_file(
        tiny("deit_tiny_distilled_patch16_224").state_dict(), tmp_path / "a.safetensors"
    )
    with pytest.raises(ValueError, match="unexpected: dist_token, head_dist"):
        load(tmp_path / "a.safetensors")
    resnet = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match=r"no naming of .* has these keys: 0\.weight"):
        load(tmp_path / "resnet.pth")


def test_other_classes_are_said_once_in_a_warning(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    with pytest.warns(
        UserWarning, match=r"^head\.weight, head\.bias are newly init"
    ) as said:
        made = tiny(pretrained=tmp_path / "a.safetensors", num_classes=5)
    assert len(said) == 1
    assert said[0].filename == __file__
    assert torch.equal(made.pos_embed, model.pos_embed)
    assert made.head.weight.shape == (5, 192)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_are_fitted(model, tmp_path, channels):
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    made = load(tmp_path / "a.safetensors", num_classes=7, in_chans=channels)
    expected = adapt_input_conv(channels, model.patch_embed.proj.weight)
    assert torch.equal(made.patch_embed.proj.weight, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_default_dtype_takes_weights_and_stretches_positions(
    model, tmp_path, dtype
):
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    expected = load(tmp_path / "a.safetensors", num_classes=7, img_size=160)
    with default_dtype(dtype):
        made = load(tmp_path / "a.safetensors", num_classes=7, img_size=160)
    assert made.pos_embed.dtype == dtype
    assert same(made, expected.to(dtype))


def test_the_model_has_no_more_attributes_than_a_fresh_one(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    made = load(tmp_path / "a.safetensors", num_classes=7)
    assert vars(made).keys() == vars(model).keys()
    assert made.training


def test_another_size_stretches_by_the_policy_of_the_set(hub):
    published = tiny("deit_tiny_patch16_224")
    publish(hub, published, "deit_tiny_patch16_224.fb_in1k")
    made = load(True, "deit_tiny_patch16_224", img_size=160)
    expected = course_vit.resize_position_embedding(
        published.pos_embed, (10, 10), policy="deit"
    )
    assert torch.equal(made.pos_embed, expected)


def test_a_number_of_heads_that_is_not_the_published_one_is_refused(
    hub, model, tmp_path
):
    publish(hub, tiny())
    words = f"timm/{SET} has 3 heads, which its shapes do not show, got num_heads=12"
    with pytest.raises(ValueError, match=words):
        load(True, num_heads=12)
    save_npz(model, tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a.npz has 3 heads, .*, got num_heads=6"):
        load(tmp_path / "a.npz", num_classes=7, num_heads=6)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    made = load(tmp_path / "a.safetensors", num_classes=7, num_heads=12)
    assert made.blocks[0].attn.num_heads == 12


def test_a_file_from_jax_has_its_gelu_and_its_policy(model, tmp_path):
    save_npz(model, tmp_path / "a.npz")
    found = load_set(TINY, tmp_path / "a.npz").how
    assert (found.naming, found.policy, found.gelu) == ("jax", "jax", "tanh")
    assert (found.mean, found.norm_eps, found.classes) == ((0.5, 0.5, 0.5), 1e-6, 7)
    made = load(tmp_path / "a.npz", num_classes=7).eval()
    assert {block.mlp.act.approximate for block in made.blocks} == {"tanh"}
    from timm.models import VisionTransformer

    sizes = {"embed_dim": 192, "depth": 1, "num_heads": 3, "num_classes": 7}
    theirs = VisionTransformer(**sizes).eval()
    theirs.load_pretrained(str(tmp_path / "a.npz"))
    images = torch.randn(1, 3, 224, 224)
    exact = distance(answer(made, images), answer(theirs, images))
    theirs.blocks[0].mlp.act = nn.GELU(approximate="tanh")
    assert distance(answer(made, images), answer(theirs, images)) <= 2e-6 < exact


def test_a_file_of_transformers_has_its_eps_and_its_policy(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 192, "num_hidden_layers": 1, "num_attention_heads": 3}
    config = ViTConfig(**sizes, intermediate_size=768, num_labels=7)
    theirs = ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path)
    path, images = tmp_path / "model.safetensors", torch.randn(1, 3, 224, 224)
    made = load(path, num_classes=7).eval()
    assert distance(answer(made, images), answer(theirs, images)) <= 2e-5
    assert made.norm.eps == config.layer_norm_eps == 1e-12
    assert load(path, num_classes=7, norm_eps=1e-6).norm.eps == 1e-6
    found = load_set(TINY, path).how
    assert (found.naming, found.policy) == ("transformers", "transformers")


def test_a_file_of_torchvision_has_its_preprocessing(tmp_path):
    from torchvision.models import VisionTransformer

    sizes = {"num_layers": 1, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
    theirs = VisionTransformer(224, 16, **sizes, num_classes=7)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    found = load_set(TINY, tmp_path / "vit.pth").how
    assert (found.naming, found.policy) == ("torchvision", "torchvision")
    assert found.mean == (0.485, 0.456, 0.406)
    assert (found.crop, found.interpolation) == (0.875, "bilinear")
    load(tmp_path / "vit.pth", num_classes=7)


def test_a_set_is_known_without_being_fetched():
    assert weight_set(TINY) is weight_set(TINY, SET) is WEIGHT_SETS[SET]
    for name in course_vit.list_models():
        if sets := published_sets(name):
            assert weight_set(name) is WEIGHT_SETS[sets[0]]


@pytest.mark.parametrize(
    ("name", "eps"), [("deit_tiny_patch16_224", 1e-6), ("t2t_vit_7", 1e-5)]
)
def test_a_file_has_the_habits_of_its_family(tmp_path, name, eps):
    path = tmp_path / "a.safetensors"
    save_file(tiny(name).state_dict(), path)
    found = load_set(name, path).how
    assert (found.policy, found.norm_eps, found.mean[0]) == ("deit", eps, 0.485)
    unknown = {"num_heads": None, "grid_size": None}
    assert found == replace(weight_set(name), source=str(path), **unknown)
    assert load(path, name).norm.eps == eps


def test_a_published_file_is_known_by_its_name(tmp_path):
    model, path = tiny("t2t_vit_14", img_size=384), tmp_path / "83.3_T2T_ViT_14.pth.tar"
    t2t_file(model, path)
    published = WEIGHT_SETS["t2t_vit_14.in1k_384"]
    assert weight_set("t2t_vit_14", path) == replace(published, source=str(path))
    assert same(load(path, "t2t_vit_14"), model)
    words = "t2t_vit_14.in1k_384 is not for t2t_vit_14_resnext: .*there is none"
    refused(words, load, path, "t2t_vit_14_resnext")


def test_the_grid_of_a_published_table_is_square_and_that_of_a_file_its_own(
    hub, tmp_path
):
    """7 x 28 patches are as many as 14 x 14."""
    name, size = "deit_tiny_patch16_224", (112, 448)
    published = tiny(name)
    publish(hub, published, f"{name}.fb_in1k")
    stretched = course_vit.resize_position_embedding(
        published.pos_embed, (7, 28), policy="deit"
    )
    assert torch.equal(load(True, name, img_size=size).pos_embed, stretched)
    wide = tiny(name, img_size=size)
    save_file(wide.state_dict(), tmp_path / "wide.safetensors")
    assert same(load(tmp_path / "wide.safetensors", name, img_size=size), wide)


@pytest.mark.parametrize("nothing", [False, None])
def test_no_weights_asked_for(nothing):
    assert tiny(pretrained=nothing).head.weight.shape == (1000, 192)


@pytest.mark.parametrize("wrong", [0, {}, 1.5, [SET]])
def test_what_is_no_name_and_no_file_is_refused(wrong):
    words = f"True, the name of a set or a file, got {type(wrong).__name__}$"
    with pytest.raises(TypeError, match=words):
        load(wrong)


def test_a_model_that_nobody_knows_has_no_set(tmp_path):
    (tmp_path / "a.pth").touch()
    with pytest.raises(
        ValueError, match=r"there is no model 'vit_tiny_patch16' in list_models"
    ):
        weight_set("vit_tiny_patch16", tmp_path / "a.pth")
