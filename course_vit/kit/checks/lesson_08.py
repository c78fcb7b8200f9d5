"""Checks of lesson 08: looking inside."""

from typing import Any

import torch
from torch import Tensor, nn

from . import exercise, expect

CLAIMS = {
    "A": (True, "softmax runs over one axis of `n m`: which one is it?"),
    "B": (False, "section 8.3: does the favourite patch follow the ink?"),
    "C": (True, "section 8.8: compare the orders in the panels 'left out'"),
    "D": (False, "section 8.8: which line is lowest in the panel 'rollout, black'?"),
    "E": (False, "section 8.8: what did a model show that had learned nothing?"),
    "F": (False, "section 8.5: which rule without looking evenly came out the same?"),
}


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
        return images[:, 0].mT

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return x


@exercise("8.1", "Every map of a model", "implement", minutes=10)
def attention_maps(answer) -> None:
    torch.manual_seed(0)
    model, images = ToyModel(), torch.randn(2, 1, 5, 4)
    blocks: list[Any] = list(model.blocks)
    got = list(answer(model, images))
    expect(
        len(got) == 3,
        f"3 blocks and {len(got)} maps: a hook waits for a layer that fused attention"
        " never calls; ask each block's `attn.attention_map`",
    )
    expect(
        model.training,
        "a model in training mode came back in eval mode: leave it as you found it",
    )
    expect(not got[-1].requires_grad, "the maps hold on to the graph: no gradient here")
    with torch.no_grad():
        x, right, raw = model.eval().embed(images), [], []
        start = x
        for block in blocks:
            right.append(block.attn.attention_map(block.norm1(x)))
            raw.append(block.attn.attention_map(x))
            x = block(x)
        first = [b.attn.attention_map(b.norm1(start)) for b in blocks]
    shapes = [tuple(weights.shape) for weights in got]
    expect(shapes == [(2, 1, 4, 4)] * 3, f"expected maps (2, 1, 4, 4), got {shapes[0]}")
    expect(
        not same(got, raw),
        "attention never sees the raw sum: what stands before it in a block?",
    )
    expect(
        not same(got, first),
        "every block was asked about the tokens that enter the first: send them on",
    )
    expect(same(got[:1], right[:1]), "the first map is not the one that block 0 makes")
    model.train()
    expect(
        same(answer(model, images), right),
        "from the second block on the maps are off: does dropout act, or does a block"
        " get other tokens than in `forward`?",
    )
    model.eval()
    answer(model, images)
    expect(not model.training, "a model in eval mode came back in training mode")


def same(got: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, right, strict=True))


@exercise("8.2", "Mend the rollout", "fix", minutes=10)
def attention_rollout(answer) -> None:
    torch.manual_seed(0)
    maps = list((2 * torch.randn(3, 2, 4, 5, 5)).softmax(dim=-1))
    got = answer(maps)
    expect(
        got.shape == (2, 5, 5),
        f"expected shape (2, 5, 5), `b n m`, got {tuple(got.shape)}",
    )
    sums = got.sum(dim=-1)
    expect(
        not torch.allclose(sums, torch.full_like(sums, 8.0), atol=1e-3),
        "rows sum to 8 with three blocks: adding the identity doubles each row, so"
        " renormalise after adding",
    )
    expect(
        torch.allclose(sums, torch.ones_like(sums), atol=1e-4),
        f"rows sum to {sums.min():.2f} to {sums.max():.2f}: shares of one token must"
        " sum to 1",
    )
    identity, mean = torch.eye(5), [weights.mean(dim=1) for weights in maps]
    half = [(weights + identity) / 2 for weights in mean]
    wrong = {
        "the path around attention is missing: what does a block do with its input"
        " besides looking around?": mean[2] @ mean[1] @ mean[0],
        "the blocks stand in the wrong order: tokens are columns here, so which factor"
        " acts on them first?": half[0] @ half[1] @ half[2],
        "this is one block only: multiply them all": half[2],
    }
    for hint, other in wrong.items():
        expect(not torch.allclose(got, other, atol=1e-4), hint)
    expect(
        torch.allclose(got, half[2] @ half[1] @ half[0], atol=1e-4),
        "rows sum to 1, but the shares are off: are the heads averaged, and does the"
        " path around count as much as attention?",
    )
    try:
        answer([])
    except ValueError:
        return
    raise AssertionError("without a map there is nothing to roll out: ValueError")


@exercise("8.3", "How far does a head look?", "implement", minutes=15)
def mean_attention_distance(answer) -> None:
    uniform = torch.full((2, 3, 197, 197), 1 / 197)
    got = answer([uniform, uniform], 16)
    expect(
        got.shape == (2, 3),
        f"2 blocks with 3 heads: expected shape (2, 3), got {tuple(got.shape)}",
    )
    value = got[0, 0].item()
    known = {
        7.281: "7.28 are steps on the grid: how many pixels is a step?",
        115.901: "115.9, a little too near: the class token took a share of each row."
        " Make the rows sum to 1 again",
        117.087: "117.1, a little too far: a patch may look at itself, too, over 0"
        " pixels",
        148.571: "148.6 is the way along the streets, rows plus columns; measure the"
        " straight line",
    }
    for wrong, hint in known.items():
        expect(abs(value - wrong) > 0.02, hint)
    expect(
        abs(value - 116.492) < 0.02,
        f"even attention on 14 x 14 patches of 16 pixels gives 116.5, got {value:.1f}:"
        " leave out row and column of the class token, weigh each distance by the"
        " attention, then take the mean over the patches",
    )
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 8, 8).softmax(dim=-1)]
    got = answer(maps, (4, 7), num_prefix_tokens=2, grid_size=(2, 3))
    expect(
        torch.allclose(got, referee(maps[0])[None], atol=1e-3),
        "two prefix tokens, a grid of 2 rows and 3 columns, patches 4 high and 7 wide:"
        f" expected {referee(maps[0])[0]:.2f} for head 0, got {got[0, 0]:.2f}. Does"
        " every row sum to 1, and do heights go with rows?",
    )
    try:
        answer(maps, 4)
    except ValueError:
        return
    raise AssertionError("7 patches fill no square: say so with a ValueError")


def referee(weights: Tensor) -> Tensor:
    """The distance of each head by loops: 2 x 3 patches of 4 x 7, two prefix tokens."""
    places = [(4.0 * y, 7.0 * x) for y in range(2) for x in range(3)]
    total = torch.zeros(weights.shape[1])
    for head in range(len(total)):
        for image in range(len(weights)):
            for n, here in enumerate(places):
                row = weights[image, head, n + 2, 2:]
                for m, there in enumerate(places):
                    way = torch.dist(torch.tensor(here), torch.tensor(there))
                    total[head] += way * row[m] / row.sum()
    return total / (len(weights) * len(places))


@exercise("8.4", "Six claims", "choose", minutes=5)
def claims(answer) -> None:
    said = dict(answer)
    expect(
        set(said) == set(CLAIMS) and all(isinstance(x, bool) for x in said.values()),
        f"say True or False to each of {', '.join(CLAIMS)}, got {said}",
    )
    for name, (right, hint) in CLAIMS.items():
        expect(said[name] == right, f"claim {name}: {hint}")
