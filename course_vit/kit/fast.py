"""Run a trained model as fast as this machine can, with the same answers.

from course_vit.kit.fast import fastest

quick = fastest(model, images)  # tries several ways on these images
logits = quick(images)
print(quick)  # how fast each way is, how equal its answers are, what is missing
"""

import random
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from ..encoder_block import Mlp
from ..patch_embedding import check_range

Way = Callable[[Tensor], Tensor]


class PackedLinear(nn.Module):
    """A linear layer whose weights oneDNN keeps in its own order, `... d -> ... e`.

    A product then needs no copy of the weights, and a GELU that follows is computed
    while the numbers are still in the cache.
    """

    def __init__(self, linear: nn.Linear, then: str = "none") -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias, self.then = linear.bias, then

    def forward(self, x: Tensor) -> Tensor:
        linear = torch.ops.mkldnn._linear_pointwise
        return linear(x, self.weight, self.bias, self.then, [], "none")


def packed(model: nn.Module, images: Tensor) -> Way:
    """Linear layers with packed weights, for float32 on a CPU; needs no compiler."""
    if images.device.type != "cpu" or images.dtype != torch.float32:
        raise RuntimeError("it needs float32 on a CPU")
    for module in list(model.modules()):
        fuse = isinstance(module, Mlp) and module.act.approximate == "none"
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Linear:  # a subclass may be used in its own way
                then = "gelu" if fuse and name == "fc1" else "none"
                setattr(module, name, PackedLinear(layer, then))
        if fuse:
            module.act = nn.Identity()
    return model


def compiled(model: nn.Module, images: Tensor) -> Way:
    """One compiled graph with constant weights; compiling takes a minute or so.

    On a CPU the size of the batch stays open, because torch then packs the weights for
    oneDNN instead of MKL, which was faster where we measured it.
    """
    run = torch.compile(model, dynamic=True if images.device.type == "cpu" else None)
    # As an option of `compile`, torch would not guard the weights of a frozen graph.
    with torch._inductor.config.patch(freezing=True):
        run(images)
    return run


def onnx(model: nn.Module, images: Tensor) -> Way:
    """The model in ONNX Runtime, on a CPU."""
    import onnxruntime

    if images.device.type != "cpu":
        raise RuntimeError("it needs a CPU")
    any_batch = ({0: torch.export.Dim("b")},) if len(images) > 1 else None
    graph = torch.export.export(model, (images,), dynamic_shapes=any_batch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        # optimize=False: onnxscript would take the performer's eps, 1e-8, for 0.
        torch.onnx.export(graph, (), path, dynamo=True, optimize=False, verbose=False)
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(path, options, providers)
    (name,) = (entry.name for entry in session.get_inputs())
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def bfloat16(model: nn.Module, images: Tensor) -> Way:
    """Products in bfloat16, which needs a larger `tolerance`."""
    run = torch.autocast(images.device.type, torch.bfloat16)(model)
    return lambda x: run(x).float()


WAYS = {way.__name__: way for way in (packed, compiled, onnx, bfloat16)}


@dataclass(frozen=True)
class Fast:
    """A model as a function, `b c h w -> b k`; `way` won, and `report` says by what."""

    run: Way
    way: str
    report: str

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        return self.run(images)

    def __str__(self) -> str:
        return self.report


@torch.no_grad()
def fastest(
    model: nn.Module,
    images: Tensor,
    ways: Iterable[str] = tuple(WAYS),
    tolerance: float = 1e-4,
) -> Fast:
    """Try several ways to run a model, and return the fastest as a function.

    The model is not changed, and the function does not see later changes of its
    weights. It expects batches like `images`. Without `compiled`, this takes seconds.

    Args:
        model: A trained model whose outputs are logits, `b k`.
        images: A typical batch, `b c h w`, on the model's device.
        ways: Which of `WAYS` to try besides the model as it is.
        tolerance: The largest difference between the logits of a way and those of the
            model, divided by the standard deviation of the logits.

    Raises:
        ValueError: For any other way, or a tolerance that is not between 0 and 1.
    """
    ways = tuple(ways)
    check_range(0, 1, tolerance=tolerance)
    if unknown := [way for way in ways if way not in WAYS]:
        raise ValueError(f"ways must be among {', '.join(WAYS)}; got {unknown[0]!r}")
    model = deepcopy(model).eval()
    expected = model(images)
    runs: dict[str, Way] = {"as it is": model}
    says = {"as it is": ""}
    for way in ways:
        try:
            run = WAYS[way](deepcopy(model), images)
            gap = ((run(images) - expected).abs().max() / expected.std()).item()
            says[way] = f"logits differ by {gap:.0e} of their std"
            if gap <= tolerance:
                runs[way] = run
        except Exception as error:  # whatever is missing here, the model still runs
            says[way] = (str(error) or type(error).__name__).splitlines()[0]
    times = time_in_turn({way: partial(run, images) for way, run in runs.items()})
    seconds = {way: median(measured) for way, measured in times.items()}
    winner = min(seconds, key=seconds.__getitem__)
    rows = []
    for way, words in says.items():
        gain = seconds["as it is"] / seconds[way] if way in seconds else 0.0
        used = f"{gain:.2f} times as fast" if gain else "not used"
        mark = "->" if way == winner else "  "
        rows.append(f"{mark} {way}: {used}{', ' * bool(words)}{words}")
    return Fast(runs[winner], winner, "\n".join(rows))


def time_in_turn(
    runs: dict[str, Callable[[], object]],
    rounds: int = 7,
    at_least: float = 0.1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds of one call of each function, for each round.

    In a round every function has its turn, so that a busy moment of the machine affects
    them all; the order changes, because a function finds the caches and threads as the
    last one left them. A turn repeats the call for `at_least` so many seconds, as it
    would be in use, and its median counts. The first round only warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for _ in range(1 + rounds):
        for name in order.sample(list(runs), len(runs)):
            turn: list[float] = []
            while not turn or sum(turn) < at_least:
                start = clock()
                runs[name]()
                if torch.cuda.is_initialized():
                    torch.cuda.synchronize()
                turn.append(clock() - start)
            seconds[name].append(median(turn))
    return {name: measured[1:] for name, measured in seconds.items()}
