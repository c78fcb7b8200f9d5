"""Published weights: which sets exist, how to fetch them, how to read a file.

Fetched files are kept: those of the Hugging Face hub in its cache, all others in
torch's folder of checkpoints. The variables HF_HUB_OFFLINE, HF_ENDPOINT, HF_TOKEN,
HF_HOME and TORCH_HOME and the usual proxy variables are respected. No pickle is ever
executed.
"""

import argparse
import hashlib
import json
import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..deit import DEIT_SIZES, DISTILLED_SIZES
from ..pretrained import (
    NAMINGS,
    convert_state_dict,
    recognise_naming,
    rename_key,
)
from ..t2t import T2T_SIZES
from ..vision_transformer import VIT_SIZES
from . import CourseError

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
T2T_RELEASE = "https://github.com/yitu-opensource/T2T-ViT/releases/download/main"

SIZES: dict[str, dict[str, Any]] = {
    **VIT_SIZES,
    **DEIT_SIZES,
    **DISTILLED_SIZES,
    **T2T_SIZES,
}


class WeightsError(CourseError):
    """Says which weights cannot be fetched or read, why, and what to do."""


@dataclass(frozen=True)
class WeightSet:
    """A set of weights: where the file is, and what you must know to use it.

    source: a repository on the Hugging Face hub, `torchvision/` and the name of one of
        torchvision's files, an address, or an absolute path.
    naming: the `naming` of `convert_state_dict`; None = the file was not read yet.
    policy: how positions are stretched, the `policy` of `resize_position_embedding`.
    mean, std: mean and standard deviation by which the channels of an image,
        between 0 and 1, are normalised.
    crop: which share of the shorter side the middle `img_size` pixels cover.
    interpolation: how images are resized, in torchvision's words.
    img_size, norm_eps: arguments of the model.
    classes: how many classes the head has; 0 = no head.
    gelu: `approximate` of nn.GELU.
    num_heads, grid_size: the heads of the model and the grid of its table of positions;
        None = not known, because torch's files do not contain them.
    """

    source: str
    naming: str | None = "timm"
    policy: str = "timm"
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    crop: float = 0.9
    interpolation: str = "bicubic"
    img_size: int = 224
    classes: int = 1000
    norm_eps: float = 1e-6
    gelu: str = "none"
    num_heads: int | None = None
    grid_size: tuple[int, int] | None = None


class LoadedSet(NamedTuple):
    """The tensors of a file under our names, with the settings that belong to them."""

    how: WeightSet
    tensors: dict[str, Tensor]


# --- The published sets ---

_OF_IMAGENET: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}

# On the hub under `timm/`; the first is timm's default. They were trained in JAX with
# the tanh GELU; timm runs them with the exact one, which moves logits by 5e-4 std.
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

# torchvision's: file, crop, interpolation. Those called swag may not be used
# commercially (CC BY-NC 4.0).
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


# Settings in which the code that wrote a file differs from the family of its model.
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

_OF_FAMILIES: dict[str, dict[str, Any]] = {
    "vit": {},
    "deit": {"policy": "deit", **_OF_IMAGENET},
    "t2t": {"policy": "deit", "norm_eps": 1e-5, **_OF_IMAGENET},
}


def of_model(name: str, source: str, **known: Any) -> WeightSet:
    """Make the set of a model: `known` settings, else those of its size and family."""
    larger = {"img_size": 384, "crop": 1.0} if name.endswith("384") else {}
    heads = {"num_heads": SIZES[name]["num_heads"]}
    family = _OF_FAMILIES[name.split("_")[0]]
    found = WeightSet(source, **family | larger | heads | known)
    side = found.img_size // SIZES[name].get("patch_size", 16)
    return replace(found, grid_size=(side, side))


def _published() -> Iterator[tuple[str, WeightSet]]:
    for model, tags in _VIT_TAGS.items():
        for tag in tags.split():
            name = f"{model}.{tag}"
            yield name, of_model(model, source=f"timm/{name}")
    for name, (file, crop, interpolation) in _TORCHVISION_FILES.items():
        how = _OF_FILES["torchvision"] | {"crop": crop, "interpolation": interpolation}
        source, model = f"torchvision/{file}.pth", name.split(".")[0]
        yield name, of_model(model, source=source, naming="torchvision", **how)
    for model in _DEIT:
        name = f"{model}.fb_in1k"
        yield name, of_model(model, source=f"timm/{name}")
    for name, file in _T2T_FILES.items():
        size = 384 if name.endswith("384") else 224  # README: only the size differs
        source = f"{T2T_RELEASE}/{file}.pth.tar"
        yield name, of_model(name.split(".")[0], source=source, img_size=size)


WEIGHT_SETS: dict[str, WeightSet] = dict(_published())

# Sets by the names of their files; on the hub all files have the same name.
_BY_FILE = {
    known.source.split("/")[-1]: name
    for name, known in WEIGHT_SETS.items()
    if not known.source.startswith("timm/")
}


def published_sets(name: str) -> list[str]:
    """Return the names of the sets for the model `name`; the first is its default."""
    return [known for known in WEIGHT_SETS if known.split(".")[0] == name]


# --- From a name to weights in memory ---


def load_set(
    name: str, pretrained: bool | str | Path = True, entry: str = ""
) -> LoadedSet:
    """Find, fetch, read and convert weights for the model `name`; a file is read once.

    The arguments and errors are those of `weight_set`, `fetch` and `read_weights`. No
    file says how its images were prepared, but a `config.json` beside it may
    (`settings_beside`). Otherwise, if the course does not know a file by its name, it
    assumes what the family of the model does, or what torchvision does if the keys are
    torchvision's. (The processor of transformers squeezes the whole image into
    a square; this is not imitated.) Raises ValueError if no naming has the keys of the
    file, and the other errors of `convert_state_dict`.
    """
    how = weight_set(name, pretrained)
    path, checksum = fetch(how)
    theirs = read_weights(path, checksum=checksum, entry=entry)
    naming = how.naming or recognise_naming(theirs)
    tensors = convert_state_dict(theirs, naming)
    if how.naming is None:
        heads = [  # only in JAX's files, heads have an axis of their own
            tensor.shape[1]
            for key, tensor in theirs.items()
            if key.endswith("query/kernel")
        ]
        how = replace(
            how,
            naming=naming,
            classes=sum(tensors["head.weight"].shape[:1])
            if "head.weight" in tensors
            else 0,
            num_heads=heads[0] if heads else None,
            **_OF_FILES[naming],
        )
    if Path(how.source).is_absolute():
        how = replace(how, **settings_beside(path))
    return LoadedSet(how, tensors)


def settings_beside(path: Path) -> dict[str, Any]:
    """How images are prepared, from a `config.json` of timm beside a file of weights.

    Returns settings of a `WeightSet`, or {} if there is no such file. `path` is that of
    the file of weights, or its folder.
    """
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        known = json.loads(file.read_text("utf-8"))["pretrained_cfg"]
        return {
            "mean": tuple(map(float, known["mean"])),
            "std": tuple(map(float, known["std"])),
            "crop": float(known["crop_pct"]),
            "interpolation": str(known["interpolation"]),
            "img_size": int(known["input_size"][-1]),
        }
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def weight_set(name: str, pretrained: bool | str | Path = True) -> WeightSet:
    """Choose the set of weights for the model `name`; nothing is fetched or read.

    `pretrained` is True (the default set), the name of a set, or a file or folder; a
    file that still has its published name is recognised by it. Raises WeightsError if
    there are no such weights, ValueError if the model is unknown, and TypeError if
    `pretrained` has any other type.
    """
    if not isinstance(pretrained, bool | str | Path):
        got = type(pretrained).__name__
        raise TypeError(
            f"pretrained must be True, the name of a set or a file, got {got}"
        )
    check_name(name)
    sets = published_sets(name)
    if pretrained is True and not sets:
        raise WeightsError(
            f"the course knows no published weights for {name}: choose a different"
            " model, or give the path of a file"
        )
    if pretrained is True:
        return WEIGHT_SETS[sets[0]]
    chosen = str(pretrained)
    path = Path(chosen).expanduser().absolute()
    published = chosen if chosen in WEIGHT_SETS else _BY_FILE.get(path.name)
    known = ", ".join(sets) or "there is none"
    if chosen != published and not (chosen and (path.is_file() or path.is_dir())):
        raise WeightsError(
            f"{chosen!r} is neither a file nor a set: give a file of weights, or a set"
            f" of {name} ({known})"
        )
    if published is None:
        found = of_model(name, str(path), naming=None, num_heads=None)
        return replace(found, grid_size=None)
    if published not in sets:
        raise WeightsError(
            f"{published} is not for {name}: give a file of weights, or a set of {name}"
            f" ({known})"
        )
    found = WEIGHT_SETS[published]
    return found if chosen == published else replace(found, source=str(path))


def check_name(name: str) -> None:
    """Raise ValueError if no model has this name; the message lists similar names.

    Raises TypeError if the name is not a string.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a model must be a string, got {name!r}")
    if name not in SIZES:
        close = get_close_matches(name, SIZES, cutoff=0.4) or SIZES
        raise ValueError(
            f"there is no model {name!r} in list_models(): choose one of"
            f" {', '.join(close)}"
        )


# --- Fetching ---


def fetch(weight_set: WeightSet) -> tuple[Path, str]:
    """Get the file of a set from the cache or else from its server, and its checksum.

    A broken download is resumed where it broke, and an incomplete file is never kept.
    The checksum is the published one or its first digits, or "" if none was published,
    as for T2T-ViT. If the source of a set is a path, nothing is fetched, and the
    checksum is "". Raises WeightsError, which says why there is no file and what to do.
    """
    source = weight_set.source
    if Path(source).is_absolute():
        return Path(source), ""
    from_hub = "://" not in source and not source.startswith("torchvision/")
    try:
        return _from_hub(source) if from_hub else _from_address(source)
    except ImportError as error:
        raise WeightsError(
            f"fetching {source} needs {error.name}: pip install 'course_vit[course]'"
        ) from error
    except Exception as error:  # each version of the hub's client has its own errors
        raise WeightsError(
            f"{source} was not fetched: {_why(error)}; or get the file in a different"
            " way and give its path"
        ) from error


def _from_hub(repository: str) -> tuple[Path, str]:
    """Get a file of the hub and its checksum.

    On a system with symbolic links the cache names a file by its checksum, and a
    readable name is a link to it. So the path of the file itself is returned.
    """
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )

    file = "model.safetensors"
    if not isinstance(try_to_load_from_cache(repository, file), str):
        # Without a network this fails at once, and the download after 30 seconds.
        get_hf_file_metadata(hf_hub_url(repository, file))
    path = Path(hf_hub_download(repository, file)).resolve()
    return path, path.name if re.fullmatch("[0-9a-f]{64}", path.name) else ""


def torchvision_address(file: str) -> str:
    """Return the address from which torchvision fetches a file of its weights."""
    from torchvision.models import get_model_weights

    addresses = [weights.url for weights in get_model_weights(file[:8])]  # vit_b_16
    return next(address for address in addresses if address.endswith(f"/{file}"))


def _from_address(source: str) -> tuple[Path, str]:
    """Get a file by its address and keep it where torch.hub and torchvision look, too.

    The names of torchvision's files end in the first digits of the checksum.
    """
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
    checksum = re.search(r"-([0-9a-f]{8,64})\.pth$", file)
    return path, checksum[1] if checksum else ""


def _why(error: BaseException) -> str:
    """Say in a few words why nothing was fetched, and what helps."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalEntryNotFoundError):
        error = error.__cause__ or error
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, OfflineModeIsEnabled):
        return "it is not in the cache and HF_HUB_OFFLINE is set, so unset it once"
    if status in (401, 403):
        return f"the server wants a token or has no such file ({status}), see HF_TOKEN"
    if status == 404:
        return "the server has no such file (404)"
    if status:
        return f"the server answered {status}, so try again later"
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename:
        return f"it cannot be kept ({reason})"
    return f"there is no connection, or it broke ({reason[:160]}), so try again"


# --- Reading ---


def read_weights(
    path: str | Path, checksum: str = "", entry: str = ""
) -> dict[str, Tensor]:
    """Read the tensors of a model by their names, on the CPU.

    The file is a `.safetensors`, a `.npz`, or a file that torch saved (`.pth`,
    `.pth.tar`, `.bin`). The path may also be a folder with one such file, or with the
    parts of one and their index. `checksum` is that of a fetched file or its first
    digits; if the file has a different one, it is deleted.

    A training script saves more than the weights. The weights are the dictionary, at
    any depth, and the wrapper in it (`rename_key`) with the most known keys. If there
    are several models, `entry` chooses one by its place, for example "model" or
    "teacher.backbone". Without `entry` an average (`model_ema`) is chosen, like in
    timm, and a UserWarning says so. A UserWarning also lists the keys that were left
    out: those beside the model, and the decoder, mask token and head of a pretraining.

    Raises WeightsError if the file is missing or damaged, if it holds more than tensors
    (nothing in it is executed), or if it holds several models and none was chosen.
    """
    content, *parts = [_read(f, checksum) for f in _files(Path(path).expanduser())]
    for part in parts:
        content = {**content, **part}
    models = {model.place: model for model in _models(content)}
    if not models:
        got = type(content).__name__
        raise WeightsError(
            f"{path} contains no tensors with names but a {got}: save the state dict of"
            " the model"
        )
    chosen = [p for p in models if not entry or f"{p}.".startswith(f"{entry}.")]
    averages = [place for place in chosen if "ema" in re.split(r"\W|_", place.lower())]
    if not chosen:
        places = [place for place in models if place]
        todo = f"choose one of {places}" if places else "leave entry out"
        raise WeightsError(f"{path} has no model at {entry!r}: {todo}")
    if len(chosen) > 1 and len(averages) != 1:
        raise WeightsError(
            f"{path} holds several models, {chosen}: choose one, as in"
            f" entry={chosen[0]!r}"
        )
    if len(chosen) > 1:
        chosen.remove(averages[0])
        warnings.warn(
            f"{path} holds several models, {[*averages, *chosen]}, and the average"
            f" {averages[0]!r} was chosen: for a different one, pass"
            f" entry={chosen[0]!r}",
            UserWarning,
            stacklevel=2,
        )
    model = models[[*averages, *chosen][0]]
    if model.left:
        more = f" and {len(model.left) - 8} more" if len(model.left) > 8 else ""
        warnings.warn(
            f"{path}: some keys were left out, since the model has no such layers:"
            f" {', '.join(model.left[:8])}{more}",
            UserWarning,
            stacklevel=2,
        )
    return model.tensors


_KINDS = (".safetensors", ".npz", ".bin", ".pt", ".pth", ".tar", ".ckpt", ".index.json")


def _files(path: Path) -> list[Path]:
    """Return the file itself, the one in a folder, or the parts that an index lists."""
    if path.is_dir():
        files = [file for file in sorted(path.glob("*")) if file.name.endswith(_KINDS)]
        for kind in ("*.index.json", "*.safetensors", "*model*", "*"):
            if found := [file for file in files if file.match(kind)]:
                break
        if len(found) != 1:
            names = ", ".join(file.name for file in found[:8]) or "none"
            raise WeightsError(
                f"the folder {path} must hold one file of weights, found {names}: give"
                " the path of a file"
            )
        path = found[0]
    if not path.name.endswith(".index.json"):
        return [path]
    try:
        parts = set(json.loads(path.read_text("utf-8"))["weight_map"].values())
        if not parts:
            raise ValueError("it lists no files")
        return [path.with_name(Path(part).name) for part in sorted(parts)]
    except Exception as error:
        raise _refusal(path, error) from error


def _read(path: Path, checksum: str) -> Any:
    """Return what one file contains, after checking its checksum."""
    if not path.is_file():
        raise WeightsError(f"check the path: there is no file {path}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if checksum and not hashlib.sha256(content).hexdigest().startswith(checksum):
        path.unlink()
        raise WeightsError(
            f"{path} is not what was published, since its checksum is not {checksum}:"
            " it was deleted, so run this again to fetch it anew"
        )
    try:
        return _parsed(content, path.suffix)
    except Exception as error:  # each format has its own errors
        raise _refusal(path, error) from error


class _Model(NamedTuple):
    """A model in a file: its place, known keys, tensors, and keys that were left out.

    A place joins the keys of nested dictionaries and the wrapper in the last of them,
    for example "state_dict.teacher.backbone".
    """

    place: str
    known: int
    tensors: dict[str, Tensor]
    left: list[str]


def _models(content: Any) -> list[_Model]:
    """Find the models in the content of a file.

    Each has at least half as many known keys as the best of them. If no key is known,
    the largest dictionary is returned.
    """
    found = [
        model
        for place, tensors in _dictionaries(content)
        for model in _models_side_by_side(place, tensors)
    ]
    most = max((model.known for model in found), default=0)
    if found and not most:
        return [max(found, key=lambda model: len(model.tensors))]
    return [model for model in found if 2 * model.known >= most]


def _models_side_by_side(
    outer: list[str], tensors: dict[str, Tensor]
) -> Iterator[_Model]:
    """Yield each model in one dictionary, one for each wrapper of a patch embedding.

    Keys with an outer wrapper belong to the model, too, like the `head` of a class
    around a `backbone`. So does an unknown key inside the wrapper, since it may be a
    layer that changes the result.
    """
    tensors = _without_list(tensors)
    by_naming = [{key: rename_key(key, w) for key in tensors} for w in NAMINGS.values()]
    split = max(
        by_naming, key=lambda split: sum(name != "" for _, name in split.values())
    )
    known = Counter(wrapper for wrapper, name in split.values() if name)
    starts = ("patch_embed.proj.weight", "tokens_to_token.project.weight")
    inner = [wrapper for wrapper, name in split.values() if name in starts]
    inner = [w for w in inner if sum(i.startswith(w) for i in inner) == 1]
    if not inner:
        yield _Model(".".join(outer), sum(known.values()), tensors, [])
    for wrapper in inner:
        others = tuple(w for w in inner if w != wrapper)
        own, left = {}, []
        for key, (place, name) in split.items():
            inside = place.startswith(wrapper) and not re.match(
                r"head\.|.*(mask_token|decoder)", place[len(wrapper) :]
            )
            if inside or (name and wrapper.startswith(place)):
                own[key] = tensors[key]
            elif not place.startswith(others):
                left.append(key)
        place = ".".join([*outer, wrapper]).strip(".")
        yield _Model(place, known[wrapper], own, left)


def _without_list(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a head in a list, "head.1.weight", if it is the only layer in there."""
    pattern = r"\b(heads?|head_dist|classifier)\.\d+\."
    renamed = {re.sub(pattern, r"\1.", key): t for key, t in tensors.items()}
    return renamed if len(renamed) == len(tensors) else tensors


def _dictionaries(content: Any) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
    """Yield each dictionary of tensors by names, with the keys that lead to it."""
    waiting: list[tuple[list[str], Any]] = [([], content)]
    seen = set()  # a dictionary may contain itself
    for place, inside in waiting:
        if not isinstance(inside, dict | list | tuple) or id(inside) in seen:
            continue
        seen.add(id(inside))
        if not isinstance(inside, dict):
            inside = {str(number): value for number, value in enumerate(inside)}
        waiting += [([*place, str(key)], value) for key, value in inside.items()]
        tensors = {key: t for key, t in inside.items() if isinstance(t, Tensor)}
        if named := {key: t for key, t in tensors.items() if isinstance(key, str)}:
            yield place, named


def _parsed(content: bytes, suffix: str) -> Any:
    """Parse the content of a file without executing any of it."""
    if suffix == ".safetensors" or content[8:9] == b"{":
        from safetensors.torch import load

        return dict(sorted(load(content).items()))  # its own order is random
    if suffix == ".npz":
        import numpy as np

        if not zipfile.is_zipfile(BytesIO(content)):
            raise ValueError("it is not a zip archive")
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}
    # Training scripts save their options, too; a Namespace only holds attributes.
    torch.serialization.add_safe_globals([argparse.Namespace])
    return torch.load(BytesIO(content), map_location="cpu", weights_only=True)


def _refusal(path: Path, error: Exception) -> WeightsError:
    """Make the error to raise in place of the one that reading a file has raised."""
    if isinstance(error, ImportError):
        return WeightsError(
            f"reading {path} needs {error.name}: pip install 'course_vit[course]'"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    code = re.search(r"GLOBAL ([\w.]+)", reason)
    if code or "allow_pickle" in reason or "pickle protocol" in reason:
        what = code[1] if code else "a pickle"
        return WeightsError(
            f"{path} contains more than tensors ({what}): it could run code and was not"
            " loaded; ask for a .safetensors file, or for the weights alone"
        )
    reason = reason.split("WeightsUnpickler error: ")[-1].split(" Check the doc")[0]
    return WeightsError(
        f"{path} cannot be read ({reason[:80]}): is it complete, and a file of weights?"
    )
