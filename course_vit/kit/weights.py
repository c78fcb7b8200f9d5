"""Published weights: which there are, how to get them, how to read a file of them.

What is fetched is kept: from the Hugging Face hub in its cache, other files in torch's
folder of checkpoints. HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN, HF_HOME, TORCH_HOME and
the usual proxy variables are obeyed. No pickle is ever executed.
"""

import argparse
import hashlib
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..deit import DEIT_SIZES, DISTILLED_SIZES
from ..pretrained import NAMINGS, recognise_naming, rename_key
from ..t2t import T2T_SIZES
from ..vision_transformer import VIT_SIZES
from . import CourseError

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
T2T_RELEASE = "https://github.com/yitu-opensource/T2T-ViT/releases/download/main"


class WeightsError(CourseError):
    """Weights that cannot be had or read: which, why, and what to do."""


@dataclass(frozen=True)
class WeightSet:
    """One set of weights, and what has to be known to use it.

    `source` is a repository on the Hugging Face hub, `torchvision/` and a file of which
    torchvision knows the address, an address, or a path.
    `naming` and `policy` (of positions) are words of `convert_state_dict` and
    `resize_position_embedding`. Images are resized with `interpolation` (torchvision's
    word) so that the middle `img_size` pixels are the share `crop` of the shorter side,
    then scaled by `mean` and `std`. `gelu` is nn.GELU's `approximate`. The number of
    heads and the grid of the positions stand in no file of torch: None = not known.
    """

    source: str
    naming: str = "timm"
    policy: str = "timm"
    mean: tuple[float, float, float] = HALF
    std: tuple[float, float, float] = HALF
    crop: float = 0.9
    interpolation: str = "bicubic"
    img_size: int = 224
    classes: int = 1000
    norm_eps: float = 1e-6
    gelu: str = "none"
    num_heads: int | None = None
    grid_size: tuple[int, int] | None = None

    @property
    def sha256(self) -> str | None:
        """The first digits of the checksum, if the file's name publishes them.

        The hub announces its checksums with each file; T2T-ViT publishes none.
        """
        found = re.search(r"-([0-9a-f]{8,64})\.[a-z]+$", self.source)
        return found[1] if found else None


# --- The published sets ---

_OF_IMAGENET: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}

# On the hub under `timm/`; the first is timm's default. Trained in JAX with a GELU by
# tanh; timm runs them with the exact one: a difference of 5e-4 std of the logits.
_VIT_TAGS = {
    "vit_tiny_patch16_224": "augreg_in21k_ft_in1k",
    "vit_small_patch16_224": "augreg_in21k_ft_in1k augreg_in1k",
    "vit_small_patch32_224": "augreg_in21k_ft_in1k",
    "vit_base_patch8_224": "augreg2_in21k_ft_in1k augreg_in21k_ft_in1k",
    "vit_base_patch16_224": "augreg2_in21k_ft_in1k augreg_in21k_ft_in1k"
    " orig_in21k_ft_in1k augreg_in1k sam_in1k",
    "vit_base_patch16_384": "augreg_in21k_ft_in1k orig_in21k_ft_in1k augreg_in1k",
    "vit_base_patch32_224": "augreg_in21k_ft_in1k augreg_in1k sam_in1k",
    "vit_large_patch16_224": "augreg_in21k_ft_in1k",
}

# torchvision's: file, share of the shorter side, interpolation. Those called swag may
# not be used commercially (CC BY-NC 4.0).
_TORCHVISION_FILES = {
    "vit_base_patch16_224.tv_in1k": ("vit_b_16-c867db91", 224 / 256, "bilinear"),
    "vit_base_patch16_384.tv_swag_in1k": ("vit_b_16_swag-9ac1b537", 1.0, "bicubic"),
    "vit_base_patch32_224.tv_in1k": ("vit_b_32-d86f8d99", 224 / 256, "bilinear"),
    "vit_large_patch16_224.tv_in1k": ("vit_l_16-852ce7e3", 224 / 242, "bilinear"),
    "vit_large_patch32_224.tv_in1k": ("vit_l_32-c7638314", 224 / 256, "bilinear"),
    "vit_huge_patch14_224.tv_swag_lc_in1k": (
        *("vit_h_14_lc_swag-c1eb923e", 1.0, "bicubic"),
    ),
}

_DEIT = [
    f"deit_{size}_{patch}"
    for patch in ("patch16_224", "distilled_patch16_224")
    for size in ("tiny", "small", "base")
] + ["deit_base_patch16_384", "deit_base_distilled_patch16_384"]

_T2T_FILES = {
    "t2t_vit_7.in1k": "71.7_T2T_ViT_7",
    "t2t_vit_10.in1k": "75.2_T2T_ViT_10",
    "t2t_vit_12.in1k": "76.5_T2T_ViT_12",
    "t2t_vit_14.in1k": "81.5_T2T_ViT_14",
    "t2t_vit_14.in1k_384": "83.3_T2T_ViT_14",
    "t2t_vit_19.in1k": "81.9_T2T_ViT_19",
    "t2t_vit_24.in1k": "82.3_T2T_ViT_24",
    "t2t_vit_t_14.in1k": "81.7_T2T_ViTt_14",
    "t2t_vit_t_19.in1k": "82.4_T2T_ViTt_19",
    "t2t_vit_t_24.in1k": "82.6_T2T_ViTt_24",
}


# What the code that a file of weights comes from does otherwise than its family.
_OF_FILES: dict[str, dict[str, Any]] = {
    "timm": {},
    "t2t": {},
    "torchvision": {
        **_OF_IMAGENET,
        "policy": "torchvision",
        "crop": 224 / 256,
        "interpolation": "bilinear",
    },
    "transformers": {"policy": "transformers", "norm_eps": 1e-12},
    "jax": {"policy": "jax", "gelu": "tanh"},
}

_SIZES: dict[str, dict[str, Any]] = {
    **VIT_SIZES,
    **DEIT_SIZES,
    **DISTILLED_SIZES,
    **T2T_SIZES,
}
_FAMILIES = {
    "vit": WeightSet(""),
    "deit": WeightSet("", policy="deit", **_OF_IMAGENET),
    "t2t": WeightSet("", "t2t", "deit", norm_eps=1e-5, **_OF_IMAGENET),
}


def _of_model(name: str, **known: Any) -> WeightSet:
    """What all sets for a model share, its sizes and its family's habits."""
    sizes = _SIZES[name]
    if name.endswith("384"):
        known = {"img_size": 384, "crop": 1.0, **known}
    family = _FAMILIES[name.split("_")[0]]
    found = replace(family, num_heads=sizes["num_heads"], **known)
    side = found.img_size // sizes.get("patch_size", 16)
    return replace(found, grid_size=(side, side))


def _published() -> Iterator[tuple[str, WeightSet]]:
    for model, tags in _VIT_TAGS.items():
        for tag in tags.split():
            name = f"{model}.{tag}"
            yield name, _of_model(model, source=f"timm/{name}")
    for name, (file, crop, interpolation) in _TORCHVISION_FILES.items():
        how = _OF_FILES["torchvision"] | {"crop": crop, "interpolation": interpolation}
        how |= {"source": f"torchvision/{file}.pth", "naming": "torchvision"}
        yield name, _of_model(name.split(".")[0], **how)
    for model in _DEIT:
        name = f"{model}.fb_in1k"
        yield name, _of_model(model, source=f"timm/{name}")
    for name, file in _T2T_FILES.items():
        size = 384 if name.endswith("384") else 224  # README: only the size differs
        source = f"{T2T_RELEASE}/{file}.pth.tar"
        yield name, _of_model(name.split(".")[0], source=source, img_size=size)


WEIGHT_SETS: dict[str, WeightSet] = dict(_published())

# Sets by the names of their files; on the hub all files have the same name.
_BY_FILE = {
    known.source.split("/")[-1]: name
    for name, known in WEIGHT_SETS.items()
    if not known.source.startswith("timm/")
}


def published_sets(name: str) -> list[str]:
    """The names of the sets for a model; the first is its default."""
    return [known for known in WEIGHT_SETS if known.split(".")[0] == name]


def weight_set(name: str, pretrained: bool | str | Path = True) -> WeightSet:
    """The weights for the model `name`; of the published ones nothing is fetched yet.

    `pretrained` is True (the default set), the name of a set, or a file; a file that
    still has its published name is known by it. Raises WeightsError if there are none
    or a file cannot be read, ValueError for an unknown model, or for a file if nobody
    knows the names in it, TypeError for what is no name and no path.
    """
    if not isinstance(pretrained, bool | str | Path):
        rule = "pretrained must be True, the name of a set or a file"
        raise TypeError(f"{rule}, got {type(pretrained).__name__}")
    if name not in _SIZES:
        raise ValueError(f"name must be one of list_models(), got {name!r}")
    sets = published_sets(name)
    known = f"the sets of {name} are {', '.join(sets)}" if sets else "it has no set"
    if pretrained is True and not sets:
        todo = "take another model, or give the path of a file"
        raise WeightsError(f"the course knows no published weights for {name}: {todo}")
    chosen = sets[0] if pretrained is True else str(pretrained)
    path = Path(chosen).absolute()
    if chosen not in WEIGHT_SETS and not path.is_file():
        what = "is a folder, give a file" if path.is_dir() else "is no file and no set"
        raise WeightsError(f"{chosen!r} {what}: {known}")
    published = chosen if chosen in WEIGHT_SETS else _BY_FILE.get(path.name)
    if published is None:
        return set_of_file(name, path, read_weights(path))
    if published not in sets:
        raise WeightsError(f"{published} is not for {name}: {known}")
    found = WEIGHT_SETS[published]
    return found if chosen == published else replace(found, source=str(path))


def set_of_file(name: str, path: Path, weights: Mapping[str, Tensor]) -> WeightSet:
    """What a file of weights is, as far as its keys and the name of the model tell.

    No file says how its images were prepared: that is what the family of the model does
    and, for torchvision's names, torchvision. (The processor of transformers squeezes
    the whole image into the square; that is not imitated.) Raises ValueError if nobody
    knows its keys.
    """
    naming = recognise_naming(weights)
    names = {rename_key(key, NAMINGS[naming]): key for key in weights}
    known: dict[str, Any] = {
        "source": str(path),
        "naming": naming,
        "classes": len(weights[names["head.bias"]]) if "head.bias" in names else 0,
        "num_heads": None,
        **_OF_FILES[naming],
    }
    if naming == "jax":  # only there, heads have an axis of their own
        for key, tensor in weights.items():
            if key.endswith("query/kernel") and tensor.ndim == 3:
                known["num_heads"] = tensor.shape[1]
    return replace(_of_model(name), grid_size=None, **known)


# --- Fetching ---


def fetch(weight_set: WeightSet) -> Path:
    """The file of a set: what is a path already, or the cache has, or else its server.

    A broken connection is taken up where it broke; what is incomplete is never kept. A
    checksum is verified each time if the file's name tells it, or the hub's cache,
    which keeps files by their checksums where there are symbolic links. Raises
    WeightsError: why there is no file, and what to do.
    """
    if Path(weight_set.source).is_absolute():
        return Path(weight_set.source)
    source = weight_set.source
    from_hub = "://" not in source and not source.startswith("torchvision/")
    try:
        path = _from_hub(source) if from_hub else _from_address(source)
    except ImportError as error:
        todo = "pip install 'course_vit[course]'"
        raise WeightsError(f"weights are fetched by {error.name}: {todo}") from error
    except Exception as error:  # each version of the hub's client has its own errors
        todo = "or get the file in another way and give its path"
        raise WeightsError(
            f"{source} was not fetched: {_why(error)}; {todo}"
        ) from error
    kept = path.resolve()  # the hub's cache calls what it keeps by its checksum
    announced = kept.name if from_hub and len(kept.name) == 64 else weight_set.sha256
    if announced and not _sha256(kept).startswith(announced):
        for damaged in {path, kept} if from_hub else {path}:
            damaged.unlink()
        wrong = f"{path} is not what was published, its checksum is not {announced}"
        raise WeightsError(f"{wrong}: it was deleted, run this again")
    return path


def _from_hub(repository: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, "model.safetensors"))


def torchvision_address(file: str) -> str:
    """Where torchvision says that a file of its weights is."""
    from torchvision.models import get_model_weights

    addresses = [weights.url for weights in get_model_weights(file[:8])]  # vit_b_16
    return next(address for address in addresses if address.endswith(f"/{file}"))


def _from_address(source: str) -> Path:
    """A file by its address, kept where torch.hub and torchvision look for it, too."""
    from huggingface_hub.file_download import http_get

    file = source.split("/")[-1]
    path = Path(torch.hub.get_dir(), "checkpoints", file)
    if not path.exists():
        address = source if "://" in source else torchvision_address(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as opened:
                http_get(address, opened)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def _why(error: BaseException) -> str:
    """Why nothing came, in a few words, and what helps."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalEntryNotFoundError):
        error = error.__cause__ or error
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, OfflineModeIsEnabled):
        return "it is not in the cache and HF_HUB_OFFLINE is set, unset it once"
    if status in (401, 403):
        return f"the server wants a token or has no such thing ({status}), see HF_TOKEN"
    if status == 404:
        return "the server has no such file (404)"
    if status:
        return f"the server answered {status}, try again later"
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename:
        return f"it cannot be kept ({reason})"
    return f"no connection, or it broke ({reason[:160]}), try again with a network"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


# --- Reading ---

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "net")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by their names, on the CPU.

    A `.safetensors`, a `.npz`, or whatever torch saved (`.pth`, `.pth.tar`, `.bin`), of
    which the averaged weights (`state_dict_ema`, `model_ema`) come before the last
    ones. Raises WeightsError for what is missing, damaged, or more than tensors:
    nothing in the file is executed.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    try:
        content = _content(path)
    except ImportError as error:
        todo = f"pip install {error.name}"
        raise WeightsError(f"{path} is read by {error.name}: {todo}") from error
    except Exception as error:  # each format has its own errors
        raise WeightsError(f"{path} {_what_is_wrong(error)}") from error
    while isinstance(content, dict):
        inside = [content[key] for key in _WRAPPERS if key in content]
        filled = [part for part in inside if isinstance(part, dict) and part]
        if not filled:
            break
        content = filled[0]
    if not isinstance(content, dict) or not content:
        got = type(content).__name__
        raise WeightsError(f"{path} holds no tensors by name, only one {got}")
    if others := [str(key) for key in content if not isinstance(content[key], Tensor)]:
        found = f"{', '.join(others[:8])} ({len(others)} of {len(content)})"
        todo = "save the state dict of the model alone"
        raise WeightsError(f"{path} holds more than tensors: {found}; {todo}")
    return content


def _content(path: Path) -> Any:
    """What the file holds, read without running any of it."""
    with path.open("rb") as file:
        start = file.read(9)
    if path.suffix == ".safetensors" or start[8:] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix == ".npz":
        import numpy as np

        if not zipfile.is_zipfile(path):
            raise ValueError("no zip archive")
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}
    # Training scripts save their options, too: a Namespace only holds attributes.
    torch.serialization.add_safe_globals([argparse.Namespace])
    return torch.load(path, map_location="cpu", weights_only=True)


def _what_is_wrong(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    code = re.search(r"GLOBAL ([\w.]+)", reason)
    if code or "allow_pickle" in reason or "pickle protocol" in reason:
        what = f", {code[1]}" if code else ""
        todo = "ask for safetensors, or for the weights alone"
        return (
            f"holds more than tensors{what}: it could run code, so stays shut; {todo}"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    reason = reason.split("WeightsUnpickler error: ")[-1].split(" Check the doc")[0]
    return f"cannot be read ({reason[:80]}): is it whole, and a file of weights?"
