"""Lesson 7. Training.

A Vision Transformer learns to read handwriting: one step, its schedule, the whole run,
a checkpoint that survives an interruption, and a score with its conditions.

Letters: `b` images, `c h w` channels, rows and columns, `k` classes, `n` images of a
whole data set.

Printed from notebooks/07_training.ipynb: edit there, then `make export`.
"""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

__all__ = [
    "Loader",
    "Loss",
    "cross_entropy",
    "train_step",
    "init_narrow",
    "make_optimizer",
    "warmup_cosine",
    "random_affine",
    "predict",
    "evaluate",
    "train_epoch",
    "random_sources",
    "run_settings",
    "save_run",
    "resume_run",
    "fit",
]


# --- 7.2 One batch first ---

Loader = DataLoader | Sequence[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Any, Tensor], Tensor]


def cross_entropy(
    images: Tensor, outputs: Tensor, labels: Tensor, smoothing: float = 0.0
) -> Tensor:
    """The mean of -log p(label), `b c h w, b k, b -> ()`.

    With `smoothing` that share of each label is spread evenly over all classes (Szegedy
    et al. 2016, sec. 7). The images are not needed here: every loss of the course is
    called with images, outputs and labels, so that one may ask a teacher (lesson 9).
    """
    return F.cross_entropy(outputs, labels, label_smoothing=smoothing)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    loss: Loss = cross_entropy,
    clip_norm: float = 1.0,
) -> float:
    """One step downhill, `b c h w, b -> ()`; the loss before the step comes back.

    A gradient longer than `clip_norm` is shortened to it. If the loss or its gradient
    is not finite, no step is taken: the weights stay as they were, nan comes back.
    """
    optimizer.zero_grad()
    value = loss(images, model(images), labels)
    value.backward()
    length = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    if not torch.isfinite(value + length):
        return math.nan
    optimizer.step()
    return value.item()


# --- 7.3 A start for narrow models ---


def init_narrow(model: nn.Module, position_std: float = 1.0) -> None:
    """Draw the weights of a narrow model afresh, larger than the papers' std of 0.02.

    0.02 suits a width of 768. Xavier's law (Glorot and Bengio 2010) sizes each matrix
    by its own width, as in the JAX code of ViT. A learned `pos_embed` starts with
    `position_std`: in a short training it has no time to grow.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    position = getattr(model, "pos_embed", None)
    if position is not None and position.requires_grad:
        nn.init.normal_(position, std=position_std)


# --- 7.4 Which weights shrink, how fast they move ---


def make_optimizer(
    model: nn.Module, lr: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW that shrinks matrices and kernels only.

    Biases, norms, class token and positions have no reason to be small (DeiT's
    `no_weight_decay`). Frozen parameters are left out.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    shrinks = [p for name, p in named if name.endswith("weight") and p.ndim > 1]
    others = [p for name, p in named if not (name.endswith("weight") and p.ndim > 1)]
    groups = [
        {"params": shrinks, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


def warmup_cosine(step: int, num_steps: int, warmup_steps: int) -> float:
    """The share of the peak rate: up along a line, then down along half a cosine."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * done))


# --- 7.5 More than one view of a digit ---


def random_affine(
    images: Tensor, shift: float = 0.5, degrees: float = 8.0, zoom: float = 0.08
) -> Tensor:
    """A slightly moved, turned and zoomed copy of every image, `b c h w -> b c h w`.

    Up to `shift` pixels in each direction, `degrees` either way, and a factor between
    1 - zoom and 1 + zoom, drawn for each image. What comes in from outside is 0.
    """
    b, _, h, w = images.shape
    right, down, turn, grow = torch.rand(4, b) * 2 - 1
    angle, scale = math.radians(degrees) * turn, 1 + zoom * grow
    cos, sin = scale * angle.cos(), scale * angle.sin()
    dx, dy = 2 * shift * right / w, 2 * shift * down / h
    rows = torch.stack([cos, -sin * h / w, dx, sin * w / h, cos, dy], dim=1)
    matrix = rows.view(b, 2, 3).to(images)  # from places in the copy to the original
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


# --- 7.6 Judging ---


@torch.no_grad()
def predict(model: nn.Module, loader: Loader) -> tuple[Tensor, Tensor]:
    """Outputs and labels of a whole loader, `n k` and `n`, on the CPU.

    In eval mode, without gradients; afterwards the model is in the mode it was in.
    Raises ValueError if the loader is empty.
    """
    if len(loader) < 1:
        raise ValueError("the loader must give at least one batch, got none")
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    pairs = [(model(images.to(device)).cpu(), labels) for images, labels in loader]
    model.train(was_training)
    outputs, labels = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(labels)


def evaluate(model: nn.Module, loader: Loader) -> dict[str, float]:
    """Loss and accuracy (0 to 1) over a whole loader, in eval mode.

    The mean over images, not over batches: the last batch may be smaller.
    """
    outputs, labels = predict(model, loader)
    accuracy = (outputs.argmax(dim=-1) == labels).float().mean()
    loss = F.cross_entropy(outputs, labels)
    return {"loss": loss.item(), "accuracy": accuracy.item()}


# --- 7.7 The whole run ---


def train_epoch(
    model: nn.Module,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    rates: Sequence[float],
    loss: Loss = cross_entropy,
    augment: Callable[[Tensor], Tensor] | None = None,
    clip_norm: float = 1.0,
) -> float:
    """One pass over the loader; the mean of its losses comes back.

    `rates` are the learning rates of all steps of all epochs, the first epoch being 0.
    Raises FloatingPointError as soon as the loss or its gradient is not finite.
    """
    device = next(model.parameters()).device
    model.train()
    losses = []
    for step, (images, labels) in enumerate(loader, epoch * len(loader)):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        images, labels = images.to(device), labels.to(device)
        images = images if augment is None else augment(images)
        losses.append(train_step(model, optimizer, images, labels, loss, clip_norm))
        if not math.isfinite(losses[-1]):
            place = f"epoch {epoch + 1}, step {step + 1}"
            advice = "try a lower lr, a longer warm-up, or float32 for half precision"
            raise FloatingPointError(f"no finite loss or gradient in {place}: {advice}")
    return sum(losses) / len(losses)


def random_sources(model: nn.Module, loader: Loader) -> dict[str, torch.Generator]:
    """What a run draws random numbers from: torch, its CUDA device, the loader."""
    sources = {"torch": torch.default_generator}
    device = next(model.parameters()).device
    if device.type == "cuda":
        sources["cuda"] = torch.cuda.default_generators[device.index]
    generator = getattr(loader, "generator", None)
    if generator is not None:
        sources["loader"] = generator
    return sources


def run_settings(
    model: nn.Module,
    loader: Loader,
    epochs: int,
    lr: float,
    weight_decay: float,
    warmup: float,
    clip_norm: float,
) -> dict[str, object]:
    """What a run is known by; raises ValueError without an epoch or a batch."""
    batches = len(loader)
    if epochs < 1 or batches < 1:
        rule = "at least one epoch of one batch is needed"
        raise ValueError(f"{rule}, got {epochs=}, {batches=}")
    weights = sum(p.numel() for p in model.parameters())
    size = f"{type(model).__name__} of {weights:,} weights"
    settings = {"model": size, "batches": batches, "epochs": epochs, "warmup": warmup}
    return settings | {"lr": lr, "weight_decay": weight_decay, "clip_norm": clip_norm}


def save_run(
    path: Path,
    settings: dict,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    history: list[dict[str, float]],
) -> None:
    """Write a checkpoint so that the file is whole at any moment, the old or the new.

    It is written beside the path and then takes its name in one move.
    """
    sources = random_sources(model, loader)
    state = {
        "settings": settings,
        "history": history,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": {name: source.get_state() for name, source in sources.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def resume_run(
    path: Path,
    settings: dict,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
) -> list[dict[str, float]]:
    """Put everything back to where `save_run` left it; the history comes back.

    Without a file the history is empty. Read with `weights_only`: a file of numbers
    must not run code. Raises ValueError for a file that `save_run` did not write, and
    for one of other settings.
    """
    if not path.exists():
        return []
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or "settings" not in state:
        raise ValueError(f"{path} must be a checkpoint written by fit")
    saved = state["settings"]
    if changed := [name for name in settings if saved.get(name) != settings[name]]:
        got = ", ".join(f"{name} {settings[name]}" for name in changed)
        was = ", ".join(f"{name} {saved.get(name)}" for name in changed)
        raise ValueError(f"{path} must be continued with {was}, got {got}")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for name, source in random_sources(model, loader).items():
        source.set_state(state["random"].get(name, source.get_state()))
    return state["history"]


def fit(
    model: nn.Module,
    loader: Loader,
    epochs: int,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    clip_norm: float = 1.0,
    loss: Loss = cross_entropy,
    augment: Callable[[Tensor], Tensor] | None = None,
    val_loader: Loader | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[dict[str, float]]:
    """Train in place, where the model is; a record of each epoch comes back.

    `warmup` is a share of all steps. `checkpoint` is written after each epoch; with the
    file there, the run goes on to the same numbers as in one go. `progress` wraps the
    epochs, as tqdm does. Raises what `run_settings`, `resume_run`, `train_epoch` raise.
    """
    settings = run_settings(model, loader, epochs, lr, weight_decay, warmup, clip_norm)
    steps = epochs * len(loader)
    rates = [lr * warmup_cosine(i, steps, round(warmup * steps)) for i in range(steps)]
    optimizer = make_optimizer(model, lr, weight_decay)
    path = Path(checkpoint) if checkpoint else None
    history = resume_run(path, settings, model, optimizer, loader) if path else []
    how = (rates, loss, augment, clip_norm)
    for epoch in progress(range(len(history), epochs)):
        mean = train_epoch(model, loader, optimizer, epoch, *how)
        history.append({"epoch": epoch + 1, "loss": mean})
        if val_loader is not None:
            scores = evaluate(model, val_loader)
            history[-1] |= {f"val_{name}": score for name, score in scores.items()}
        if path:
            save_run(path, settings, model, optimizer, loader, history)
    return history
