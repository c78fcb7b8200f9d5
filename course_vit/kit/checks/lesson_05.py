"""Checks of lesson 05: the encoder block."""

from contextlib import suppress
from numbers import Real

import torch
from torch import Tensor, nn

from ...encoder_block import DropPath, drop_path_rates
from .judge import answers, backward, draw, elsewhere, exercise, expect

# 5.1 A colleague's block


X = draw(2, 5, 12)


def tokens(answer, attends=True, thinks=True, scale=1.0, x=X) -> Tensor:
    """The tokens that leave a block, of which either branch may be silent."""
    torch.manual_seed(0)
    mixer = nn.Linear(5, 5, dtype=torch.float64)  # in place of attention
    mlp = nn.Sequential(nn.Linear(12, 12, dtype=torch.float64), nn.GELU())
    norm1, norm2 = norms = [nn.LayerNorm(12, dtype=torch.float64) for _ in range(2)]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    attn, think = lambda x: attends * mixer(x.mT).mT, lambda x: thinks * mlp(x)
    return answer(scale * x, norm1, attn, norm2, think)


def growth(answer, **alone) -> Tensor:
    """How much more one branch adds to tokens that are 7 times as large."""
    small, large = tokens(answer, **alone), tokens(answer, **alone, scale=7.0)
    return (large - 7 * X - small + X).round(decimals=2)  # eps


def pre_norm(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


block = exercise(
    "5.1",
    right=pre_norm,
    trial={
        "norm-on-the-sum": lambda f: tokens(f, attends=False, thinks=False),
        "first-norm-forgotten": lambda f: growth(f, thinks=False),
        "second-norm-forgotten": lambda f: growth(f, attends=False),
        "equations 2 and 3 differ by up to {off:.2f}": tokens,
    },
    also=backward(lambda f, x: tokens(f, x=x), X),
    shape="tokens of shape {right} went in, {got} came out",
)
block.mistakes |= {
    "residual-missing: attention and MLP were silenced, and the block returned zeros:"
    " where does it add the tokens that it was given?": (
        lambda x, norm1, attn, norm2, mlp: mlp(norm2(attn(norm1(x))))
    ),
    "norm-after-the-branch: attention and MLP were silenced, and still something was"
    " added, the same to every token: the bias of a norm. Is your norm applied before"
    " the branch or after it?": answers(
        lambda x, norm1, attn, norm2, mlp: x + norm1(attn(x)) + norm2(mlp(x)),
        lambda x, norm1, attn, norm2, mlp: x + norm1(attn(x)),
        lambda x, norm1, attn, norm2, mlp: x + norm2(mlp(x)),
    ),
    "norm-on-the-sum: attention and MLP were silenced, so the tokens must come out as"
    " they went in, but they were changed: which line overwrites the sum?": (
        lambda x, norm1, attn, norm2, mlp: norm2(norm1(x + attn(x)) + mlp(x))
    ),
    "first-norm-forgotten: with tokens 7 times as large, branch 1 of the block does"
    " not add the same as before: does it read the tokens through its norm?": (
        lambda x, norm1, attn, norm2, mlp: pre_norm(x, nn.Identity(), attn, norm2, mlp)
    ),
    "second-norm-forgotten: with tokens 7 times as large, branch 2 of the block does"
    " not add the same as before: does it read the tokens through its norm?": (
        lambda x, norm1, attn, norm2, mlp: pre_norm(x, norm1, attn, nn.Identity(), mlp)
    ),
    "mlp-first: your MLP works on tokens to which attention has not been applied: which"
    " of the two equations comes first?": (
        lambda x, norm1, attn, norm2, mlp: pre_norm(x, norm2, mlp, norm1, attn)
    ),
    "branches-side-by-side: your MLP reads the tokens that went into the block."
    " Equation 3 starts from z', not from z: what is in z'?": (
        lambda x, norm1, attn, norm2, mlp: x + attn(norm1(x)) + mlp(norm2(x))
    ),
    "attention-lost-from-the-sum: the MLP was silenced, and the tokens came out as"
    " they went in, although attention found something: does equation 3 add to z or to"
    " z'?": (lambda x, norm1, attn, norm2, mlp: x + mlp(norm2(x + attn(norm1(x))))),
    "one-residual-around-both: your MLP reads the result of attention without the"
    " tokens, and x is added only at the end: how many sums do both equations have?": (
        lambda x, norm1, attn, norm2, mlp: x + mlp(norm2(attn(norm1(x))))
    ),
    "one-norm-for-both: both branches use the same norm, and the other norm is never"
    " used: each branch has a norm of its own, with its own weight and bias": answers(
        lambda x, norm1, attn, norm2, mlp: pre_norm(x, norm1, attn, norm1, mlp),
        lambda x, norm1, attn, norm2, mlp: pre_norm(x, norm2, attn, norm2, mlp),
    ),
    "norms-exchanged: attention uses the norm of the MLP, and the MLP uses the norm of"
    " attention: no shape shows it, but loaded weights would be in the wrong place": (
        lambda x, norm1, attn, norm2, mlp: pre_norm(x, norm2, attn, norm1, mlp)
    ),
}

# 5.2 Count

D = 192


def number(answer):
    rule = (
        f"a number is asked for, got {answer!r}: write it out, or let Python compute it"
    )
    expect(isinstance(answer, Real), rule)
    return answer


parameters = exercise(
    "5.2",
    right=444_864,
    trial={
        "{answer:,} is {got:g} d d plus a remainder. Write down the shape of each"
        " matrix (q, k, v, proj, fc1, fc2), one bias per output, and the two norms": (
            lambda answer: number(answer) // D**2
        ),
        "{answer:,} is 12 d d + {got:g} d: the matrices are right. Count what has one"
        " number per channel again, layer by layer": lambda answer: (
            number(answer) % D**2 / D
        ),
    },
)
parameters.mistakes |= {
    "not-one-matrix: {answer}? One matrix of d times d alone has 36,864 numbers": 12,
    "mlp-forgotten: {answer:,} is 4 d d plus a remainder, which is attention alone:"
    " what else is there in equations 2 and 3?": 4 * D**2,
    "mlp-not-widened: {answer:,} is 6 d d plus a remainder: how wide is the MLP between"
    " its two layers?": 6 * D**2,
    "matrices-per-head: {answer:,} is 18 d d plus a remainder: did you count q, k and v"
    " once for every head? A head is a slice of them (exercise 4.3)": 18 * D**2,
    "biases-and-norms-forgotten: {answer:,} is 12 d d, so all matrices are counted:"
    " which parameters of a block are not in a matrix?": 12 * D**2,
    "biases-forgotten: {answer:,} is 12 d d + 4 d, so matrices and norms are counted:"
    " what does every linear layer add after it has multiplied?": 12 * D**2 + 4 * D,
    "norms-forgotten: {answer:,} is 12 d d + 9 d: the linear layers are right: which"
    " other layers have parameters, one or more per channel?": 12 * D**2 + 9 * D,
    "norm-half-counted: {answer:,} is 12 d d + 11 d: the linear layers are right. A"
    " norm stretches each channel: what else does it do?": 12 * D**2 + 11 * D,
}

# 5.3 Drop paths


def images(count: int = 4000) -> Tensor:
    return draw(count, 3, 2).abs().float() + 1


def dead(answer, x: Tensor, drop_prob: float = 0.3) -> Tensor:
    """Which numbers a layer drops in training."""
    return answer(drop_prob)(x) == 0


def repeats(answer) -> bool:
    """Whether a second pass, or a second layer, drops the images of the first."""
    layer = answer(0.3)
    first, second = layer(images()) == 0, layer(images()) == 0
    return torch.equal(first, second) or torch.equal(first, dead(answer, images()))


def exact_share(answer) -> list[int]:
    """How many of 100 images are dropped, if it is one number for 30 batches."""
    batches = [dead(answer, images(100)).flatten(1).all(dim=1) for _ in range(30)]
    counts = {int(batch.sum()) for batch in batches}
    return [*counts] if len(counts) == 1 else []


def what_is_dropped(answer) -> str:
    """Of thirty batches of a hundred images, in one word."""
    batches = [dead(answer, images(100)) for _ in range(30)]
    if not any(batch.any() for batch in batches):
        return "nothing"
    if all(batch.all() or not batch.any() for batch in batches):
        return "batches"
    return "columns" if any(b.all(dim=0).any() for b in batches) else "images"


def torn(answer) -> float:
    """The share of the images of which a part is dropped."""
    by_image = dead(answer, images()).flatten(1)
    return (by_image.any(dim=1) & ~by_image.all(dim=1)).float().mean().item()


def survivors(answer) -> tuple[float, float]:
    """The factor of what survives, and the mean with what is dropped."""
    ratio = answer(0.3)(images()) / images()
    return ratio[ratio != 0].mean().item(), ratio.mean().item()


def training_after(layer) -> bool:
    layer(images(4))
    return layer.training


def calm(answer) -> bool:
    layer = answer(0.3).eval()
    return torch.equal(layer(images()), layer(images()))


def unchanged(layer) -> bool:
    return torch.equal(layer(images(4)), images(4))


def dtype_of(dtype: torch.dtype):
    """The trial of which dtype a result has."""
    return lambda answer: str(answer(0.3)(images(4).to(dtype)).dtype)


def any_rank(answer) -> bool:
    """Whether tokens of other ranks keep their shape."""
    with suppress(RuntimeError, ValueError, IndexError):
        shapes = (6,), (6, 2, 2, 2)
        return all(answer(0.5)(torch.ones(shape)).shape == shape for shape in shapes)
    return False


def slope(answer, drop_prob: float) -> str:
    """Whether numbers of float64 pass as they are, and have a gradient."""
    leaf = draw(4, 3, 2).requires_grad_()
    out = answer(drop_prob)(leaf)
    out.square().sum().backward()
    if leaf.grad is None or not leaf.grad.isfinite().all():
        return "the gradient is missing or not finite"
    return "the same numbers" if torch.equal(out, leaf) else "other numbers"


drop_path = exercise(
    "5.3",
    right=DropPath,
    trial={
        "the input has shape {right}, the output {got}": lambda f: list(
            f(0.3)(images()).shape
        ),
        "in training, {got} are dropped at once, not single {right}": what_is_dropped,
        "dropout-of-numbers": torn,
        "drop_prob is 0.3, {got:.0%} were dropped": (
            lambda f: dead(f, images()).float().mean().item()
        ),
        "drop_prob is 0.6, {got:.0%} were dropped": (
            lambda f: dead(f, images(), 0.6).float().mean().item()
        ),
        "same-images-again": repeats,
        "exact-share": exact_share,
        "survivors were multiplied by {got[0]:.2f}, the mean is {got[1]:.2f}; it should"
        " stay 1": survivors,
        "drops-in-eval": calm,
        "scaled-in-eval": lambda f: (f(0.3).eval()(images()) / images()).mean().item(),
        "drop_prob 0 must change nothing": lambda f: unchanged(f(0.0)),
        "with drop_prob 1 nothing may survive": lambda f: f(1.0)(images(4)),
        "three-axes-assumed": any_rank,
        "with drop_prob 1 in eval the branch must pass as it is, as with any other"
        " drop_prob: dropping belongs to training": lambda f: unchanged(f(1.0).eval()),
    },
    also={
        "drop_prob=-0.1": lambda f: bool(f(-0.1)),
        "drop_prob=1.1": lambda f: bool(f(1.1)),
        "a layer made without a drop_prob": lambda f: f()(images(4)),
        "the attribute drop_prob, which others read,": lambda f: getattr(
            f(0.25), "drop_prob", None
        ),
        "the mode after a pass in training": lambda f: training_after(f(0.3)),
        "the mode after a pass in eval": lambda f: training_after(f(0.3).eval()),
        "`state_dict`, in which nothing needs to be saved,": lambda f: [
            *f(0.3).state_dict()
        ],
        **elsewhere(lambda f, x: f(0.3)(x), images(4)),
        "the dtype of the result for an input of float16": dtype_of(torch.float16),
        "the dtype of the result for an input of bfloat16": dtype_of(torch.bfloat16),
        "no image at all in eval (is there a loop over images?)": (
            lambda f: f(0.3).eval()(torch.ones(0, 3, 2))
        ),
        "float64, drop_prob=0 and `backward`": lambda f: slope(f, 0.0),
        "float64, drop_prob=0.3 and `backward`": lambda f: slope(f, 0.3),
        "float64, drop_prob=1 and `backward`": lambda f: slope(f, 1.0),
    },
    atol=0.04,
)


def kept(keep: float, *shape: int) -> Tensor:
    return (torch.rand(*shape) < keep).float()


def per_image(x: Tensor, keep: float) -> Tensor:
    return kept(keep, len(x), *[1] * (x.ndim - 1))


def dropped(x: Tensor, keep: float) -> Tensor:
    return x * per_image(x, keep) / keep if keep else x * 0


def first_ones(x: Tensor, keep: float) -> Tensor:
    """A mask that keeps an exact share of the images, the first ones."""
    return (torch.arange(len(x)) < round(len(x) * keep)).float().view(-1, 1, 1)


def shuffled(mask: Tensor) -> Tensor:
    return mask[torch.randperm(len(mask))]


def drops(in_training=dropped, in_eval=lambda x, keep: x):
    """A layer that refuses no probability, right or with a mistake."""

    class Layer(nn.Module):
        def __init__(self, drop_prob=0.0):
            super().__init__()
            self.drop_prob, self.keep = drop_prob, 1 - drop_prob

        def forward(self, x):
            return (in_training if self.training else in_eval)(x, self.keep)

    return Layer


drop_path.mistakes |= {
    "nonsense-let-through": drops(),
    "never-drops: 30 times 100 images, and in training nothing was dropped: when does"
    " your layer return its input as it is?": nn.Identity,
    "dropout-of-numbers: in {got:.0%} of the images some numbers are 0 and others are"
    " not, which is dropout. Look at your mask for image 0: how many numbers were drawn"
    " for it?": nn.Dropout,
    "whole-batch-at-once: a whole batch is kept or dropped at once: draw one number for"
    " each image": drops(lambda x, keep: x * kept(keep, 1) / keep),
    "same-for-all-images: some channels or tokens were dropped in every image: draw one"
    " number for each image instead": drops(
        lambda x, keep: x * kept(keep, x.shape[-1]) / keep
    ),
    "keep-and-drop-exchanged: {got:.0%} of the images were dropped with drop_prob 0.3:"
    " which of the two probabilities did you compare with?": drops(
        lambda x, keep: x * (1 - per_image(x, keep)) / keep
    ),
    "survivors-not-rescaled: survivors pass as they are, so the mean falls to"
    " {got[1]:.2f}: how does dropout keep the mean at 1?": drops(
        lambda x, keep: x * per_image(x, keep)
    ),
    "rescaled-the-wrong-way: survivors were multiplied by {got[0]:.2f}, and the mean"
    " falls to {got[1]:.2f}: must survivors become smaller or larger?": drops(
        lambda x, keep: x * per_image(x, keep) * keep
    ),
    "same-images-again: two passes in training dropped the same images: draw new random"
    " numbers in every pass, without a seed of your own": drops(
        lambda x, keep: x * first_ones(x, keep) / (keep or 1)
    ),
    "exact-share: in each of 30 batches exactly {got[0]} of 100 images were dropped:"
    " each image is dropped with a probability of its own, independently of the"
    " others": drops(lambda x, keep: x * shuffled(first_ones(x, keep)) / (keep or 1)),
    "drops-in-eval: two passes in eval differ: what does `self.training` tell"
    " you?": drops(in_eval=dropped),
    "scaled-in-eval: in eval the branch must pass as it is, but it was multiplied by"
    " {got:.2f}: the rescaling was already done in training": drops(
        in_eval=lambda x, keep: x * keep
    ),
    "three-axes-assumed: for an input of shape (6,) or (6, 2, 2, 2) the output has"
    " a different shape, or there was an error: any rank is allowed, `b ...`. How many"
    " axes does your mask have?": drops(
        lambda x, keep: x * kept(keep, len(x), 1, 1) / (keep or 1)
    ),
}

# 5.4 The deeper, the more


def from_tensors(answer) -> bool:
    """Whether the rates need a tensor, which holds no numbers on the device meta."""
    got = answer(0.3, 4)
    with suppress(Exception), torch.device("meta"):
        again = list(answer(0.3, 4))
        return any(isinstance(value, Tensor) for value in (got, *again))
    return True


def not_floats(rates) -> list[str]:
    """The kinds of those rates that are no floats."""
    return [type(rate).__name__ for rate in rates if not isinstance(rate, float)]


rates = exercise(
    "5.4",
    right=drop_path_rates,
    trial={
        "rates-from-a-tensor": from_tensors,
        "a list is asked for, got {got}": lambda f: type(f(0.3, 4)).__name__,
        "drop_path_rates(0.3, 4) must hold plain floats, got {got}": (
            lambda f: not_floats(f(0.3, 4))
        ),
        "drop_path_rates(0.3, 4) must give 4 rates, got {got}": lambda f: len(
            f(0.3, 4)
        ),
        "one-rate-for-all": lambda f: len(set(f(0.3, 4))) > 1,
        "first-block-dropped": lambda f: f(0.3, 4)[0],
        "steps-counted-as-blocks": lambda f: f(0.3, 4)[-1],
        "the rates must rise in equal steps": lambda f: f(0.3, 4) + f(0.1, 12),
        "what should a single block get? It got {got}": lambda f: f(0.3, 1),
        "drop_path_rates(0.3, 1) must hold plain floats, got {got}": (
            lambda f: not_floats(f(0.3, 1))
        ),
    },
    also={
        "drop_path_rates(-0.1, 4)": lambda f: f(-0.1, 4),
        "drop_path_rates(1.1, 4)": lambda f: f(1.1, 4),
        "drop_path_rates(0.1, 0)": lambda f: f(0.1, 0),
        "a rate of 0": lambda f: f(0.0, 3),
        "a rate of 1": lambda f: f(1.0, 3),
        "24 blocks": lambda f: f(0.2, 24),
    },
    atol=1e-6,
)
rates.mistakes |= {
    "nonsense-let-through": (
        lambda rate, depth: [rate * i / max(depth - 1, 1) for i in range(depth)]
    ),
    "rates-from-a-tensor: the rates come from a tensor. Models are also built on the"
    " meta device (lesson 6), where a tensor has a shape but no numbers: compute with"
    " plain floats": lambda rate, depth: torch.linspace(0, rate, depth).tolist(),
    "one-rate-for-all: all blocks have the same rate (DeiT III does so, we do not)": (
        lambda rate, depth: [rate] * depth
    ),
    "falls-with-depth: the first block has the largest rate, {got:.3f}: which blocks"
    " find what all others build on?": lambda *given: drop_path_rates(*given)[::-1],
    "first-block-dropped: drop_path_rates(0.3, 4) starts at {got:.3f}: the first block"
    " is never dropped": lambda rate, n: [rate * (i + 1) / n for i in range(n)],
    "steps-counted-as-blocks: drop_path_rates(0.3, 4) ends at {got:.3f}, not at 0.3:"
    " how many steps are there between 4 blocks?": (
        lambda rate, depth: [rate * i / depth for i in range(depth)]
    ),
    "single-block-divides-by-zero: for a single block your function divides by zero:"
    " how many steps are there, and what can you divide by instead?": (
        lambda rate, depth: [rate * i / (depth - 1) for i in range(depth)]
    ),
    "single-block-taken-for-last: a single block got the rate 0.3, like the last block"
    " of a stack. But it is also the first: which rate does the first block get?": (
        lambda rate, n: drop_path_rates(rate, n) if n > 1 else [rate]
    ),
}
