"""Lesson 7. Training.

A Vision Transformer learns to read handwriting: one step, its schedule, the whole run,
a checkpoint that survives an interruption, and a score with its conditions.

Letters: `b` images, `c h w` channels, rows and columns, `k` classes, `n` images of a
whole data set.

Printed from notebooks/07_training.ipynb: edit there, then `make export`.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    "in_mode",
    "predict",
    "evaluate",
    "Run",
    "train_epoch",
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

    `smoothing` is the share of each label that is spread evenly over all classes
    (Szegedy et al. 2016, sec. 7). The images are not needed here: every loss of the
    course is called with images, outputs and labels, so that a loss may also show the
    images to a teacher (lesson 9).
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
    """Take one step downhill, `b c h w, b -> ()`; returns the loss before the step.

    `loss` is called as `loss(images, outputs, labels)`. A gradient longer than
    `clip_norm` is shortened to it. If the loss or its gradient is not finite, the
    weights stay as they are and nan is returned.
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
    by its own width, as in the JAX code of ViT. `position_std` is the std of a learned
    `pos_embed`, large because a short training has no time to make it grow.
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
    """AdamW with learning rate `lr` that shrinks matrices and kernels only.

    `weight_decay` does not apply to biases, norms, class token and positions, which
    have no reason to be small (DeiT's `no_weight_decay`). Frozen parameters are left
    out.
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
    """The share of the peak rate at a step, counted from 0.

    It climbs along a line for `warmup_steps`, then falls along half a cosine and would
    reach 0 at `num_steps`.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * done))


# --- 7.5 More than one view of a digit ---


def random_affine(
    images: Tensor, shift: float = 0.5, degrees: float = 8.0, zoom: float = 0.08
) -> Tensor:
    """A slightly moved, turned and zoomed copy of every image, `b c h w -> b c h w`.

    Each image is moved by up to `shift` pixels in each direction, turned by up to
    `degrees` either way and zoomed by a factor between 1 - zoom and 1 + zoom. Pixels
    from outside the image are 0.
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


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put a model into training or eval mode for the length of a `with` block.

    Afterwards every part of the model is in the mode it was in, also after an error.
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


@torch.no_grad()
def predict(model: nn.Module, loader: Loader) -> tuple[Tensor, Tensor]:
    """Outputs and labels of a whole loader, `n k` and `n`, on the CPU.

    The model answers in eval mode, without gradients. Raises ValueError if the loader
    is empty.
    """
    if len(loader) < 1:
        raise ValueError("the loader must give at least one batch, got none")
    device = next(model.parameters()).device
    with in_mode(model, training=False):
        pairs = [(model(images.to(device)).cpu(), labels) for images, labels in loader]
    outputs, labels = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(labels)


def evaluate(model: nn.Module, loader: Loader) -> dict[str, float]:
    """Loss and accuracy (0 to 1) over a whole loader, in eval mode.

    The mean is taken over images, not over batches: the last batch may be smaller.
    Raises ValueError if the loader is empty.
    """
    outputs, labels = predict(model, loader)
    accuracy = (outputs.argmax(dim=-1) == labels).float().mean()
    loss = F.cross_entropy(outputs, labels)
    return {"loss": loss.item(), "accuracy": accuracy.item()}


# --- 7.7 The whole run ---


@dataclass
class Run:
    """A training that can stop after any epoch: what it was given, what it has done.

    The arguments are those of `fit`. `history` holds a record of each epoch that is
    done. Raises ValueError without an epoch or a batch.
    """

    model: nn.Module
    loader: Loader
    epochs: int
    lr: float
    weight_decay: float
    warmup: float
    clip_norm: float
    seed: int
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.epochs < 1 or len(self.loader) < 1:
            raise ValueError(
                f"at least one epoch of one batch is needed, got epochs={self.epochs}, "
                f"batches={len(self.loader)}"
            )
        self.optimizer = make_optimizer(self.model, self.lr, self.weight_decay)

    def rate(self, step: int) -> float:
        """The learning rate at a step; steps are counted from 0, over all epochs."""
        steps = self.epochs * len(self.loader)
        return self.lr * warmup_cosine(step, steps, round(self.warmup * steps))

    def settings(self) -> dict[str, float]:
        """The numbers that identify the run; a checkpoint must agree with all."""
        trained = (p.numel() for p in self.model.parameters() if p.requires_grad)
        return {
            "weights": sum(trained),
            "batches": len(self.loader),
            "epochs": self.epochs,
            "lr": self.lr,
            "weight_decay": self.weight_decay,
            "warmup": self.warmup,
            "clip_norm": self.clip_norm,
            "seed": self.seed,
        }


def train_epoch(
    run: Run,
    loss: Loss = cross_entropy,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Train the next epoch of a run and add its record to the history.

    `loss` and `augment` are those of `fit`. Everything drawn from torch and from the
    loader's generator follows from the run's seed and the number of the epoch. Raises
    FloatingPointError as soon as the loss or its gradient is not finite.
    """
    epoch, losses = len(run.history), []
    seed = run.seed * run.epochs + epoch
    torch.manual_seed(seed)
    if isinstance(run.loader, DataLoader) and run.loader.generator is not None:
        run.loader.generator.manual_seed(seed)
    device = next(run.model.parameters()).device
    for step, (images, labels) in enumerate(run.loader, epoch * len(run.loader)):
        for group in run.optimizer.param_groups:
            group["lr"] = run.rate(step)
        images, labels = images.to(device), labels.to(device)
        images = images if augment is None else augment(images)
        value = train_step(
            run.model, run.optimizer, images, labels, loss=loss, clip_norm=run.clip_norm
        )
        if not math.isfinite(value):
            raise FloatingPointError(
                f"no finite loss or gradient in epoch {epoch + 1}, step {step + 1}: "
                "try a lower lr, a longer warm-up, or float32 for half precision"
            )
        losses.append(value)
    run.history.append({"epoch": epoch + 1, "loss": sum(losses) / len(losses)})


def save_run(run: Run, path: Path) -> None:
    """Write a checkpoint of a run; at any moment the file is whole, the old or the new.

    It is written beside `path` and then takes its name in one move.
    """
    state = {
        "settings": run.settings(),
        "history": run.history,
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def resume_run(run: Run, path: Path) -> None:
    """Put a run that has done nothing yet where `save_run` left an earlier one.

    The file is read as numbers only, so that it cannot run code, and is checked before
    the model changes. Raises ValueError for a damaged or foreign file, for one of other
    settings and for one of a model with other weights.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved, history = dict(state["settings"]), list(state["history"])
        shapes = {name: weight.shape for name, weight in state["model"].items()}
        optimizer = state["optimizer"]
    except Exception as error:
        message = f"{path} is damaged or was not written by fit; choose another path"
        raise ValueError(message) from error
    settings = run.settings()
    if changed := [name for name in settings if saved.get(name) != settings[name]]:
        was = ", ".join(f"{name} {saved.get(name)}" for name in changed)
        got = ", ".join(f"{name} {settings[name]}" for name in changed)
        raise ValueError(f"{path} must be continued with {was}, got {got}")
    own = {name: weight.shape for name, weight in run.model.state_dict().items()}
    if other := dict(shapes.items() ^ own.items()):
        name = min(other)
        raise ValueError(f"{path} is of another model: {name} differs in name or shape")
    run.optimizer.load_state_dict(optimizer)
    run.model.load_state_dict(state["model"])
    run.history = history


def fit(
    model: nn.Module,
    loader: Loader,
    epochs: int,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    clip_norm: float = 1.0,
    seed: int = 0,
    loss: Loss = cross_entropy,
    augment: Callable[[Tensor], Tensor] | None = None,
    val_loader: Loader | None = None,
    checkpoint: str | Path | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> list[dict[str, float]]:
    """Train a model in place, on the device it is on; returns a record of each epoch.

    - `loader`: a DataLoader or a list of batches (images, labels).
    - `epochs`: how many times the model sees the whole loader.
    - `lr`: the highest learning rate, see `warmup_cosine`.
    - `weight_decay`: how fast matrices shrink, see `make_optimizer`.
    - `warmup`: the share of all steps in which the learning rate climbs.
    - `clip_norm`: a longer gradient is shortened to this length.
    - `seed`: decides everything that training draws from torch, also in the workers of
      the loader: order, augmentation, dropout. The model's first weights are yours.
    - `loss`: called as `loss(images, outputs, labels)`.
    - `augment`: changes the images of each batch, on the model's device.
    - `val_loader`: judged by `evaluate` after each epoch; the record holds the scores.
    - `checkpoint`: a file, written after each epoch. If it exists, the run continues
      from it to the same numbers as in one go.
    - `progress`: wraps the epochs, as tqdm does.

    Afterwards torch's global random state and the mode of every part of the model are
    what they were. Raises ValueError without an epoch or a batch and for a checkpoint
    that does not belong to this run, FloatingPointError as soon as a loss or gradient
    is not finite.
    """
    run = Run(
        model,
        loader,
        epochs,
        lr=lr,
        weight_decay=weight_decay,
        warmup=warmup,
        clip_norm=clip_norm,
        seed=seed,
    )
    path = Path(checkpoint).expanduser() if checkpoint else None
    if path and path.exists():
        resume_run(run, path)
    cuda = range(torch.cuda.device_count())
    with in_mode(model, training=True), torch.random.fork_rng(devices=cuda):
        for _ in progress(range(len(run.history), epochs)):
            train_epoch(run, loss, augment)
            if val_loader is not None:
                scores = evaluate(model, val_loader)
                run.history[-1] |= {f"val_{name}": x for name, x in scores.items()}
            if path:
                save_run(run, path)
    return run.history
