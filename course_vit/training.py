"""Lesson 7. Training.

A Vision Transformer learns to read handwriting. We write one training step, its
schedule, and a whole run that survives an interruption. Then we ask what the score of
the trained model is worth.

Printed from notebooks/07_training.ipynb: edit there, then `make export`.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .patch_embedding import (
    check_images,
    check_range,
    check_shape,
    check_sizes,
)

__all__ = [
    "Loader",
    "Loss",
    "cross_entropy",
    "check_clip_norm",
    "logits_of",
    "class_labels",
    "train_step",
    "init_narrow",
    "make_optimizer",
    "warmup_cosine",
    "random_affine",
    "keep_modes",
    "batches",
    "predict",
    "evaluate",
    "num_batches",
    "Run",
    "train_epoch",
    "plain",
    "identity",
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
    """The mean of -log p(label) over a batch, `b c h w, b k, b -> ()`.

    This loss does not use the images. Every loss of the course is called with images,
    outputs and labels, so that a loss can also show the images to a teacher (lesson 9).

    Args:
        images: The images, `b c h w`; they are ignored.
        outputs: The logits, `b k`, or an object that holds them as `.logits`.
        labels: The class of each image, `b`, from 0 to k - 1.
        smoothing: The share of each label that is spread evenly over all classes, from
            0 to 1 (Szegedy et al. 2016, sec. 7).

    Raises:
        ValueError: If the labels do not fit the logits (see `class_labels`), or if
            `smoothing` is not between 0 and 1.
        TypeError: If the outputs hold no logits (see `logits_of`).
    """
    check_range(0, 1, smoothing=smoothing)
    logits = logits_of(outputs)
    labels = class_labels(labels, logits)
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def check_clip_norm(clip_norm: float) -> None:
    """Raise an error unless `clip_norm` is a number above 0; `math.inf` is allowed.

    Args:
        clip_norm: The greatest length that a gradient may have; with `math.inf` no
            gradient is shortened.

    Raises:
        ValueError: If `clip_norm` is 0, negative, nan or not a number.
    """
    if not isinstance(clip_norm, Real) or not clip_norm > 0:
        raise ValueError(f"clip_norm must be above 0, got {clip_norm!r}")


def logits_of(outputs: Any) -> Tensor:
    """The logits among the outputs of a model, `b k -> b k`.

    Models of the library `transformers` return an object that holds the logits as
    `.logits`.

    Args:
        outputs: What the model returned: a tensor `b k`, or an object with `.logits`.

    Raises:
        TypeError: If the outputs are anything else, such as a tuple.
    """
    logits = getattr(outputs, "logits", outputs)
    if not isinstance(logits, Tensor):
        raise TypeError(
            "expected a tensor of logits or an object with .logits, got "
            f"{type(outputs).__name__}: let the model return its logits only, or train "
            "with a loss that accepts these outputs"
        )
    return logits


def class_labels(labels: Tensor, logits: Tensor) -> Tensor:
    """Check that labels fit the logits; returns them as int64, `b, b k -> b`.

    Args:
        labels: The class of each image, `b`, from 0 to k - 1, in any integer type.
        logits: The logits, `b k`.

    Raises:
        ValueError: If the labels have a different shape, such as one-hot rows, if they
            are floats, or if one of them is not between 0 and k - 1.
    """
    check_shape("logits", logits, ("b", "k"))
    b, k = logits.shape
    if labels.shape != (b,) or labels.is_floating_point():
        raise ValueError(
            f"expected labels ({b},) of integers, got shape {tuple(labels.shape)} of "
            f"{labels.dtype}: use labels.argmax(dim=1) for one-hot rows or "
            "probabilities, labels.flatten() for a column, labels.long() for floats"
        )
    labels = labels.long()
    unknown = labels[(labels < 0) | (labels >= k)]
    if len(unknown):
        raise ValueError(f"expected labels from 0 to {k - 1}, got {unknown[0]}")
    return labels


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    loss: Loss = cross_entropy,
    clip_norm: float = 1.0,
) -> float:
    """Take one step downhill, `b c h w, b -> ()`; returns the loss before the step.

    If the loss or the length of its gradient is not finite, the weights stay as they
    are and the function returns nan.

    Args:
        model: The model, which is changed in place; its mode stays as it is.
        optimizer: The optimizer of the model's parameters.
        images: The images, `b c h w`.
        labels: The class of each image, `b`.
        loss: A function that is called as `loss(images, outputs, labels)`.
        clip_norm: The greatest length of the gradient; a longer one is shortened to it.

    Raises:
        ValueError: If `clip_norm` is not above 0.
    """
    check_clip_norm(clip_norm)
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
    """Initialise a narrow model again, with larger weights than the papers' std 0.02.

    0.02 suits a width of 768. Xavier's rule (Glorot and Bengio 2010), which the JAX
    code of ViT uses, chooses the size of the weights of each matrix by its own width.

    Args:
        model: The model, which is changed in place: all linear layers, and the position
            table if it is learned.
        position_std: The standard deviation of a learned `pos_embed`. It is large
            because the table has no time to grow in a short training run.

    Raises:
        ValueError: If `position_std` is negative or not finite.
    """
    check_range(0, math.inf, position_std=position_std)
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
    decay (like `no_weight_decay` in DeiT's code). Frozen parameters are left out.

    Args:
        model: The model whose parameters are trained.
        lr: The learning rate, 0 or more.
        weight_decay: How fast matrices and kernels shrink, 0 or more: each step removes
            the share `lr * weight_decay` of them.

    Raises:
        ValueError: If `lr` or `weight_decay` is negative or not finite, or if no
            parameter of the model has `requires_grad`.
    """
    check_range(0, math.inf, lr=lr, weight_decay=weight_decay)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError(
            "the model has no parameter with requires_grad, so there is nothing to "
            "train: call requires_grad_(True) on the part that should learn"
        )
    shrinks = [p for name, p in named if name.endswith("weight") and p.ndim > 1]
    others = [p for name, p in named if not (name.endswith("weight") and p.ndim > 1)]
    groups: list[dict] = [{"params": shrinks}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=float(lr), weight_decay=float(weight_decay))


def warmup_cosine(step: int, num_steps: int, warmup_steps: int) -> float:
    """The share of the peak learning rate at a step, from 0 to 1.

    The share rises along a line for `warmup_steps`, then falls along half a cosine; it
    would reach 0 at `num_steps`.

    Args:
        step: The number of the step, counted from 0; `num_steps` is allowed, too.
        num_steps: The number of steps of the whole training run.
        warmup_steps: The number of steps in which the rate rises.

    Raises:
        ValueError: If `num_steps` is not a positive integer, or if `step` or
            `warmup_steps` is not between 0 and `num_steps`.
    """
    check_sizes(num_steps=num_steps)
    check_range(0, num_steps, step=step, warmup_steps=warmup_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * done))


# --- 7.5 More than one view of a digit ---


def random_affine(
    images: Tensor, shift: float = 0.5, degrees: float = 8.0, zoom: float = 0.08
) -> Tensor:
    """Move, turn and zoom every image slightly at random, `b c h w -> b c h w`.

    Each image of the batch is changed by its own random amounts. Pixels that come from
    outside the image are 0.

    Args:
        images: The images, `b c h w`, in floating point.
        shift: The largest move along each axis, in pixels.
        degrees: The largest turn in either direction, in degrees.
        zoom: The largest change of size: the factor is between 1 - zoom and 1 + zoom.

    Raises:
        TypeError: If the images are not a tensor of floating-point numbers.
        ValueError: If the images are not `b c h w`, or if a number is negative or not
            finite.
    """
    check_images(images, "c", ("h", "w"))
    check_range(0, math.inf, shift=shift, degrees=degrees, zoom=zoom)
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
def keep_modes(model: nn.Module) -> Iterator[None]:
    """Inside `with keep_modes(model)` modes may change; afterwards they are restored.

    Every module gets the mode back that it had before, also if an error is raised.
    `model.train(was_training)` is not enough, because it gives all parts of the model
    the same mode.

    Args:
        model: The model whose modes are restored.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        model.train(modes[model])  # a module's own `train` may do more than switch
        for module, training in modes.items():
            module.training = training


def batches(model: nn.Module, loader: Iterable) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches (images, labels) of a loader, on the device of the model.

    Args:
        model: The model; if it has neither parameters nor buffers, the CPU is used.
        loader: Anything that yields pairs of tensors, images and labels.

    Raises:
        ValueError: If a batch holds no image.
        TypeError: If a batch is not a pair of tensors.
    """
    device = [*model.parameters(), *model.buffers(), torch.zeros(0)][0].device
    for batch in loader:
        match batch:
            case [Tensor() as images, Tensor() as labels]:
                check_sizes(batch_size=len(images))
                yield images.to(device), labels.to(device)
            case _:
                raise TypeError(
                    "a loader must give pairs of tensors (images, labels), got "
                    f"{batch!r:.80}"
                )


@torch.no_grad()
def predict(model: nn.Module, loader: Iterable) -> tuple[Tensor, Tensor]:
    """The outputs `n k` and the labels `n` of a whole loader of n images, on the CPU.

    The model predicts in eval mode and without gradients. Afterwards each of its
    modules is in the same mode as before.

    Args:
        model: A model whose outputs are logits, `b c h w -> b k`, or an object that
            holds them as `.logits`.
        loader: A DataLoader, a list or a generator of batches (images, labels).

    Raises:
        ValueError: If the loader or one of its batches is empty.
        TypeError: If a batch is not a pair of tensors, or if the outputs hold no logits
            (see `logits_of`).
    """
    outputs, truth = [], []
    with keep_modes(model):
        model.eval()
        for images, labels in batches(model, loader):
            outputs.append(logits_of(model(images)).cpu())
            truth.append(labels.cpu())
    check_sizes(batches=len(outputs))
    return torch.cat(outputs), torch.cat(truth)


def evaluate(model: nn.Module, loader: Iterable) -> dict[str, float]:
    """The loss and the accuracy (0 to 1) over a whole loader, in eval mode.

    Both are means over images, not over batches, because the last batch may be smaller.

    Args:
        model: A model whose outputs are logits, `b c h w -> b k`, or an object that
            holds them as `.logits`.
        loader: A DataLoader, a list or a generator of batches (images, labels).

    Raises:
        ValueError: If the loader or one of its batches is empty, or if the labels do
            not fit the logits (see `class_labels`).
        TypeError: Under the same conditions as in `predict`.
    """
    logits, labels = predict(model, loader)
    labels = class_labels(labels, logits)
    accuracy = (logits.argmax(dim=-1) == labels).float().mean()
    loss = F.cross_entropy(logits, labels)
    return {"loss": loss.item(), "accuracy": accuracy.item()}


# --- 7.7 The whole run ---


def num_batches(loader: Loader) -> int:
    """The number of batches that a loader yields in one epoch.

    Args:
        loader: A DataLoader or a list of batches.

    Raises:
        ValueError: If there is no batch.
        TypeError: If the number is unknown, as for a generator.
    """
    try:
        check_sizes(batches=len(loader))
    except TypeError as error:
        raise TypeError(
            "training needs a DataLoader of known length or a list of batches, got "
            f"{type(loader).__name__}"
        ) from error
    return len(loader)


@dataclass
class Run:
    """The settings of a training run and its state, which can be saved after any epoch.

    The state consists of the model's weights, the `optimizer`, and the `history`, which
    holds one record for each finished epoch.

    Args:
        model: Any model; it is trained in place, on its own device.
        loader: A DataLoader or a list of batches (images, labels).
        epochs: How many times the model sees the whole loader.
        lr: The highest learning rate; `warmup_cosine` gives the share for each step.
        weight_decay: How fast matrices shrink, as in `make_optimizer`.
        warmup: The share of all steps in which the learning rate rises, from 0 to 1.
        clip_norm: The greatest length of the gradient, as in `train_step`.
        seed: The seed of all random numbers that torch draws during the run, also
            in the workers of the loader: order, augmentation, dropout.
        loss: A function that is called as `loss(images, outputs, labels)`.
        augment: A function that changes the images of each batch, on the model's
            device; None leaves them as they are.
        val_loader: Batches on which `evaluate` judges the model after each epoch; None
            skips this.
        step: A function that is called like `train_step`, such as one that shares the
            images of a step among several processes.

    Raises:
        ValueError: If there is no epoch, no batch or no weight to train, or if a number
            is out of its range.
        TypeError: If the number of batches of a loader is unknown.
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
    step: Callable[..., float] = train_step

    def __post_init__(self) -> None:
        check_sizes(epochs=self.epochs)
        check_sizes(seed=self.seed, or_zero=True)
        check_range(0, 1, warmup=self.warmup)
        check_clip_norm(self.clip_norm)
        self.optimizer = make_optimizer(self.model, self.lr, self.weight_decay)
        self.epochs, self.seed = int(self.epochs), int(self.seed)
        for name in ("lr", "weight_decay", "warmup", "clip_norm"):
            setattr(self, name, float(getattr(self, name)))  # checkpoints hold no NumPy
        self.steps = self.epochs * num_batches(self.loader)
        if self.val_loader is not None:
            num_batches(self.val_loader)  # an error now, not after the first epoch
        self.history: list[dict[str, float]] = []


def train_epoch(run: Run) -> None:
    """Train the next epoch of a run and add its record to the history.

    A model in eval mode is trained as a whole. In a model in training mode, a part that
    is in eval mode stays in it, as a frozen part should. Afterwards every module has
    the mode it had before.

    The random numbers of torch and of the loader's generator start from a seed that is
    computed from the run's seed and the number of the epoch.

    Args:
        run: The run, whose model, optimizer and history are changed in place.

    Raises:
        FloatingPointError: As soon as the loss or its gradient is not finite.
        ValueError: If a batch is empty, or if the labels do not fit the logits (see
            `cross_entropy`).
        TypeError: If a batch is not a pair of tensors.
    """
    model, epoch, losses = run.model, len(run.history), []
    seed = run.seed * run.epochs + epoch
    torch.manual_seed(seed)
    if generator := getattr(run.loader, "generator", None):
        generator.manual_seed(seed)
    given = enumerate(batches(model, run.loader), epoch * len(run.loader))
    with keep_modes(model):
        if not model.training:
            model.train()
        for step, (images, labels) in given:
            share = warmup_cosine(step, run.steps, round(run.warmup * run.steps))
            for group in run.optimizer.param_groups:
                group["lr"] = run.lr * share
            images = run.augment(images) if run.augment else images
            batch = images, labels
            cost = run.step(model, run.optimizer, *batch, run.loss, run.clip_norm)
            if not math.isfinite(cost):
                raise FloatingPointError(
                    "the loss or its gradient is nan or infinite in epoch "
                    f"{epoch + 1}, step {step + 1}: try a lower lr, a longer warm-up, "
                    "or float32 instead of half precision"
                )
            losses.append(cost)
    record = {"epoch": epoch + 1, "loss": sum(losses) / len(losses)}
    if run.val_loader is not None:
        scores = evaluate(model, run.val_loader)
        record |= {f"val_{name}": score for name, score in scores.items()}
    run.history.append(record)


def plain(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The same entries, without the prefixes of `torch.compile` and `DataParallel`."""
    return {re.sub(r"^module\.|_orig_mod\.", "", n): x for n, x in weights.items()}


def identity(run: Run) -> dict[str, Any]:
    """What must agree with a checkpoint: a run's numbers and the shapes of its weights.

    Args:
        run: The run that is saved or continued.
    """
    numbers = {name: x for name, x in vars(run).items() if isinstance(x, int | float)}
    weights = plain(run.model.state_dict())
    return numbers | {name: tuple(weight.shape) for name, weight in weights.items()}


def save_run(run: Run, path: str | Path) -> None:
    """Write a checkpoint of a run, without ever leaving half a file at `path`.

    The checkpoint is written to a second file, which is then renamed to `path` in one
    move. So at any moment `path` holds a whole checkpoint, the old one or the new one.

    Args:
        run: The run whose weights, optimizer and history are saved.
        path: The file to write; missing folders are created, `~` is the home folder.
    """
    state = {
        "identity": identity(run),
        "history": run.history,
        "model": plain(run.model.state_dict()),
        "optimizer": run.optimizer.state_dict(),
    }
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        torch.save(state, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def resume_run(run: Run, path: str | Path) -> None:
    """Continue an earlier run: load its checkpoint into a new run.

    The file is read with `weights_only`, so it cannot run code. If an error is raised,
    the model is unchanged. A run of a compiled model may be continued without
    `torch.compile`, and the other way round; the same holds for `DataParallel`.

    Args:
        run: A new run with the settings of the earlier one; it is changed in place.
        path: The file that `save_run` wrote; `~` is the home folder.

    Raises:
        ValueError: If the file is damaged or is not a checkpoint, or if it belongs to a
            run with different settings or different frozen parameters.
    """
    path, own = Path(path).expanduser(), identity(run)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        history, weights = [dict(record) for record in state["history"]], state["model"]
        saved = {n: x for n, x in state["identity"].items() if not isinstance(x, tuple)}
        saved |= {name: tuple(weight.shape) for name, weight in plain(weights).items()}
        names = [*saved, *own, "trained parameters"]
        optimizers = state["optimizer"], run.optimizer.state_dict()
        for known, optimizer in zip((saved, own), optimizers, strict=True):
            trained = [len(group["params"]) for group in optimizer["param_groups"]]
            known["trained parameters"] = sum(trained)
        other = [name for name in names if saved.get(name) != own.get(name)]
        if not other:
            run.optimizer.load_state_dict(state["optimizer"])
    except Exception as error:
        raise ValueError(
            f"{path} is damaged or was not written by fit, or its run trained "
            "different parameters: freeze the same ones, or choose a different path"
        ) from error
    for name in other:
        raise ValueError(
            f"{path} must be continued with {name} {saved.get(name)}, got "
            f"{own.get(name)}: choose a different path for a new run; to start it from "
            f"these weights: model.load_state_dict(torch.load({str(path)!r})['model'])"
        )
    for name, weight in plain(run.model.state_dict()).items():
        weight.copy_(plain(weights)[name])
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

    A model in eval mode is trained as a whole. In a model in training mode, a part that
    is in eval mode stays in it, as a frozen part should. Afterwards every module has
    the mode it had before, and torch's random state is what it was before the call.

    Args:
        model: Any model.
        loader: A DataLoader or a list of batches (images, labels).
        epochs: How many times the model sees the whole loader.
        checkpoint: A file that is written after each epoch; `~` is the home folder. If
            it exists, the run continues from it and reaches the same numbers as without
            a break.
        progress: A function that wraps the epochs to show progress, like tqdm.
        options: The remaining arguments of `Run`: lr, weight_decay, warmup, clip_norm,
            seed, loss, augment, val_loader, step.

    Returns:
        One dictionary per epoch: `epoch` (from 1) and `loss`, and with a `val_loader`
        also `val_loss` and `val_accuracy`.

    Raises:
        ValueError: If `Run` refuses an argument, if the labels do not fit the logits
            (see `cross_entropy`), or if the checkpoint cannot be continued (see
            `resume_run`).
        TypeError: If a batch is not a pair of tensors, if the outputs hold no logits
            (see `logits_of`), or if the number of batches of a loader is unknown.
        FloatingPointError: As soon as the loss or its gradient is not finite.
    """
    run = Run(model, loader, epochs, **options)
    path = Path(checkpoint).expanduser() if checkpoint else None
    if path and path.exists():
        resume_run(run, path)
    elif path:
        save_run(run, path)  # an error now, not after the first epoch
        path.unlink()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        for _ in progress(range(len(run.history), run.epochs)):
            train_epoch(run)
            if path:
                save_run(run, path)
    return run.history
