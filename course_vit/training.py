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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

__all__ = [
    "Loader",
    "Loss",
    "logits_of",
    "cross_entropy",
    "train_step",
    "init_narrow",
    "make_optimizer",
    "warmup_cosine",
    "random_affine",
    "predict",
    "evaluate",
    "Run",
    "train_epoch",
    "identity",
    "save_run",
    "resume_run",
    "fit",
]


# --- 7.2 One batch first ---

Loader = DataLoader | Sequence[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Any, Tensor], Tensor]


def logits_of(outputs: Any) -> Tensor:
    """The logits among the outputs of a model, `b k -> b k`.

    Models of `transformers` return an object that holds the logits as `.logits`.

    Args:
        outputs: What the model returned: a tensor `b k`, or an object with `.logits`.

    Raises:
        TypeError: If the outputs are anything else, such as a tuple.
    """
    logits = getattr(outputs, "logits", outputs)
    if not isinstance(logits, Tensor):
        raise TypeError(
            "expected a tensor of logits or an object with .logits, got "
            f"{type(outputs).__name__}: return the logits, or train with another loss"
        )
    return logits


def cross_entropy(
    images: Tensor, outputs: Tensor, labels: Tensor, smoothing: float = 0.0
) -> Tensor:
    """The mean of -log p(label), `b c h w, b k, b -> ()`.

    The images are not needed here: every loss of the course is called with images,
    outputs and labels, so that a loss can also show the images to a teacher (lesson 9).

    Args:
        images: The images, `b c h w`; they are ignored.
        outputs: The logits, `b k`, or an object that holds them as `.logits`.
        labels: The class of each image, `b`, from 0 to k - 1.
        smoothing: The share of each label that is spread evenly over all classes
            (Szegedy et al. 2016, sec. 7).
    """
    return F.cross_entropy(logits_of(outputs), labels, label_smoothing=smoothing)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    loss: Loss = cross_entropy,
    clip_norm: float = 1.0,
) -> float:
    """Take one step downhill, `b c h w, b -> ()`; returns the loss before the step.

    If the loss or its gradient is not finite, the weights stay as they are and nan is
    returned.

    Args:
        model: The model, which is changed in place.
        optimizer: The optimizer of the model's parameters.
        images: The images, `b c h w`.
        labels: The class of each image, `b`.
        loss: It is called as `loss(images, outputs, labels)`.
        clip_norm: The greatest length of the gradient; a longer one is shortened to it.
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

    0.02 suits a width of 768. Xavier's rule (Glorot and Bengio 2010) chooses the size
    of the weights by the width of their own matrix, as in the JAX code of ViT.

    Args:
        model: The model, which is changed in place.
        position_std: The std of a learned `pos_embed`; it is large because a short
            training has no time to make the table grow.
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
    """Build an AdamW whose weight decay shrinks matrices and kernels only.

    Biases, norms, class token and positions have no reason to be small, so they do not
    decay (DeiT's `no_weight_decay`). Frozen parameters are left out.

    Args:
        model: The model whose parameters are trained.
        lr: The learning rate.
        weight_decay: How fast matrices and kernels shrink: each step removes the share
            `lr * weight_decay` of them.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    shrinks = [p for name, p in named if name.endswith("weight") and p.ndim > 1]
    others = [p for name, p in named if not (name.endswith("weight") and p.ndim > 1)]
    groups: list[dict] = [{"params": shrinks}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)


def warmup_cosine(step: int, num_steps: int, warmup_steps: int) -> float:
    """The share of the peak rate at a step, counted from 0.

    It rises along a line for `warmup_steps`, then falls along half a cosine and would
    reach 0 at `num_steps`.

    Args:
        step: The number of the step, from 0 to num_steps - 1.
        num_steps: The number of steps of the whole training.
        warmup_steps: The number of steps in which the rate rises.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * done))


# --- 7.5 More than one view of a digit ---


def random_affine(
    images: Tensor, shift: float = 0.5, degrees: float = 8.0, zoom: float = 0.08
) -> Tensor:
    """Move, turn and zoom every image slightly at random, `b c h w -> b c h w`.

    Each image of the batch is changed by its own amounts. Pixels from outside the image
    are 0.

    Args:
        images: The images, `b c h w`.
        shift: The largest move in each direction, in pixels.
        degrees: The largest turn either way.
        zoom: The largest change of size: the factor is between 1 - zoom and 1 + zoom.
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

    The model predicts in eval mode, without gradients. Afterwards each of its modules
    is in the same mode as before.

    Args:
        model: A model whose outputs are logits, `b c h w -> b k`, or an object that
            holds them as `.logits`.
        loader: A DataLoader or a list of batches (images, labels).

    Raises:
        ValueError: If the loader is empty.
        TypeError: If the outputs hold no logits (`logits_of`).
    """
    if len(loader) < 1:
        raise ValueError("the loader must give at least one batch, got none")
    device = next(model.parameters()).device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        pairs = [
            (logits_of(model(images.to(device))).cpu(), labels)
            for images, labels in loader
        ]
    finally:
        for module, training in modes.items():
            module.training = training
    outputs, labels = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(labels)


def evaluate(model: nn.Module, loader: Loader) -> dict[str, float]:
    """Loss and accuracy (0 to 1) over a whole loader, in eval mode.

    The mean is taken over images, not over batches: the last batch may be smaller.

    Args:
        model: A model whose outputs are logits, `b c h w -> b k`.
        loader: A DataLoader or a list of batches (images, labels).

    Raises:
        ValueError: If the loader is empty.
    """
    outputs, labels = predict(model, loader)
    accuracy = (outputs.argmax(dim=-1) == labels).float().mean()
    loss = F.cross_entropy(outputs, labels)
    return {"loss": loss.item(), "accuracy": accuracy.item()}


# --- 7.7 The whole run ---


@dataclass
class Run:
    """The settings of a training and its state, which can be saved after any epoch.

    The state consists of the model's weights, the `optimizer`, and the `history`, which
    holds a record of each epoch that is done.

    Args:
        model: Any model; it is trained in place, on the device it is on.
        loader: A DataLoader or a list of batches (images, labels).
        epochs: How many times the model sees the whole loader.
        lr: The highest learning rate; `warmup_cosine` gives the share of each step.
        weight_decay: How fast matrices shrink, as in `make_optimizer`.
        warmup: The share of all steps in which the learning rate rises.
        clip_norm: The greatest length of the gradient, as in `train_step`.
        seed: The seed of everything that is drawn from torch during the training, also
            in the workers of the loader: order, augmentation, dropout.
        loss: It is called as `loss(images, outputs, labels)`.
        augment: A function that changes the images of each batch, on the model's
            device; None leaves them as they are.
        val_loader: Batches on which `evaluate` judges the model after each epoch; None
            skips this.

    Raises:
        ValueError: If there is no epoch or no batch.
    """

    model: nn.Module
    loader: Loader
    epochs: int
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    loss: Loss = cross_entropy
    augment: Callable[[Tensor], Tensor] | None = None
    val_loader: Loader | None = None

    def __post_init__(self) -> None:
        epochs, batches = self.epochs, len(self.loader)
        if epochs < 1 or batches < 1:
            raise ValueError(f"at least one batch is needed, got {epochs=}, {batches=}")
        self.steps = epochs * batches
        self.history: list[dict[str, float]] = []
        self.optimizer = make_optimizer(self.model, self.lr, self.weight_decay)


def train_epoch(run: Run) -> None:
    """Train the next epoch of a run and add its record to the history.

    Torch and the loader's generator get a seed that follows from the run's seed and the
    number of the epoch.

    Args:
        run: The run, whose model, optimizer and history are changed in place.

    Raises:
        FloatingPointError: As soon as the loss or its gradient is not finite.
        ValueError: If the run has a `val_loader` without batches.
    """
    model, epoch, losses = run.model, len(run.history), []
    seed = run.seed * run.epochs + epoch
    torch.manual_seed(seed)
    if generator := getattr(run.loader, "generator", None):
        generator.manual_seed(seed)
    device = next(model.parameters()).device
    model.train()
    for step, (images, labels) in enumerate(run.loader, epoch * len(run.loader)):
        share = warmup_cosine(step, run.steps, round(run.warmup * run.steps))
        for group in run.optimizer.param_groups:
            group["lr"] = run.lr * share
        images, labels = images.to(device), labels.to(device)
        images = run.augment(images) if run.augment else images
        cost = train_step(model, run.optimizer, images, labels, run.loss, run.clip_norm)
        if not math.isfinite(cost):
            raise FloatingPointError(
                f"no finite loss or gradient in epoch {epoch + 1}, step {step + 1}: "
                "try a lower lr, a longer warm-up, or float32 for half precision"
            )
        losses.append(cost)
    run.history.append({"epoch": epoch + 1, "loss": sum(losses) / len(losses)})
    if run.val_loader is not None:
        scores = evaluate(model, run.val_loader)
        run.history[-1] |= {f"val_{name}": score for name, score in scores.items()}


def identity(run: Run) -> dict[str, Any]:
    """What a checkpoint must agree with: a run's numbers and its weights' shapes."""
    numbers = {name: x for name, x in vars(run).items() if isinstance(x, int | float)}
    weights = run.model.state_dict()
    return numbers | {name: tuple(weight.shape) for name, weight in weights.items()}


def save_run(run: Run, path: Path) -> None:
    """Write a checkpoint of a run, without ever leaving half a file at `path`.

    The checkpoint is written to a second file, which is then renamed to `path` in one
    move. So at any moment `path` holds a whole checkpoint, the old one or the new one.

    Args:
        run: The run whose weights, optimizer and history are saved.
        path: The file to write; missing folders are created.
    """
    state = {
        "identity": identity(run),
        "history": run.history,
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def resume_run(run: Run, path: Path) -> None:
    """Continue an earlier run: load its checkpoint into a new run.

    The file is read as numbers only (`weights_only`), so it cannot run code. If an
    error is raised, the model is unchanged.

    Args:
        run: A new run with the settings of the earlier one; it is changed in place.
        path: The file that `save_run` wrote.

    Raises:
        ValueError: If the file is damaged or is not a checkpoint, or if it belongs to a
            run with different settings.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved, history = dict(state["identity"]), list(state["history"])
        weights, optimizer = state["model"], state["optimizer"]
    except Exception as error:
        raise ValueError(
            f"{path} is damaged or was not written by fit: choose another path"
        ) from error
    own = identity(run)
    for name in saved | own:
        was, now = saved.get(name), own.get(name)
        if was != now:
            raise ValueError(f"{path} must be continued with {name} {was}, got {now}")
    run.optimizer.load_state_dict(optimizer)
    run.model.load_state_dict(weights)
    run.history = history


def fit(
    model: nn.Module,
    loader: Loader,
    epochs: int,
    *,
    checkpoint: str | Path | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    **options: Any,
) -> list[dict[str, float]]:
    """Train a model in place, on its own device; returns a record of each epoch.

    Afterwards torch's random state is what it was before, as if nothing had been drawn.

    Args:
        model: Any model.
        loader: A DataLoader or a list of batches (images, labels).
        epochs: How many times the model sees the whole loader.
        checkpoint: A file that is written after each epoch. If it exists, the run
            continues from it and reaches the same numbers as without a break.
        progress: A function that wraps the epochs to show progress, like tqdm.
        options: The remaining arguments of `Run`: lr, weight_decay, warmup, clip_norm,
            seed, loss, augment, val_loader.

    Raises:
        ValueError: If there is no epoch or no batch, or if the checkpoint cannot be
            continued (`resume_run`).
        FloatingPointError: As soon as the loss or its gradient is not finite.
    """
    run = Run(model, loader, epochs, **options)
    path = Path(checkpoint).expanduser() if checkpoint else None
    if path and path.exists():
        resume_run(run, path)
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        for _ in progress(range(len(run.history), epochs)):
            train_epoch(run)
            if path:
                save_run(run, path)
    return run.history
