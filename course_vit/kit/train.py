"""Train a model: the command `course-vit train`.

It runs the loop of lesson 7, `train_epoch`, with a step that knows of several
processes, and keeps everything that it makes in one folder.
"""

import copy
import csv
import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..deit import (
    DistillationLoss,
    DistilledVisionTransformer,
    labelled_cross_entropy,
)
from ..training import (
    Loss,
    Run,
    evaluate,
    init_narrow,
    logits_of,
    make_optimizer,
    num_batches,
    plain,
    resume_run,
    save_run,
    train_epoch,
)
from ..vision_transformer import VisionTransformer
from . import CourseError
from .images import Images, find_images, loaders
from .models import create_model, list_models
from .predict import load
from .processes import (
    Disconnected,
    Place,
    joined,
    mean_of_all,
    one_does,
    part_like,
    spread,
    synchronise,
    whole,
)
from .recipes import RECIPES, Recipe
from .storage import LOCK, locked, read_json, write
from .weights import WeightSet, of_model, read_weights, settings_beside

# The models of lessons 7 and 9, whose image size and channels are those of the images.
_NARROW: dict[str, Any] = {
    "patch_size": 2,
    "embed_dim": 64,
    "depth": 3,
    "num_heads": 4,
    "mlp_ratio": 2.0,
}
LESSON_MODELS: dict[str, Callable[..., nn.Module]] = {
    "digits_vit": partial(VisionTransformer, pool="mean", **_NARROW),
    "digits_deit": partial(DistilledVisionTransformer, **_NARROW),
}
CHECKPOINT, SETTINGS, LOG = "run.pth", "settings.json", "log.csv"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def train(
    model: str,
    data: str,
    recipe: Recipe = RECIPES["digits"],
    output: Path | None = None,
    *,
    teacher: str = "",
    device: str = "",
    compiled: bool = False,
    shard: bool = False,
    skip_broken: bool = False,
    resume_anyway: bool = False,
) -> list[dict[str, float]]:
    """Train a model by a recipe, alone or in the processes that torchrun started.

    model: a name in `list_models()` or in `LESSON_MODELS`.
    data: where the images are (`find_images`).
    output: the folder for the checkpoint, the log and the weights; None is
        `runs/MODEL-DATA` here. If it holds an unfinished run, this run continues.
    teacher: what a distilled model learns from: the folder of an earlier run, or the
        name of a model with published weights; "" is none.
    device: cpu, cuda or mps; "" is cuda if there is one, else cpu.
    compiled: whether the model is compiled first.
    shard: whether each process keeps only a part of the weights (FSDP2).
    skip_broken: whether images that cannot be read are left out.
    resume_anyway: whether a run continues with a different number of processes.

    Prints what happens, in the first process only, and returns one record for each
    epoch. With the same batch, the run is the same for every number of processes, as
    long as the model draws nothing at random: for dropout and stochastic depth, each
    process draws its own numbers.

    Raises CourseError if something is not possible, and KeyboardInterrupt with a
    sentence that says how to continue.
    """
    output = output or Path("runs", f"{model}-{Path(data).name}")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with joined(device) as place, first_one_speaks(place), ExitStack() as stack:
        images = find_images(data, recipe.seed, skip_broken)
        how = preparation(model, images, recipe.img_size)
        run, val_loader = make_run(model, images, how, recipe, place, teacher)
        settings = {
            "model": model,
            "data": str(Path(data).resolve()) if Path(data).is_dir() else data,
            "images": [len(images.train), len(images.val)],
            "teacher": teacher,
            **asdict(replace(recipe, workers=0)),
            "processes": place.number,
        }
        one_does(lambda: open_folder(stack, output, settings, resume_anyway))
        if (output / CHECKPOINT).exists():
            resume(run, output / CHECKPOINT)
        spread_run(run, shard)
        if recipe.ema:
            keep_average(run.optimizer, recipe.ema)
        if compiled:
            run.model.compile()
        print(about(model, images, recipe, run, place))
        try:
            folder = Folder(output, model, how, images.class_names, place.rank == 0)
            finish(run, val_loader, folder, recipe.batch)
        except FloatingPointError as error:
            raise CourseError(str(error)) from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: the same command continues the run in {output}"
            ) from None
        print(f"{output} holds {', '.join(sorted(folder.names))}")
        if model in list_models():
            todo = f"course-vit predict IMAGE --model {model} --weights {output}"
        else:
            todo = f"course_vit.kit.train.load_trained({str(output)!r}) in Python"
        print(f"use the model: {todo}")
        return run.history


@contextmanager
def first_one_speaks(place: Place) -> Iterator[None]:
    """Let only the first process print, also what all processes have to say."""
    if not place.rank:
        yield
        return
    with redirect_stdout(io.StringIO()):
        try:
            yield
        except Disconnected:
            raise
        except (CourseError, KeyboardInterrupt):
            # When this process ends, torchrun stops the first one: let it speak before.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(3)
            raise SystemExit(1) from None


# --- The run of lesson 7, and its step ---


def preparation(model: str, images: Images, img_size: int = 0) -> WeightSet:
    """How images are prepared for a model.

    img_size: the side of the images; 0 is the usual one of the model, which for a
        lesson's model is that of the images.

    Raises CourseError if there is no such model.
    """
    if model in LESSON_MODELS:
        black, white = (0.0,) * images.in_chans, (1.0,) * images.in_chans
        side = img_size or images.img_size
        return WeightSet("", mean=black, std=white, crop=1.0, img_size=side)
    if model not in list_models():
        raise CourseError(
            f"there is no model {model!r}: choose one of {', '.join(LESSON_MODELS)} or"
            f" of {', '.join(list_models())}"
        )
    how = of_model(model, "")
    return replace(how, img_size=img_size or how.img_size)


def make_model(name: str, how: WeightSet, num_classes: int, **more: Any) -> nn.Module:
    """Build a new model for images that are prepared like this.

    Raises CourseError if the image size does not suit the model.
    """
    sizes = {"img_size": how.img_size, "num_classes": num_classes, **more}
    try:
        if name not in LESSON_MODELS:
            return create_model(name, **sizes)
        model = LESSON_MODELS[name](in_chans=len(how.mean), **sizes)
    except ValueError as error:
        raise CourseError(str(error)) from error
    init_narrow(model)
    return model


def make_run(
    name: str,
    images: Images,
    how: WeightSet,
    recipe: Recipe,
    place: Place,
    teacher: str = "",
) -> tuple[Run, DataLoader]:
    """A run that has not begun, and the loader of its validation images."""
    num_classes = len(images.class_names)
    torch.manual_seed(recipe.seed)
    model = make_model(name, how, num_classes, drop_path_rate=recipe.drop_path)
    train_loader, val_loader = loaders(images, how, recipe, place.rank, place.number)
    run = Run(
        model.to(place.device),
        train_loader,
        recipe.epochs,
        recipe.lr,
        recipe.weight_decay,
        recipe.warmup,
        recipe.clip_norm,
        recipe.seed,
        make_loss(model, how, num_classes, recipe, place, teacher),
        step=Step(place, recipe.accumulate, recipe.precision),
    )
    return run, val_loader


@dataclass
class Step:
    """One step downhill, shared by several processes; is called like `train_step`.

    Each process sees its part of the batch, in pieces of equal size. So the mean of the
    gradients of all pieces is the gradient of the mean loss over the whole batch.
    """

    place: Place
    accumulate: int = 1
    precision: str = "fp32"

    def __call__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        images: Tensor,
        labels: Tensor,
        loss: Loss,
        clip_norm: float,
    ) -> float:
        if self.place.rank:  # no two processes drop the same activations
            torch.manual_seed(int(torch.randint(2**40, ())) + self.place.rank)
        kind, half = self.place.device.type, self.precision == "bf16"
        optimizer.zero_grad()
        total = torch.zeros((), device=self.place.device)
        pieces = [part.chunk(self.accumulate) for part in (images, labels)]
        for number, (some, of_some) in enumerate(zip(*pieces, strict=True), start=1):
            synchronise(model, number == self.accumulate)
            with torch.autocast(kind, torch.bfloat16, enabled=half):
                value = loss(some, model(some), of_some) / self.accumulate
            value.backward()
            total += value.detach()
        mean_of_all(total)
        length = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        if not torch.isfinite(total + whole(length)):
            return float("nan")
        optimizer.step()
        return total.item()


def spread_run(run: Run, shard: bool) -> None:
    """Let several processes share a run, which has begun or not."""
    run.model = spread(run.model, shard)
    if not shard:
        return
    old = run.optimizer.state_dict()  # of whole tensors, while the model now has parts
    run.optimizer = make_optimizer(run.model, run.lr, run.weight_decay)
    groups = run.optimizer.param_groups
    parameters = [p for group in groups for p in group["params"]]
    for number, state in old["state"].items():
        own = parameters[number]
        old["state"][number] = {name: part_like(x, own) for name, x in state.items()}
    run.optimizer.load_state_dict(old)


def resume(run: Run, path: Path) -> None:
    """`resume_run`, which raises CourseError here."""
    try:
        resume_run(run, path)
    except ValueError as error:
        raise CourseError(str(error)) from error


# --- Averaged weights ---


def keep_average(optimizer: torch.optim.Optimizer, decay: float) -> None:
    """Average the weights over the steps: average = d average + (1 - d) weight.

    In step n, d is the smaller one of `decay` and (1 + n) / (10 + n), since the first
    weights deserve little trust. The averages are a part of the optimizer's state, so a
    checkpoint contains them.
    """

    @torch.no_grad()
    def update(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for parameter, state in optimizer.state.items():
            step = float(state["step"])
            share = 1 - min(decay, (1 + step) / (10 + step))
            if "average" not in state:
                state["average"] = parameter.detach().clone()
            state["average"].lerp_(parameter.detach(), share)

    optimizer.register_step_post_hook(update)


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside `with averaged(optimizer)` the weights are their averages, if kept."""
    kept = {
        p: p.detach().clone() for p, it in optimizer.state.items() if "average" in it
    }
    with torch.no_grad():
        for parameter in kept:
            parameter.copy_(optimizer.state[parameter]["average"])
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept.items():
                parameter.copy_(value)


# --- The loss, and a teacher ---


def make_loss(
    model: nn.Module,
    how: WeightSet,
    num_classes: int,
    recipe: Recipe,
    place: Place,
    teacher: str = "",
) -> Loss:
    """Cross-entropy, or lesson 9's loss for a model that learns from a teacher.

    Raises CourseError if only one of the two is given, a teacher or a model with a
    distillation token, and if there is no such teacher.
    """
    distilled = isinstance(model, DistilledVisionTransformer)
    if teacher and not distilled:
        raise CourseError("only a distilled model can learn from a teacher")
    if distilled and not teacher:
        raise CourseError(
            "a distilled model needs a --teacher: the folder of an earlier run, or the"
            " name of a model with published weights"
        )
    if not teacher:
        return partial(smoothed, recipe.smoothing)
    answers = find_teacher(teacher, how, num_classes, place.device)
    alpha = 0.5 if recipe.distill == "hard" else 0.1  # DeiT, table 3 and section 5
    return DistillationLoss(answers, recipe.distill, alpha, smoothing=recipe.smoothing)


def smoothed(smoothing: float, _: Tensor, outputs: Any, labels: Tensor) -> Tensor:
    """Cross-entropy with labels `b` or probabilities `b k`, `b k, b -> ()`."""
    return labelled_cross_entropy(logits_of(outputs), labels, smoothing)


def find_teacher(
    name: str, ours: WeightSet, num_classes: int, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Load a teacher that accepts the student's images, `b c h w -> b k`."""
    folder = Path(name) if Path(name).is_dir() else Path(name).parent
    if (folder / CONFIG).is_file():
        model, theirs = load_trained(folder)
    elif name in list_models():
        model, theirs = load(name)
    else:
        raise CourseError(
            f"there is no teacher {name!r}: give the folder of an earlier run, or a"
            " name in list_models()"
        )
    if theirs.classes != num_classes:
        raise CourseError(
            f"the teacher {name} knows {theirs.classes} classes, but the images have"
            f" {num_classes}"
        )
    model.eval().requires_grad_(False).to(device)

    def answers(images: Tensor) -> Tensor:
        images = images * column(ours.std, images) + column(ours.mean, images)
        if theirs.img_size != ours.img_size:
            size = (theirs.img_size, theirs.img_size)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        return model(
            (images - column(theirs.mean, images)) / column(theirs.std, images)
        )

    return answers


def column(values: tuple[float, ...], images: Tensor) -> Tensor:
    """One number for each channel, `c 1 1`, on the device of the images."""
    return torch.tensor(values, device=images.device)[:, None, None]


def load_trained(folder: str | Path) -> tuple[nn.Module, WeightSet]:
    """Load the model that an earlier run left, and how its images are prepared.

    Raises CourseError if there is none.
    """
    folder = Path(folder)
    try:
        known = json.loads((folder / CONFIG).read_text("utf-8"))
        how = replace(WeightSet(""), **settings_beside(folder))
        how = replace(how, classes=known["num_classes"])
        model = make_model(known["architecture"], how, how.classes)
        model.load_state_dict(read_weights(folder / WEIGHTS))
    except (CourseError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise CourseError(f"{folder} holds no trained model: {error}") from error
    return model, how


# --- The folder of a run ---


def open_folder(
    stack: ExitStack, output: Path, settings: dict[str, Any], resume_anyway: bool
) -> None:
    """Lock the folder of a run until `stack` ends, and write the settings into it.

    Raises CourseError if the folder holds anything else, such as a run with different
    settings, or if a different process uses it.
    """
    known = output / SETTINGS
    found = {it.name for it in output.iterdir()} if output.is_dir() else set()
    if found - {LOCK, f"{SETTINGS}.partial"} and not known.exists():
        raise CourseError(
            f"{output} holds other files, which a run could overwrite: choose a"
            " different --output"
        )
    todo = "wait for it, or choose a different --output"
    stack.enter_context(locked(output, seconds=0, todo=todo))
    old = read_json(known, must_be_table) or settings
    allowed = {"processes"} if resume_anyway else set()
    for name in old | settings:
        if name not in allowed and old.get(name) != settings.get(name):
            also = ", or add --resume-anyway" if name == "processes" else ""
            raise CourseError(
                f"{output} holds a run with {name} {old.get(name)}, got"
                f" {settings.get(name)}: use the same to continue it{also}, or choose a"
                " different --output"
            )
    write(known, json.dumps(settings, indent=1).encode())


def must_be_table(known: Any) -> None:
    if not isinstance(known, dict):
        raise ValueError("it holds no settings")


class Folder:
    """The folder of a run, into which the first process writes after each epoch."""

    def __init__(
        self, path: Path, model: str, how: WeightSet, classes: list[str], writes: bool
    ) -> None:
        self.path, self.writes = path, writes
        self.config = {  # as timm writes and reads it
            "architecture": model,
            "num_classes": len(classes),
            "label_names": classes,
            "pretrained_cfg": {
                "input_size": [len(how.mean), how.img_size, how.img_size],
                "mean": how.mean,
                "std": how.std,
                "crop_pct": how.crop,
                "interpolation": how.interpolation,
                "num_classes": len(classes),
            },
        }
        self.names = {CHECKPOINT, SETTINGS, LOG, WEIGHTS, CONFIG}

    def keep(self, run: Run) -> None:
        """Write the checkpoint. All processes must call this."""
        states = copy.copy(run)
        for name in ("model", "optimizer"):
            state = whole(getattr(run, name).state_dict())
            setattr(states, name, SimpleNamespace(state_dict=partial(dict, state)))
        if self.writes:
            save_run(states, self.path / CHECKPOINT)

    def publish(self, run: Run) -> None:
        """Write the log, the weights and how to use them. All processes call this."""
        with averaged(run.optimizer):
            weights = whole(plain(run.model.state_dict()))
            weights = {name: x.detach().cpu().clone() for name, x in weights.items()}
        if not self.writes:
            return
        text = io.StringIO()
        rows = csv.DictWriter(text, list(run.history[0]), lineterminator="\n")
        rows.writeheader()
        rows.writerows(run.history)
        write(self.path / LOG, text.getvalue().encode())
        write(self.path / CONFIG, json.dumps(self.config, indent=1).encode())
        write(self.path / WEIGHTS, save(weights))

    def events(self, record: dict[str, float]) -> None:
        """Add a record to what TensorBoard shows, if it is installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        if self.writes:
            epoch = int(record["epoch"])
            with SummaryWriter(self.path, purge_step=epoch) as writer:
                for name, value in record.items():
                    writer.add_scalar(name, value, epoch)


def finish(run: Run, val_loader: DataLoader, folder: Folder, batch: int) -> None:
    """Train the epochs that a run still lacks; keep and print the result of each.

    batch: how many images a step sees, over all processes.
    """
    if run.history:  # an earlier process may have been killed before it did this
        folder.publish(run)
    for _ in range(len(run.history), run.epochs):
        start = time.perf_counter()
        train_epoch(run)
        seconds = time.perf_counter() - start
        with averaged(run.optimizer):
            scores = evaluate(run.model, val_loader)
        run.history[-1] |= {f"val_{name}": score for name, score in scores.items()}
        folder.keep(run)
        folder.publish(run)
        folder.events(run.history[-1])
        print(
            line(run.history[-1], batch * num_batches(run.loader) / seconds), flush=True
        )


def about(model: str, images: Images, recipe: Recipe, run: Run, place: Place) -> str:
    """What will be trained on what, and in which steps."""
    skipped = f", {images.skipped} broken and left out" if images.skipped else ""
    at_once = recipe.batch // place.number // recipe.accumulate
    done = f"; {len(run.history)} are done" if run.history else ""
    return (
        f"{model} on {place.device}, {len(images.class_names)} classes:"
        f" {len(images.train):,} images for training,"
        f" {len(images.val):,} for validation{skipped}\n"
        f"global batch {recipe.batch} = {at_once} (images at once) x {place.number}"
        f" (processes) x {recipe.accumulate} (pieces); highest learning rate"
        f" {recipe.lr:g}\n"
        f"{run.epochs} epochs of {num_batches(run.loader)} steps{done}"
    )


def line(record: dict[str, float], speed: float) -> str:
    """The record of an epoch, and how many images it learned from in a second."""
    return (
        f"epoch {record['epoch']:3}: loss {record['loss']:.4f}, validation"
        f" {record['val_loss']:.4f}, accuracy {record['val_accuracy']:.1%},"
        f" {speed:,.0f} images/s"
    )
