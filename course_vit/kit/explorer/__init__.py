"""The explorer: one page that shows live how a Vision Transformer reads a digit.

`page` puts `index.html`, its style, its scripts and a model's weights into one file. It
needs neither a server nor a network. The forward pass is in `vit.js`.
"""

import inspect
import io
import json
import re
import sys
import webbrowser
from base64 import b64encode
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...looking_inside import attention_maps
from ...vision_transformer import VisionTransformer
from .. import CourseError
from ..data import load_data
from ..plots.lesson_08 import class_maps
from ..results import stored_model
from ..storage import write
from ..workbook import PACKAGE, Workbook, find_workbook

HERE = Path(__file__).parent
KEPT, PAGE = "digit_model.pt", "explorer.html"
MOST_TOKENS = 100


def keep(model: nn.Module) -> None:
    """Save a trained model in the workbook; outside a workbook, do nothing.

    Args:
        model: A model of lesson 6, for `course-vit explore`.
    """
    if workbook := find_workbook():
        file = io.BytesIO()
        torch.save({"sizes": sizes(model), "weights": model.state_dict()}, file)
        write(workbook.folder / KEPT, file.getvalue())
        print(f"your model is saved in {KEPT}: to see it, run course-vit explore")


def explore(
    workbook: Workbook, file: Path | None = None, browser: bool = True
) -> list[str]:
    """Write the page of a learner's model, or else of the course's, and open it.

    Args:
        workbook: The workbook whose `my_vit` computes and in which the page is written.
        file: A file that `keep` wrote; None means the one in the workbook.
        browser: Whether to open the page.

    Returns:
        Sentences about whose model is shown, and where.

    Raises:
        CourseError: If the file or its model cannot be shown.
    """
    workbook.must_exist()
    if file is None and not (workbook.folder / KEPT).exists():
        said = "this is the course's model: section 7.12 of lesson 7 saves your own"
        html = page(stored_model(), "the course's model")
    else:
        file = file or workbook.folder / KEPT
        said = f"{file}: your model, computed by {PACKAGE}"
        html = page(kept_model(workbook, file), "your model")
    path = (workbook.folder / PAGE).resolve()
    write(path, html.encode())
    if browser:
        webbrowser.open(path.as_uri())
    return [said, f"draw a digit and watch it read: {path.as_uri()}"]


def kept_model(workbook: Workbook, file: Path) -> nn.Module:
    """The model that `keep` wrote to a file, built by the workbook's `my_vit`."""
    sys.path.insert(0, str(workbook.folder))
    try:
        kept = torch.load(file, map_location="cpu", weights_only=True)
        mine = import_module(f"{PACKAGE}.vision_transformer").VisionTransformer
        model = mine(**kept["sizes"])
        model.load_state_dict(kept["weights"])
    except Exception as error:  # anything may be in the file, or in my_vit
        why = " ".join(str(error).split())[:160]
        raise CourseError(
            f"{file} is not a model that {PACKAGE} can build ({why}): run lesson 7 "
            "again, which saves a new one in section 7.12"
        ) from error
    return model.eval()


def page(model: nn.Module, title: str, lessons: str = "") -> str:
    """The whole explorer as one HTML text.

    Args:
        model: A `VisionTransformer` of lesson 6, from the course or a `my_vit`, for
            square grey images.
        title: Whose model it is, such as "your model".
        lessons: The address of the folder with the pages of the lessons, which the page
            links to; "" means no links.

    Raises:
        CourseError: If the explorer cannot show the model, or if the model does not
            compute what lesson 6 says.
    """
    shown = exported(model) | {"title": title, "lessons": lessons}
    texts = {path.name: path.read_text("utf-8") for path in HERE.glob("explorer.*")}
    texts["vit.js"] = (HERE / "vit.js").read_text("utf-8")
    texts["model.json"] = json.dumps(shown).replace("<", "\\u003c")
    texts["static.html"] = static(model, shown["samples"][3])
    html = (HERE / "index.html").read_text("utf-8")
    return re.sub(r"@@(\S+?)@@", lambda found: texts[found[1]], html)


def sizes(model: Any) -> dict[str, Any]:
    """The arguments that make a `VisionTransformer` of a model's shape."""
    stem, attn, mlp = model.patch_embed, model.blocks[0].attn, model.blocks[0].mlp
    return {
        "img_size": stem.img_size,
        "patch_size": stem.patch_size,
        "in_chans": stem.in_chans,
        "num_classes": model.head.out_features,
        "embed_dim": stem.proj.out_channels,
        "depth": len(model.blocks),
        "num_heads": attn.num_heads,
        "mlp_ratio": (mlp.fc1.out_features + 0.5) / stem.proj.out_channels,
        "qkv_bias": attn.qkv.bias is not None,
        "pool": "mean" if model.cls_token is None else "token",
        "position": "none" if model.pos_embed is None else "learned",
        "norm_eps": model.norm.eps,
    }


@torch.no_grad()
def exported(model: nn.Module) -> dict[str, Any]:
    """Sizes, weights, code and ten test digits with the model's own logits."""
    try:
        form = sizes(model)
        lesson_6 = VisionTransformer(**form).eval()
        lesson_6.load_state_dict(model.state_dict())
    except (AttributeError, RuntimeError) as error:
        kind, why = type(model).__name__, " ".join(str(error).split())[:160]
        raise CourseError(
            f"the explorer needs a VisionTransformer of lesson 6, got {kind} ({why})"
        ) from error
    (height, width), (ph, pw) = form["img_size"], form["patch_size"]
    tokens = height // ph * (width // pw)
    if height != width or ph != pw or form["in_chans"] != 1 or tokens > MOST_TOKENS:
        raise CourseError(
            f"the explorer needs square grey images with at most {MOST_TOKENS} square "
            f"patches, got images {height} x {width} with {form['in_chans']} channels "
            f"and patches {ph} x {pw}"
        )
    images = F.interpolate(sample_digits(), (height, width), mode="bilinear")
    logits = model(images)
    if (difference := (logits - lesson_6(images)).abs().max().item()) > 1e-4:
        raise CourseError(
            "the explorer computes like lesson 6, your model does not: with the same"
            f" weights, its logits differ by {difference:.2g}"
        )
    return {
        "sizes": form,
        "w": {name: numbers(weight) for name, weight in model.state_dict().items()},
        "code": {step: code(model, names) for step, names in STEPS.items()},
        "samples": [
            {"pixels": image[0].tolist(), "logits": answer.tolist()}
            for image, answer in zip(images, logits, strict=True)
        ],
    }


def sample_digits() -> Tensor:
    """The first test digit of each class, `10 1 8 8`; no training has seen them."""
    images, labels = next(iter(load_data(batch_size=360).test))
    return torch.stack([images[labels == digit][0] for digit in range(10)])


def numbers(weight: Tensor) -> dict[str, Any]:
    """A weight as rows of float32; a kernel has one row per output, as in lesson 1."""
    rows = weight.flatten(1) if weight.ndim == 4 else weight
    data = rows.detach().cpu().float().contiguous().numpy().astype("<f4").tobytes()
    columns = rows.shape[-1] if rows.ndim > 1 else 0
    return {"columns": columns, "base64": b64encode(data).decode()}


STEPS = {
    "patches": ["patch_embedding.PatchEmbedding.forward"],
    "tokens": ["vision_transformer.Backbone.embed"],
    "positions": ["looking_inside.position_similarity"],
    "attention": [
        "self_attention.attention_weights",
        "multi_head_attention.MultiHeadAttention.split_heads",
        "multi_head_attention.MultiHeadAttention.forward",
    ],
    "block": ["encoder_block.Mlp.forward", "encoder_block.Block.forward"],
    "rollout": ["looking_inside.attention_rollout"],
    "answer": ["vision_transformer.VisionTransformer.forward"],
}


def code(model: nn.Module, names: list[str]) -> str:
    """The Python of a step without docstrings, from the package of the model."""
    package, texts = type(model).__module__.partition(".")[0], []
    for name in names:
        module, *parts = name.split(".")
        found = import_module(f"{package}.{module}")
        for part in parts:
            found = getattr(found, part)
        text = inspect.cleandoc("\n" + inspect.getsource(found))
        texts.append(re.sub(r'\n *""".*?"""(?=\n)', "", text, count=1, flags=re.DOTALL))
    return "\n\n".join(texts)


def static(model: Any, sample: dict[str, Any]) -> str:
    """HTML for a browser without JavaScript: one digit, read by torch."""
    image = torch.tensor(sample["pixels"])[None]
    maps = attention_maps(model, image[None])
    prefix = 0 if sizes(model)["pool"] == "mean" else 1
    looks = [m[0, :, 0, 1:] if prefix else m[0].mean(dim=1) for m in maps]
    grid = torch.stack(looks).unflatten(-1, model.patch_embed.grid_size)
    heads = [f"head {h + 1}" for h in range(grid.shape[1])]
    rows = [f"block {i + 1}" for i in range(len(maps))]
    png = io.BytesIO()
    class_maps(image, grid, heads, rows).savefig(png, format="png")
    said = torch.tensor(sample["logits"]).softmax(dim=0)
    cells = "".join(f"<tr><th>{i}<td>{share:.1%}" for i, share in enumerate(said))
    alt = escape(
        "A test digit, a three, and where each head of each block looks in it."
    )
    source = f"data:image/png;base64,{b64encode(png.getvalue()).decode()}"
    return f'<img alt="{alt}" src="{source}"><table>{cells}</table>'
