"""Checks of lesson 05: the encoder block."""

from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from . import exercise, expect


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


def same(got: Tensor, right: Tensor) -> bool:
    return got.shape == right.shape and torch.allclose(got, right, atol=1e-9)


@exercise("5.1", "A colleague's block", "fix", minutes=8)
def encoder_block(answer) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    p = parts(12)
    norms = {"norm1": p.norm1, "norm2": p.norm2}
    branches = {"attn": p.attn, "mlp": p.mlp}
    with torch.no_grad():
        silent = answer(x, **norms, attn=torch.zeros_like, mlp=torch.zeros_like)
        expect(
            silent.shape == x.shape,
            f"tokens {tuple(x.shape)} went in, {tuple(silent.shape)} came out",
        )
        expect(
            not same(silent, torch.zeros_like(x)),
            "with silent branches nothing comes out: what was there must be added",
        )
        expect(
            same(silent, x),
            "attention and MLP were silenced, so the tokens must come out as they went"
            " in, and they came back changed: which line writes over the sum?",
        )
        looked = x + p.attn(p.norm1(x))
        got = answer(x, **norms, **branches)
        expect(
            not same(got, looked + p.mlp(p.norm2(x))),
            "the MLP reads what went into the block; it shall think about what"
            " attention found: equation 3 starts from z', not from z",
        )
        for norm, branch in (("norm1", "attn"), ("norm2", "mlp")):
            alone = {"attn": torch.zeros_like, "mlp": torch.zeros_like}
            alone[branch] = branches[branch]
            calm = answer(x, **norms, **alone) - x
            loud = answer(7 * x, **norms, **alone) - 7 * x
            expect(
                torch.allclose(calm, loud, atol=1e-3),
                f"tokens 7 times as large, and what {branch} adds has changed: does it"
                f" read them through {norm}?",
            )
        right = looked + p.mlp(p.norm2(looked))
        worst = (got - right).abs().max().item()
        expect(same(got, right), f"equations 2 and 3 differ by up to {worst:.2f}")


@exercise("5.2", "Count a block", "predict", minutes=5)
def count(answer) -> None:
    d = 192
    expect(
        answer != 12 * d * d,
        "the matrices are all there; who else has parameters? Biases, and two norms",
    )
    expect(answer != 4 * d * d + 4 * d, "that is attention alone: count the MLP, too")
    expect(answer != 4 * d * d, "the MLP has two matrices of d times 4 d, too")
    expect(
        answer != 12 * d * d + 9 * d,
        "the linear layers are right; a norm has a weight and a bias per channel",
    )
    expect(
        answer == 12 * d * d + 13 * d,
        f"{answer:,}? Write down the shape of each matrix (q, k, v, proj, fc1, fc2),"
        " then one bias per output, then the two norms",
    )


@exercise("5.3", "Drop paths", "implement", minutes=10)
def drop_path(answer) -> None:
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2) + 1
    layer = answer(0.3)
    out = layer(x)
    expect(out.shape == x.shape, f"in went {tuple(x.shape)}, out {tuple(out.shape)}")
    passes = [layer(x[:100]) == 0 for _ in range(30)]
    expect(
        any(dead.any() for dead in passes),
        "in training nothing was dropped: is the layer idle all the time?",
    )
    expect(
        not all(dead.all() or not dead.any() for dead in passes),
        "a whole batch is kept or dropped at once: draw one number for each image",
    )
    expect(
        not any(dead.all(dim=0).any() for dead in passes),
        "some channels or tokens were dropped in every image: the number to draw"
        " belongs to an image",
    )
    dead = out == 0
    share = dead.float().mean().item()
    by_image = dead.flatten(1)
    expect(
        (by_image.all(dim=1) == by_image.any(dim=1)).all(),
        "within one image some numbers are 0 and others not: that is dropout. Draw one"
        " number for each image, shape (b, 1, 1)",
    )
    expect(
        abs(share - 0.7) > 0.04,
        f"{share:.0%} of the images were dropped with drop_prob 0.3: which of the two"
        " probabilities did you compare with?",
    )
    expect(abs(share - 0.3) < 0.04, f"drop_prob is 0.3, {share:.0%} were dropped")
    ratio = (out / x)[~dead].mean().item()
    expect(
        abs(ratio - 1) > 1e-4,
        f"survivors pass as they are, so the mean falls to {(out / x).mean():.2f}: what"
        " does dropout do to them to keep it at 1?",
    )
    expect(
        torch.allclose(out[~dead], x[~dead] / 0.7),
        f"survivors were multiplied by {ratio:.2f}: divide by the chance to survive",
    )
    layer.eval()
    expect(
        torch.equal(layer(x), layer(x)), "two passes in eval differ: ask self.training"
    )
    expect(torch.equal(layer(x), x), "in eval the branch must pass as it is")
    expect(torch.equal(answer(0.0)(x), x), "drop_prob 0 must change nothing")
    gone = answer(1.0)(x)
    expect(
        (gone == 0).all(),
        "drop_prob 1 must give zeros; 0 divided by 0 is not a number (nan)",
    )
    expect(answer(0.5)(torch.ones(6)).shape == (6,), "any rank is welcome, `b ...`")
    for nonsense in (-0.1, 1.1):
        refused(lambda p=nonsense: answer(p), f"drop_prob={nonsense}")


@exercise("5.4", "The deeper, the more", "implement", minutes=5)
def drop_path_rates(answer) -> None:
    for rate, depth in ((0.3, 4), (0.1, 12)):
        got = answer(rate, depth)
        call = f"drop_path_rates({rate}, {depth})"
        expect(isinstance(got, list), f"a list is asked for, got {type(got).__name__}")
        expect(
            all(isinstance(value, float) for value in got),
            f"{call} must hold plain floats: models are also built without any tensor",
        )
        expect(len(got) == depth, f"{call} must give {depth} rates, got {len(got)}")
        expect(
            max(got) - min(got) > 1e-6,
            "all blocks have the same rate (DeiT III does so, we do not)",
        )
        expect(got[0] < got[-1], "the rates must rise with depth: early blocks stay")
        expect(
            abs(got[0]) < 1e-9,
            f"{call} starts at {got[0]:.3f}: the first block is never dropped",
        )
        expect(
            abs(got[-1] - rate) < 1e-9,
            f"{call} ends at {got[-1]:.3f}, not at {rate}: how many steps lie between"
            f" {depth} blocks?",
        )
        steps = [b - a for a, b in pairwise(got)]
        expect(max(steps) - min(steps) < 1e-9, "the rates must rise in equal steps")
    try:
        alone = answer(0.3, 1)
    except ZeroDivisionError:
        raise AssertionError("one block: there are no steps to divide by") from None
    expect(
        alone == [0.0], f"a single block is the first one: expected [0.0], got {alone}"
    )
    for nonsense in ((-0.1, 4), (1.1, 4), (0.1, 0)):
        refused(lambda call=nonsense: answer(*call), f"drop_path_rates{nonsense}")


def refused(call, name: str) -> None:
    """Go on if the call is refused with a ValueError."""
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"{name} is nonsense: refuse it with a ValueError")
