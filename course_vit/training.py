"""Lesson 7, training: a Vision Transformer learns to read digits."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

Loader = DataLoader | Sequence[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


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
    value = loss(images, model(images), labels)
    optimizer.zero_grad()
    value.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    if not torch.isfinite(value + norm):
        return math.nan
    optimizer.step()
    return value.item()


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


def make_optimizer(
    model: nn.Module, lr: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW that shrinks matrices and kernels only.

    Biases, norms, class token and positions have no reason to be small (DeiT's
    `no_weight_decay`). Frozen parameters are left out.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    shrinks = {name for name, p in named if name.endswith("weight") and p.ndim > 1}
    groups = [
        {
            "params": [p for name, p in named if name in shrinks],
            "weight_decay": weight_decay,
        },
        {
            "params": [p for name, p in named if name not in shrinks],
            "weight_decay": 0.0,
        },
    ]
    return torch.optim.AdamW(groups, lr=lr)


def warmup_cosine(step: int, num_steps: int, warmup_steps: int) -> float:
    """The share of the peak rate: up along a line, then down along half a cosine."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(num_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * done))


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


def random_sources(model: nn.Module, loader: Loader) -> dict[str, torch.Generator]:
    """What a run draws random numbers from: torch, its CUDA device, the loader."""
    sources = {"torch": torch.default_generator}
    device = next(model.parameters()).device
    if device.type == "cuda":
        sources["cuda"] = torch.cuda.default_generators[device.index]
    if getattr(loader, "generator", None) is not None:
        sources["loader"] = loader.generator
    return sources


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

    Read with `weights_only`: a file of numbers must not run code. Raises ValueError for
    a file that is no checkpoint, and for one of other settings: two runs mixed would
    give numbers that belong to neither.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or "settings" not in state:
        raise ValueError(f"{path} must be a checkpoint written by fit")
    saved = state["settings"]
    changed = [name for name in settings if saved.get(name) != settings[name]]
    if changed:
        got = ", ".join(f"{name} {settings[name]}" for name in changed)
        was = ", ".join(f"{name} {saved.get(name)}" for name in changed)
        raise ValueError(f"{path} must be continued with {was}, got {got}")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for name, source in random_sources(model, loader).items():
        source.set_state(state["random"].get(name, source.get_state()))
    return state["history"]


def train_epoch(
    model: nn.Module,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    rate: Callable[[int], float],
    loss: Loss = cross_entropy,
    augment: Callable[[Tensor], Tensor] | None = None,
    clip_norm: float = 1.0,
) -> float:
    """One pass over the loader; the mean of its losses comes back.

    `rate` gives the learning rate of a step, and steps are counted from the first epoch
    on. Raises FloatingPointError as soon as the loss or its gradient is not finite.
    """
    device = next(model.parameters()).device
    model.train()
    losses = []
    for step, (images, labels) in enumerate(loader, epoch * len(loader)):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        images, labels = images.to(device), labels.to(device)
        images = images if augment is None else augment(images)
        losses.append(train_step(model, optimizer, images, labels, loss, clip_norm))
        if not math.isfinite(losses[-1]):
            place = f"epoch {epoch + 1}, step {step + 1}"
            advice = (
                "try a lower lr, a longer warm-up, float32 instead of half precision"
            )
            raise FloatingPointError(f"no finite loss or gradient in {place}: {advice}")
    return sum(losses) / len(losses)


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
    """Train in place on the model's device; one record per epoch comes back.

    A record holds epoch, loss and, with `val_loader`, val_loss and val_accuracy.
    `warmup` is a share of all steps; `augment` maps images to images; `progress` wraps
    the epochs as tqdm does. `checkpoint` is written after each epoch; if the file is
    there already, training goes on behind it, to the same numbers as in one go.

    Raises ValueError without an epoch or a batch, or for a checkpoint of another run;
    FloatingPointError, with epoch and step, if the loss or its gradient is not finite.
    """
    batches = len(loader)
    if epochs < 1 or batches < 1:
        rule = "training needs at least 1 epoch of 1 batch"
        raise ValueError(f"{rule}, got {epochs=}, {batches=}")
    size = f"{type(model).__name__} of {sum(p.numel() for p in model.parameters()):,}"
    settings = {"model": size, "epochs": epochs, "batches": batches, "lr": lr}
    settings |= {"decay": weight_decay, "warmup": warmup, "clip_norm": clip_norm}
    optimizer = make_optimizer(model, lr, weight_decay)
    path = Path(checkpoint) if checkpoint else None
    run = (settings, model, optimizer, loader)
    history = resume_run(path, *run) if path and path.exists() else []

    def rate(step: int) -> float:
        return lr * warmup_cosine(
            step, epochs * batches, round(warmup * epochs * batches)
        )

    for epoch in progress(range(len(history), epochs)):
        mean = train_epoch(
            model, loader, optimizer, epoch, rate, loss, augment, clip_norm
        )
        history.append({"epoch": epoch + 1, "loss": mean})
        if val_loader is not None:
            scores = evaluate(model, val_loader)
            history[-1] |= {f"val_{name}": score for name, score in scores.items()}
        if path:
            save_run(path, *run, history)
    return history
