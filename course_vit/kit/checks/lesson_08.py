"""Checks of lesson 08: looking inside."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from . import NotYet, exercise, expect, expect_raises
from .probes import same, trying


class ToyAttention(nn.Module):
    """One head of 5 channels whose map is asked for as in the course's models."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(5, 5) for _ in "qkv")

    def attention_map(self, x: Tensor) -> Tensor:
        return (self.q(x) @ self.k(x).mT).softmax(dim=-1)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.attention_map(x)[:, 0] @ self.v(x)


class ToyBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn, self.drop = nn.LayerNorm(5), ToyAttention(), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.attn(self.norm1(x)))


class ToyModel(nn.Module):
    """Three blocks over the 4 columns of an image `1 5 4`, loud random weights."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ToyBlock() for _ in range(3))
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def embed(self, images: Tensor) -> Tensor:
        if images.ndim != 4:
            raise ValueError(f"expected images (b, 1, 5, 4), got {tuple(images.shape)}")
        return images[:, 0].mT

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return x


@torch.no_grad()
def walks(model: ToyModel, images: Tensor) -> dict[str, list[Tensor]]:
    """The maps of all blocks, right and by the known mistakes."""
    blocks: list[Any] = list(model.eval().blocks)
    asked: dict[str, list[Tensor]] = {}

    def ask(name: str, block: Any, x: Tensor) -> None:
        asked.setdefault(name, []).append(block.attn.attention_map(x))

    start = x = without_sum = model.embed(images)
    for block in blocks:
        ask("right", block, block.norm1(x))
        ask("norm-left-out", block, x)
        ask("tokens-not-sent-on", block, block.norm1(start))
        ask("sum-left-out", block, block.norm1(without_sum))
        x, without_sum = block(x), block.attn(block.norm1(without_sum))
        ask("asked-after-the-block", block, block.norm1(x))
    return asked


@exercise(
    "8.1",
    {
        "hook-on-fused-attention": "a hook catches the map when `forward` passes it",
        "output-taken-for-map": "what an attention layer returns is its map",
        "heads-averaged-away": "a block has one map, whatever its heads do",
        "left-in-eval": "nobody minds that the model is in eval mode afterwards",
        "always-set-to-train": "every model comes in training mode",
        "gradient-kept": "eval mode switches gradients off",
        "dropout-left-on": "without gradients nothing is random any more",
        "norm-left-out": "attention sees what enters the block",
        "tokens-not-sent-on": "all blocks see the tokens that enter the first",
        "sum-left-out": "the next block sees what attention returns",
        "asked-after-the-block": "a block is asked about the tokens that leave it",
    },
)
def attention_maps(answer) -> None:
    torch.manual_seed(0)
    model, images = ToyModel(), torch.randn(2, 1, 5, 4)
    got = list(answer(model, images))
    expect_all_heads(got)
    expect(
        model.training,
        "a model in training mode came back in eval mode: leave it as you found it",
        "left-in-eval",
    )
    expect(
        not got[-1].requires_grad,
        "the maps hold on to the graph: no gradient here",
        "gradient-kept",
    )
    expect(
        all_same(got, list(answer(model, images))),
        "two calls, two answers: does dropout act?",
        "dropout-left-on",
    )
    model.eval()
    answer(model, images)
    expect(
        not model.training,
        "a model in eval mode came back in training mode",
        "always-set-to-train",
    )
    expect_the_walk(got, walks(model, images))
    expect_untouched(answer, model, images)


def expect_untouched(answer: Any, model: ToyModel, images: Tensor) -> None:
    """Blocks keep their mode, too, and also if something goes wrong on the way."""
    for training, mode in ((True, "training"), (False, "eval")):
        model.train(training)
        got = list(answer(model, images))
        modes = [module.training for module in model.modules()]
        expect(
            modes == [training] * len(modes),
            f"the model came back in {mode} mode, {modes.count(not training)} of its"
            " parts did not: a mode is set for all of them, by `train` and `eval`",
        )
    expect(
        not any(weights.is_inference() for weights in got),
        "these maps were made in inference mode: whoever multiplies them with something"
        " that has a gradient gets an error. Which is the milder way without one?",
    )
    exact = copy.deepcopy(model).double()
    with trying("a model and images in float64"):
        again = list(answer(exact, images.double()))
    expect(
        all_same(again, walks(exact, images.double())["right"]),
        "right in float32; in float64 other maps come out",
    )
    model.train()
    try:
        answer(model, images[0])
    except ValueError:
        expect(
            model.training,
            "`embed` refused an image without a batch, and the model is in eval mode"
            " since then: what puts a mode back, whatever happens on the way?",
        )
    else:
        raise NotYet("`embed` refused an image, and nobody heard of it")


def all_same(got: list[Tensor], right: list[Tensor]) -> bool:
    return all(same(a, b, atol=1e-5) for a, b in zip(got, right, strict=True))


def expect_all_heads(got: list[Tensor]) -> None:
    """Three blocks, 2 images, 1 head, 4 tokens of width 5."""
    expect(
        got,
        "3 blocks and 0 maps: a hook waits for a layer that fused attention never"
        " calls; ask each block's `attn.attention_map`",
        "hook-on-fused-attention",
    )
    expect(len(got) == 3, f"3 blocks and {len(got)} maps")
    shapes = [tuple(weights.shape) for weights in got]
    expect(
        shapes != [(2, 4, 5)] * 3,
        "expected maps (2, 1, 4, 4), got (2, 4, 5): these are the tokens that attention"
        " has mixed, not the weights with which it mixed them",
        "output-taken-for-map",
    )
    expect(
        shapes != [(2, 4, 4)] * 3,
        "expected maps (2, 1, 4, 4), got (2, 4, 4): the axis of the heads is gone, and"
        " with it what sets one head apart from another",
        "heads-averaged-away",
    )
    expect(shapes == [(2, 1, 4, 4)] * 3, f"expected maps (2, 1, 4, 4), got {shapes}")


def expect_the_walk(got: list[Tensor], asked: dict[str, list[Tensor]]) -> None:
    hints = {
        "norm-left-out": "attention never sees the raw sum: what stands before it in a"
        " block?",
        "tokens-not-sent-on": "every block was asked about the tokens that enter the"
        " first: send them on",
        "sum-left-out": "from the second block on the maps are off: a block adds what"
        " attention found to what came in",
        "asked-after-the-block": "the first map is of tokens that have passed block 0"
        " already: ask first, then send them on",
    }
    for misconception, hint in hints.items():
        expect(not all_same(got, asked[misconception]), hint, misconception)
    expect(
        all_same(got[:1], asked["right"][:1]),
        "the first map is not the one that block 0 makes",
    )
    expect(
        all_same(got, asked["right"]),
        "from the second block on the maps are off: does a block get other tokens than"
        " in `forward`?",
    )


@exercise(
    "8.2",
    {
        "class-row-cut-out": "the rollout is the class token's row",
        "rows-not-renormalised": "adding the identity leaves the rows as they were",
        "identity-left-out": "a block replaces its tokens by what they looked at",
        "identity-added-once": "the path around attention is one for the whole model",
        "order-reversed": "the first block stands on the left, since it comes first",
        "last-block-only": "the last map tells of all blocks",
        "heads-fused-by-maximum": "what any head looks at counts in full",
        "one-head-only": "one head speaks for all",
        "empty-list-not-refused": "there is always at least one map",
    },
)
def attention_rollout(answer) -> None:
    torch.manual_seed(0)
    maps = list((2 * torch.randn(3, 2, 4, 5, 5)).softmax(dim=-1))
    got = answer(maps)
    expect(
        got.shape not in ((2, 5), (2, 4)),
        f"expected shape (2, 5, 5), `b n m`, got {tuple(got.shape)}: give the shares of"
        " all tokens; which row to draw is chosen afterwards",
        "class-row-cut-out",
    )
    expect(
        got.shape == (2, 5, 5),
        f"expected shape (2, 5, 5), `b n m`, got {tuple(got.shape)}",
    )
    sums = got.sum(dim=-1)
    expect(
        not torch.allclose(sums, torch.full_like(sums, 8.0), atol=1e-3),
        "rows sum to 8 with three blocks: adding the identity doubles each row, so"
        " renormalise after adding",
        "rows-not-renormalised",
    )
    for misconception, (hint, others) in rollouts(maps).items():
        found = any(torch.allclose(got, other, atol=1e-4) for other in others)
        expect(not found, hint, misconception)
    expect(
        torch.allclose(sums, torch.ones_like(sums), atol=1e-4),
        f"rows sum to {sums.min():.2f} to {sums.max():.2f}: shares of one token must"
        " sum to 1",
    )
    half = [(weights.mean(dim=1) + torch.eye(5)) / 2 for weights in maps]
    expect(
        torch.allclose(got, half[2] @ half[1] @ half[0], atol=1e-4),
        "rows sum to 1, but the shares are off: are the heads averaged, and does the"
        " path around count as much as attention?",
    )
    empty = "an empty list of maps"
    expect_raises(answer, ([],), ValueError, empty, "empty-list-not-refused")
    for b, h, n in ((1, 1, 1), (1, 3, 6)):
        maps = list(torch.randn(1, b, h, n, n).softmax(dim=-1))
        sizes = f"one block, {b} image, heads: {h}, tokens: {n}"
        with trying(sizes):
            got = answer(maps)
        right = (maps[0].mean(dim=1) + torch.eye(n)) / 2
        expect(
            got.shape == right.shape and torch.allclose(got, right, atol=1e-4),
            f"right for 3 blocks of 4 heads and 5 tokens, but not for {sizes}: expected"
            f" {tuple(right.shape)}, got {tuple(got.shape)}",
        )


def rollouts(maps: list[Tensor]) -> dict[str, tuple[str, list[Tensor]]]:
    """What the known mistakes give, with their hints."""
    identity = torch.eye(5)
    mean = [weights.mean(dim=1) for weights in maps]
    half = [(weights + identity) / 2 for weights in mean]
    first = [(weights[:, 0] + identity) / 2 for weights in maps]
    most = [weights.amax(dim=1) + identity for weights in maps]
    of_one = [weights / weights.sum(dim=-1, keepdim=True) for weights in most]
    alone = mean[2] @ mean[1] @ mean[0]
    return {
        "identity-left-out": (
            "the path around attention is missing: what does a block do with its input"
            " besides looking around?",
            [alone, mean[0] @ mean[1] @ mean[2]],
        ),
        "identity-added-once": (
            "the path around attention is taken once for all blocks, but every block"
            " has one of its own",
            [(alone + identity) / 2],
        ),
        "order-reversed": (
            "the blocks stand in the wrong order: tokens are columns here, so which"
            " factor acts on them first?",
            [half[0] @ half[1] @ half[2]],
        ),
        "last-block-only": (
            "this is one block only: multiply them all",
            [half[2], mean[2]],
        ),
        "heads-fused-by-maximum": (
            "here the largest weight of any head counts: the heads of a block share the"
            " work, so take what they do on average",
            [of_one[2] @ of_one[1] @ of_one[0], most[2] @ most[1] @ most[0] / 8],
        ),
        "one-head-only": (
            "this is the rollout of head 0 alone, and there are 4",
            [first[2] @ first[1] @ first[0]],
        ),
    }


@exercise(
    "8.3",
    {
        "heads-averaged-away": "a block has one distance, whatever its heads do",
        "grid-steps-not-pixels": "a distance is counted in patches",
        "class-token-keeps-a-share": "cutting off a column leaves shares that sum to 1",
        "itself-left-out": "a patch does not look at itself",
        "streets-not-straight-line": "a distance is rows plus columns",
        "weights-ignored": "the distances are averaged without the attention",
        "prefix-cut-from-the-end": "the tokens that are no patches stand last",
        "one-prefix-assumed": "every model has one token that is no patch",
        "height-and-width-exchanged": "patches and places are (x, y)",
        "places-column-by-column": "patches are numbered down the columns",
        "square-taken-for-granted": "patches always fill a square",
    },
)
def mean_attention_distance(answer) -> None:
    uniform = torch.full((2, 3, 197, 197), 1 / 197)
    got = answer([uniform, uniform], 16)
    expect(
        got.shape != (2,),
        "2 blocks with 3 heads: expected shape (2, 3), got (2,): a near and a far head"
        " make a middling one that there is not",
        "heads-averaged-away",
    )
    expect(
        got.shape == (2, 3),
        f"2 blocks with 3 heads: expected shape (2, 3), got {tuple(got.shape)}",
    )
    expect_even(got[0, 0].item())
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 8, 8).softmax(dim=-1)]
    got = answer(maps, (4, 7), num_prefix_tokens=2, grid_size=(2, 3))
    right = by_loop(maps[0])
    expect(got.shape == (1, 3), f"1 block with 3 heads, got {tuple(got.shape)}")
    if not torch.allclose(got, right[None], atol=1e-3):
        expect_known_places(got[0], maps[0])
    expect(
        torch.allclose(got, right[None], atol=1e-3),
        "two prefix tokens, a grid of 2 rows and 3 columns, patches 4 high and 7 wide:"
        f" expected {right[0]:.2f} for head 0, got {got[0, 0]:.2f}. Does every row sum"
        " to 1, and do heights go with rows?",
    )
    what = "a map of 1 + 7 tokens, without a grid_size,"
    expect_raises(answer, (maps, 4), ValueError, what, "square-taken-for-granted")
    alone = torch.ones(1, 1, 2, 2) / 2
    for few, prefix, grid, right in (
        ([maps[0][..., 2:, 2:]], 0, (2, 3), by_loop(maps[0])[None]),
        ([alone], 1, (1, 1), torch.zeros(1, 1)),
    ):
        case = f"a grid of {grid[0]} x {grid[1]} and {prefix} prefix tokens"
        with trying(case):
            got = answer(few, (4, 7), prefix, grid)
        expect(
            got.shape == right.shape and torch.allclose(got, right, atol=1e-3),
            f"right for 2 prefix tokens; {case}: expected {right.tolist()}, got"
            f" {got.tolist()}",
        )


def expect_even(value: float) -> None:
    """Even attention on 14 x 14 patches of 16 pixels gives 116.492."""
    known = {
        "grid-steps-not-pixels": (
            7.281,
            "7.28 are steps on the grid: how many pixels is a step?",
        ),
        "class-token-keeps-a-share": (
            115.901,
            "115.9, a little too near: the class token took a share of each row. Make"
            " the rows sum to 1 again",
        ),
        "itself-left-out": (
            117.087,
            "117.1, a little too far: a patch may look at itself, too, over 0 pixels",
        ),
        "streets-not-straight-line": (
            148.571,
            "148.6 is the way along the streets, rows plus columns; measure the"
            " straight line",
        ),
    }
    for misconception, (wrong, hint) in known.items():
        expect(abs(value - wrong) > 0.02, hint, misconception)
    expect(
        abs(value - 116.492) < 0.02,
        f"even attention on 14 x 14 patches of 16 pixels gives 116.5, got {value:.1f}:"
        " leave out row and column of the class token, weigh each distance by the"
        " attention, then take the mean over the patches",
    )


def by_loop(
    weights: Tensor,
    first: int = 2,
    step: tuple[int, int] = (4, 7),
    turned: bool = False,
) -> Tensor:
    """The distance of each head by loops: 2 x 3 patches, the first at token `first`."""
    height, width = step
    places = torch.cartesian_prod(height * torch.arange(2.0), width * torch.arange(3.0))
    if turned:
        places = places.view(2, 3, 2).transpose(0, 1).reshape(6, 2)
    total = torch.zeros(weights.shape[1])
    for image in weights:
        for head, rows in enumerate(image[:, first : first + 6, first : first + 6]):
            for here, row in zip(places, rows, strict=True):
                ways = (places - here).square().sum(dim=-1).sqrt()
                total[head] += (ways * row).sum() / row.sum()
    return total / (len(weights) * len(places))


def expect_known_places(got: Tensor, weights: Tensor) -> None:
    """What the known mistakes give where rows, columns and prefixes differ."""
    known = {
        "weights-ignored": (
            by_loop(torch.ones_like(weights)),
            "all heads have the same distance, that of even attention: where do the"
            " weights come in?",
        ),
        "prefix-cut-from-the-end": (
            by_loop(weights, first=0),
            "the last two tokens are left out, but prefix tokens stand in front",
        ),
        "one-prefix-assumed": (
            by_loop(weights, first=1),
            "one token is left out in front, and num_prefix_tokens was 2",
        ),
        "height-and-width-exchanged": (
            by_loop(weights, step=(7, 4)),
            "patches 4 high and 7 wide are taken for 7 high and 4 wide: sizes are"
            " (height, width)",
        ),
        "places-column-by-column": (
            by_loop(weights, turned=True),
            "the second patch stands to the right of the first, not below it: patches"
            " are numbered row by row",
        ),
    }
    for misconception, (wrong, hint) in known.items():
        expect(not torch.allclose(got, wrong, atol=1e-3), hint, misconception)


CLAIMS = {
    "A": (
        True,
        "rows-taken-for-columns",
        "softmax runs over one axis of `n m`: which one is it?",
    ),
    "B": (
        False,
        "habit-taken-for-finding",
        "section 8.3 looked at 360 digits: does the favourite patch of this head follow"
        " the ink?",
    ),
    "C": (
        True,
        "map-taken-for-decoration",
        "section 8.8: compare the orders in the panels 'left out'",
    ),
    "D": (
        False,
        "looked-at-taken-for-reason",
        "section 8.8 took their ink away and asked again: which line is lowest in the"
        " panel 'rollout, black'?",
    ),
    "E": (
        False,
        "outline-taken-for-knowledge",
        "section 8.8: what did a model show that had learned nothing?",
    ),
    "F": (
        False,
        "far-taken-for-even",
        "section 8.5: which rule without looking evenly came out the same?",
    ),
}


@exercise(
    "8.4",
    {
        "rows-taken-for-columns": "columns of a map sum to 1, or rows do not",
        "habit-taken-for-finding": "what a head looks at in one image, it has found"
        " there",
        "map-taken-for-decoration": "a map says nothing at all about the model",
        "looked-at-taken-for-reason": "what is looked at most is what the answer rests"
        " on",
        "outline-taken-for-knowledge": "a map with the object in it shows"
        " understanding",
        "far-taken-for-even": "a head that looks as far as even attention looks evenly",
    },
)
def claims(answer) -> None:
    said = dict(answer)
    expect(
        set(said) == set(CLAIMS) and all(isinstance(x, bool) for x in said.values()),
        f"say True or False to each of {', '.join(CLAIMS)}, got {said}",
    )
    for name, (right, misconception, hint) in CLAIMS.items():
        expect(said[name] == right, f"claim {name}: {hint}", misconception)
