"""Checks of lesson 05: the encoder block."""

from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from . import exercise, expect, expect_raises
from .probes import same, trying


def parts(dim: int) -> SimpleNamespace:
    """The four parts of a block, nothing in them zero or one."""
    torch.manual_seed(1)
    mixer = nn.Linear(5, 5, dtype=torch.float64)  # stands for attention: mixes tokens
    found = SimpleNamespace(
        norm1=nn.LayerNorm(dim, dtype=torch.float64),
        attn=lambda x: mixer(x.mT).mT,
        norm2=nn.LayerNorm(dim, dtype=torch.float64),
        mlp=nn.Sequential(nn.Linear(dim, dim, dtype=torch.float64), nn.GELU()),
    )
    for norm in (found.norm1, found.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return found


@exercise(
    "5.1",
    {
        "residual-missing": "what a branch finds takes the place of what was there",
        "norm-on-the-sum": "the sum itself is normalised, as in the block of 2017",
        "norm-after-the-branch": "normalises what a branch gives, not what it reads",
        "mlp-first": "thinks before it looks around",
        "branches-side-by-side": "both branches read what went into the block",
        "norm-forgotten": "a branch reads the tokens as they are",
        "one-norm-for-both": "both branches share one norm",
        "norms-exchanged": "the two norms are as good as each other",
    },
)
def encoder_block(answer) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    p = parts(12)
    norms = {"norm1": p.norm1, "norm2": p.norm2}
    silent = {"attn": torch.zeros_like, "mlp": torch.zeros_like}
    with torch.no_grad():
        still = answer(x, **norms, **silent)
        came = f"tokens {tuple(x.shape)} went in, {tuple(still.shape)} came out"
        expect(still.shape == x.shape, came)
        expect(
            not same(still, torch.zeros_like(x)),
            "with silent branches nothing comes out: what was there must be added",
            "residual-missing",
        )
        added = still - x
        shift = any(same(added, one.bias.expand_as(x)) for one in norms.values())
        expect(
            not shift and not same(added, (p.norm1.bias + p.norm2.bias).expand_as(x)),
            "attention and MLP were silenced, and still something was added, the same"
            " to every token: the bias of a norm. Does it stand before the branch or"
            " behind it?",
            "norm-after-the-branch",
        )
        expect(
            same(still, x),
            "attention and MLP were silenced, so the tokens must come out as they went"
            " in, and they came back changed: which line writes over the sum?",
            "norm-on-the-sum",
        )
        got = answer(x, **norms, attn=p.attn, mlp=p.mlp)
        judge_wiring(got, x, p)
        for number, branch in enumerate(silent, start=1):
            alone = {**silent, branch: getattr(p, branch)}
            calm = answer(x, **norms, **alone) - x
            loud = answer(7 * x, **norms, **alone) - 7 * x
            expect(
                torch.allclose(calm, loud, atol=1e-3),
                f"tokens 7 times as large, and what branch {number} of the block adds"
                " has changed: does it read them through its norm?",
                "norm-forgotten",
            )
        looked = x + p.attn(p.norm1(x))
        right = looked + p.mlp(p.norm2(looked))
    worst = (got - right).abs().max().item()
    expect(same(got, right), f"equations 2 and 3 differ by up to {worst:.2f}")


def judge_wiring(got: Tensor, x: Tensor, p: SimpleNamespace) -> None:
    """Go on unless the parts are joined in one of the known other ways."""

    def joined(first, norm, second, other) -> Tensor:
        halfway = x + first(norm(x))
        return halfway + second(other(halfway))

    expect(
        not same(got, joined(p.mlp, p.norm2, p.attn, p.norm1)),
        "the MLP thinks about tokens that have not looked around yet: which of the two"
        " equations comes first?",
        "mlp-first",
    )
    expect(
        not same(got, x + p.attn(p.norm1(x)) + p.mlp(p.norm2(x))),
        "the MLP reads what went into the block; it shall think about what attention"
        " found: equation 3 starts from z', not from z",
        "branches-side-by-side",
    )
    twice = [joined(p.attn, norm, p.mlp, norm) for norm in (p.norm1, p.norm2)]
    expect(
        not any(same(got, wrong) for wrong in twice),
        "both branches read through the same norm, and the other one is idle: each"
        " has a norm of its own, with its own weight and bias",
        "one-norm-for-both",
    )
    expect(
        not same(got, joined(p.attn, p.norm2, p.mlp, p.norm1)),
        "attention reads through the norm of the MLP, and the MLP through attention's:"
        " no shape tells, but loaded weights would stand in the wrong place",
        "norms-exchanged",
    )


@exercise(
    "5.2",
    {
        "mlp-forgotten": "a block is its attention",
        "mlp-not-widened": "both matrices of the MLP are d times d",
        "matrices-per-head": "every head has matrices of the full width",
        "biases-and-norms-forgotten": "parameters are what stands in matrices",
        "biases-forgotten": "a linear layer is its matrix",
        "norms-forgotten": "a norm has nothing to learn",
        "norm-half-counted": "a norm learns one number per channel",
    },
)
def count(answer) -> None:
    d = 192
    expect(
        answer > d * d,
        f"{answer}? One matrix of d times d alone has {d * d:,} numbers",
    )
    matrices, rest = divmod(answer, d * d)
    vectors, odd = divmod(rest, d)
    read = f"{answer:,} is {matrices:g} d d + {vectors:g} d"
    expect(
        matrices != 4,
        f"{read}: that is attention alone; what else stands in equations 2 and 3?",
        "mlp-forgotten",
    )
    expect(
        matrices != 6,
        f"{read}: how wide is the MLP between its two layers?",
        "mlp-not-widened",
    )
    expect(
        matrices != 18,
        f"{read}: did you count q, k and v once for every head? A head is a slice of"
        " them (exercise 4.3)",
        "matrices-per-head",
    )
    expect(
        matrices == 12,
        f"{read}, up to {odd:g}. Write down the shape of each matrix (q, k, v, proj,"
        " fc1, fc2), then one bias per output, then the two norms",
    )
    expect(
        (vectors, odd) != (0, 0),
        f"{read}: the matrices are all there; what in a block is no matrix?",
        "biases-and-norms-forgotten",
    )
    expect(
        (vectors, odd) != (4, 0),
        f"{read}: matrices and norms are there. Every linear layer also adds something",
        "biases-forgotten",
    )
    expect(
        (vectors, odd) != (9, 0),
        f"{read}: the linear layers are right; what else learns, once per channel?",
        "norms-forgotten",
    )
    expect(
        (vectors, odd) != (11, 0),
        f"{read}: the linear layers are right; a norm stretches, and what more?",
        "norm-half-counted",
    )
    expect(
        (vectors, odd) == (13, 0),
        f"{read}, up to {odd:g}: the matrices are right. Count what has one number per"
        " channel again, layer by layer",
    )


@exercise(
    "5.3",
    {
        "never-drops": "the layer is idle in training, too",
        "whole-batch-at-once": "one draw decides for all images",
        "same-for-all-images": "the draw belongs to a channel or to a token",
        "dropout-of-numbers": "drops numbers or tokens one by one, as dropout does",
        "keep-and-drop-exchanged": "takes the chance to be dropped for that to survive",
        "survivors-not-rescaled": "survivors pass as they are",
        "rescaled-the-wrong-way": "survivors are made smaller, not larger",
        "drops-in-eval": "a layer that drops does so in use, too",
        "scaled-in-eval": "scales in use, as one did before dropout was inverted",
        "three-axes-assumed": "whatever comes is tokens, b n d",
        "nonsense-let-through": "takes any number for a probability",
    },
)
def drop_path(answer) -> None:
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2) + 1
    layer = answer(0.3)
    out = layer(x)
    expect(out.shape == x.shape, f"in went {tuple(x.shape)}, out {tuple(out.shape)}")
    passes = [layer(x[:100]) == 0 for _ in range(30)]
    expect(
        any(dead.any() for dead in passes),
        "30 times 100 images, and in training nothing was dropped: is the layer idle"
        " all the time?",
        "never-drops",
    )
    expect(
        not all(dead.all() or not dead.any() for dead in passes),
        "a whole batch is kept or dropped at once: draw one number for each image",
        "whole-batch-at-once",
    )
    expect(
        not any(dead.all(dim=0).any() for dead in passes),
        "some channels or tokens were dropped in every image: the number to draw"
        " belongs to an image",
        "same-for-all-images",
    )
    dead = out == 0
    by_image = dead.flatten(1)
    torn = by_image.any(dim=1) & ~by_image.all(dim=1)
    expect(
        not torn.any(),
        f"within {torn.float().mean():.0%} of the images some numbers are 0 and others"
        " not: that is dropout. Look at your mask for image 0: how many numbers did it"
        " draw there?",
        "dropout-of-numbers",
    )
    share = dead.float().mean().item()
    expect(
        abs(share - 0.7) > 0.04,
        f"{share:.0%} of the images were dropped with drop_prob 0.3: which of the two"
        " probabilities did you compare with?",
        "keep-and-drop-exchanged",
    )
    expect(abs(share - 0.3) < 0.04, f"drop_prob is 0.3, {share:.0%} were dropped")
    ratio = (out / x)[~dead].mean().item()
    expect(
        abs(ratio - 1) > 1e-4,
        f"survivors pass as they are, so the mean falls to {(out / x).mean():.2f}: what"
        " does dropout do to them to keep it at 1?",
        "survivors-not-rescaled",
    )
    expect(
        ratio > 1,
        f"survivors were multiplied by {ratio:.2f}, and the mean falls to"
        f" {(out / x).mean():.2f}: must they become smaller or larger?",
        "rescaled-the-wrong-way",
    )
    expect(
        torch.allclose(out[~dead], x[~dead] / 0.7),
        f"survivors were multiplied by {ratio:.2f}, the mean is {(out / x).mean():.2f};"
        " it should stay 1",
    )
    layer.eval()
    expect(
        torch.equal(layer(x), layer(x)),
        "two passes in eval differ: ask self.training",
        "drops-in-eval",
    )
    expect(
        torch.equal(layer(x), x),
        f"in eval the branch must pass as it is, and was multiplied by"
        f" {(layer(x) / x).mean():.2f}: the rescaling was done in training",
        "scaled-in-eval",
    )
    expect(torch.equal(answer(0.0)(x), x), "drop_prob 0 must change nothing")
    expect((answer(1.0)(x) == 0).all(), "with drop_prob 1 nothing may survive")
    for shape in ((6,), (6, 2, 2, 2)):
        try:
            fits = answer(0.5)(torch.ones(shape)).shape == shape
        except (RuntimeError, ValueError, IndexError):
            fits = False
        expect(
            fits,
            f"images of shape {shape} did not come back in this shape: any rank is"
            " welcome, `b ...`. How many axes has your mask?",
            "three-axes-assumed",
        )
    for nonsense in (-0.1, 1.1):
        expect_raises(
            answer,
            (nonsense,),
            ValueError,
            f"drop_prob={nonsense}",
            "nonsense-let-through",
        )
    expect_known(answer)
    expect_limits(answer)


def expect_known(answer) -> None:
    """The probability can be left out, and is found where others look for it."""
    with trying("a layer without a drop_prob"):
        usual = answer()
    for layer, right in ((usual, 0.0), (answer(0.25), 0.25)):
        kept = getattr(layer, "drop_prob", None)
        expect(
            kept == right,
            f"a layer that drops {right:.0%} has the drop_prob {kept}: keep it as"
            " `self.drop_prob`, others want to read it",
        )


def expect_limits(answer) -> None:
    """The probabilities 0 and 1, in both modes; and the way back, in float64."""
    x = torch.rand(4, 3, 2, dtype=torch.float64) + 1
    expect(
        torch.equal(answer(1.0).eval()(x), x),
        "with drop_prob 1 in eval the branch must pass as it is, as with any other:"
        " dropping belongs to training",
    )
    with trying("no image at all in eval (is there a loop over images?)"):
        answer(0.3).eval()(x[:0])
    for drop_prob in (0.0, 0.3, 1.0):
        leaf = x.clone().requires_grad_()
        layer = answer(drop_prob)
        what = f"float64, drop_prob={drop_prob:g} and `backward`"
        with trying(what):
            out = layer(leaf)
            out.square().sum().backward()
        slope = leaf.grad
        expect(
            slope is not None and slope.isfinite().all(),
            f"{what}: the gradient is {slope if slope is None else 'not finite'}",
        )
        expect(
            drop_prob or torch.equal(out, x),
            "with drop_prob 0 numbers of float64 must pass as they are",
        )


@exercise(
    "5.4",
    {
        "rates-from-a-tensor": "a tensor is at hand wherever a model is built",
        "one-rate-for-all": "every block is dropped as often",
        "falls-with-depth": "early blocks are the ones to spare",
        "first-block-dropped": "the first block has made a step already",
        "steps-counted-as-blocks": "there are as many steps as blocks",
        "single-block-divides-by-zero": "there are always steps between the blocks",
        "single-block-taken-for-last": "a single block is the last one",
        "nonsense-let-through": "takes any rate and any depth",
    },
)
def drop_path_rates(answer) -> None:
    memoryless = (
        "the rates come from a tensor. Models are also built on the device meta"
        " (lesson 6), where a tensor has a shape and no numbers: plain floats do"
        " without"
    )
    for rate, depth in ((0.3, 4), (0.1, 12)):
        got = answer(rate, depth)
        call = f"drop_path_rates({rate}, {depth})"
        expect(
            not isinstance(got, Tensor)
            and not any(isinstance(value, Tensor) for value in got),
            memoryless,
            "rates-from-a-tensor",
        )
        expect(isinstance(got, list), f"a list is asked for, got {type(got).__name__}")
        expect(
            all(isinstance(value, float | int) for value in got),
            f"{call} must hold plain floats, got {type(got[0]).__name__}",
        )
        expect(len(got) == depth, f"{call} must give {depth} rates, got {len(got)}")
        expect(
            max(got) - min(got) > 1e-5,
            "all blocks have the same rate (DeiT III does so, we do not)",
            "one-rate-for-all",
        )
        expect(
            got[0] < got[-1],
            f"{call} goes from {got[0]:.3f} to {got[-1]:.3f}: on which blocks is"
            " everything else built?",
            "falls-with-depth",
        )
        expect(
            abs(got[0]) < 1e-6,
            f"{call} starts at {got[0]:.3f}: the first block is never dropped",
            "first-block-dropped",
        )
        expect(
            abs(got[-1] - rate) < 1e-7,
            f"{call} ends at {got[-1]:.3f}, not at {rate}: how many steps lie between"
            f" {depth} blocks?",
            "steps-counted-as-blocks",
        )
        steps = [b - a for a, b in pairwise(got)]
        expect(max(steps) - min(steps) < 1e-6, "the rates must rise in equal steps")
    try:
        with torch.device("meta"):
            built = answer(0.3, 4) == answer(0.3, 4)
    except Exception:
        built = False
    expect(built, memoryless, "rates-from-a-tensor")
    try:
        alone = answer(0.3, 1)
    except ZeroDivisionError:
        alone = None
    expect(
        alone is not None,
        "one block, and there is a division by zero: how many steps are there?",
        "single-block-divides-by-zero",
    )
    expect(
        alone != [0.3],
        "the only block got the rate 0.3, as the last one should. Which other place in"
        " the row does it have?",
        "single-block-taken-for-last",
    )
    expect(alone == [0.0], f"what should a single block get? It got {alone}")
    for nonsense in ((-0.1, 4), (1.1, 4), (0.1, 0)):
        expect_raises(
            answer,
            nonsense,
            ValueError,
            f"drop_path_rates{nonsense}",
            "nonsense-let-through",
        )
    for rate, right in ((0.0, [0.0, 0.0, 0.0]), (1.0, [0.0, 0.5, 1.0])):
        with trying(f"a rate of {rate:g}"):
            got = answer(rate, 3)
        expect(got == right, f"a rate of {rate:g} and 3 blocks: {right}, got {got}")
