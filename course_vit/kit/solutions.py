"""Solutions that no lesson exports.

Printed from notebooks/: edit there, then `make export`.
"""

import math
from itertools import product
from math import isqrt

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DistributedSampler

from course_vit.position_encoding import resize_position_embedding
from course_vit.t2t import linear_attention, positive_features
from course_vit.training import keep_modes


# Exercise 1.3
def as_linear(conv: nn.Conv2d) -> nn.Linear:
    """The linear map on flat patches that equals a convolution with stride = kernel."""
    weight = rearrange(conv.weight.detach(), "d c ph pw -> d (c ph pw)")
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data = weight.clone()
    linear.bias.data = conv.bias.detach().clone()
    return linear


# Exercise 2.5
def stretch(position: Tensor, side: int) -> Tensor:
    """A table `1 (1 + n) d` for a different square grid."""
    prefix, grid = position[:, :1], position[:, 1:]
    old = isqrt(grid.shape[1])
    grid = rearrange(grid, "1 (gh gw) d -> 1 d gh gw", gh=old)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic")
    grid = rearrange(grid, "1 d gh gw -> 1 (gh gw) d")
    return torch.cat([prefix, grid], dim=1)


# Exercise 3.1
def look(x: Tensor) -> Tensor:
    """Attention weights without parameters, `n d -> n n`; in row i, token i looks."""
    return (x @ x.T).softmax(dim=-1)


# Exercise 3.2
def scaled_weights(q: Tensor, k: Tensor) -> Tensor:
    """Attention weights of every head, `b h n e, b h m e -> b h n m`."""
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1)


# Exercise 4.4
def colleague(layer, x: Tensor) -> Tensor:
    """The same layer with `view` and `permute`, `b n d -> b n d`."""
    b, n, d = x.shape
    h = layer.num_heads
    parts = layer.qkv(x).view(b, n, 3, h, d // h)  # b n three h e
    q, k, v = parts.permute(2, 0, 3, 1, 4)  # each b h n e
    mixed = F.scaled_dot_product_attention(q, k, v)  # b h n e
    return layer.proj(mixed.transpose(1, 2).reshape(b, n, d))


# Exercise 4.5
def leaks(layer, x: Tensor) -> bool:
    """Whether the output for image 0 depends on image 1, for tokens `b n d`."""
    other = x.clone()
    other[1] = torch.randn_like(x[1])
    return bool((layer(other)[0] - layer(x)[0]).abs().max() > 1e-6)


# Exercise 5.1
def encoder_block(x, norm1, attn, norm2, mlp):
    x = x + attn(norm1(x))
    return x + mlp(norm2(x))


# Exercise 6.1
class PrependClassToken(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)


# Exercise 6.4
def pool_patches(x: Tensor, num_prefix_tokens: int) -> Tensor:
    """The mean of the patch tokens, `b n d -> b d`."""
    return x[:, num_prefix_tokens:].mean(dim=1)


# Exercise 9.3
def ask(teacher: nn.Module, images: Tensor) -> Tensor:
    teacher.eval()
    with torch.no_grad():
        return teacher(images)


# Exercise 9.4
@torch.no_grad()
def two_answers(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Class and distillation logits as in eval mode, `b c h w -> b k, b k`."""
    with keep_modes(model):
        x = model.eval().forward_features(images)
    return model.head(x[:, 0]), model.head_dist(x[:, 1])


# Exercise 11.3
def stretch_grid(
    position: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> Tensor:
    """Stretch a table of positions to a different grid, `1 n d -> 1 m d`."""
    gh, gw = old_grid
    prefix = position.shape[1] - gh * gw
    first, grid = position[:, :prefix], position[:, prefix:]
    grid = rearrange(grid, "1 (gh gw) d -> 1 d gh gw", gh=gh)
    grid = F.interpolate(grid, size=new_grid, mode="bicubic")
    return torch.cat([first, rearrange(grid, "1 d gh gw -> 1 (gh gw) d")], dim=1)


# Exercise 12.1
def mended_cut(images: Tensor, p: int) -> Tensor:
    """Windows of `p` by `p` pixels, `b c (gh p) (gw p) -> b (gh gw) (c p p)`."""
    pattern = "b c (gh p) (gw q) -> b (gh gw) (c p q)"
    return rearrange(images, pattern, p=p, q=p)


# Exercise 12.2
def mended_embed(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Tokens by the weights of a convolution, `b c h w, d c p p, d -> b n d`."""
    p = weight.shape[-1]
    patches = rearrange(images, "b c (gh p) (gw q) -> b (gh gw) (c p q)", p=p, q=p)
    return F.linear(patches, weight.flatten(1), bias)


# Exercise 12.3
def mended_waves(n: int, d: int) -> Tensor:
    """One row of waves for each position, `n d`."""
    position = torch.arange(n, dtype=torch.float64)[:, None]
    column = torch.arange(d)
    clock = column // 2
    angle = position / 10_000 ** (2 * clock / d)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


# Exercise 12.4
def mended_position_table(n: int, d: int) -> nn.Parameter:
    """A learned row for each token, `1 n d`."""
    return nn.Parameter(0.02 * torch.randn(1, n, d))


# Exercise 12.5
def mended_positions_for(x: Tensor, table: Tensor) -> Tensor:
    """The rows to add to the patches `b n d`, from a table `1 m d`."""
    if x.shape[1] == table.shape[1]:
        return table
    side = math.isqrt(x.shape[1])
    return resize_position_embedding(table, (side, side), num_prefix_tokens=0)


# Exercise 12.6
def mended_stretch(table: Tensor, side: int) -> Tensor:
    """A table for a different grid, `1 (gh gw) d -> 1 (side side) d`."""
    old = math.isqrt(table.shape[1])
    grid = rearrange(table, "1 (gh gw) d -> 1 d gh gw", gh=old)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic")
    return rearrange(grid, "1 d gh gw -> 1 (gh gw) d")


# Exercise 12.7
def mended_look(q: Tensor, k: Tensor) -> Tensor:
    """Attention weights, `b h n e, b h m e -> b h n m`."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return nn.Softmax(dim=-1)(scores)


# Exercise 12.8
def mended_attend(x: Tensor, qkv: nn.Linear) -> Tensor:
    """One head, `b n d -> b n d`; `qkv` gives three times the width."""
    q, k, v = qkv(x).chunk(3, dim=-1)
    scores = q @ k.mT * x.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ v


# Exercise 12.9
def mended_masked_look(q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
    """Weights `... n m`; `mask`, `n m`, is True where a query may look."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1)


# Exercise 12.10
def mended_hear(layer: nn.MultiheadAttention, x: Tensor, real: Tensor) -> Tensor:
    """Attention among the real tokens, `b n d -> b n d`; `real` is `b n`, boolean."""
    return layer(x, x, x, key_padding_mask=~real, need_weights=False)[0]


# Exercise 12.11
def mended_many_looks(x: Tensor, h: int) -> Tensor:
    """Attention with `h` heads, without any weights, `b n d -> b n d`."""
    parts = rearrange(x, "b n (h e) -> b h n e", h=h)
    mixed = F.scaled_dot_product_attention(parts, parts, parts)
    return rearrange(mixed, "b h n e -> b n (h e)")


# Exercise 12.12
def mended_split(qkv: Tensor, h: int) -> Tensor:
    """Queries, keys, values of published weights, `b n (3 d) -> 3 b h n e`."""
    return rearrange(qkv, "b n (three h e) -> three b h n e", three=3, h=h)


# Exercise 12.13
class MendedMixer(nn.Module):
    """The tokens of one image hear each other, `b n d -> b n d`."""

    def __init__(self, d: int, h: int) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(d, h, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(x, x, x, need_weights=False)[0]


# Exercise 12.14
def mended_self_attend(layer: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """The output of `layer`, which has `batch_first=True`, `b n d -> b n d`."""
    return layer(x, x, x, need_weights=False)[0]


# Exercise 12.15
def mended_encode(x: Tensor, blocks: list) -> Tensor:
    """All blocks, each a pair of steps (attention, MLP), `b n d -> b n d`."""
    for look, think in blocks:
        x = x + look(x)
        x = x + think(x)
    return x


# Exercise 12.16
def mended_make_norm(n: int, d: int) -> nn.Module:
    """The norm before a step, for `n` tokens of width `d`."""
    return nn.LayerNorm(d)


# Exercise 12.17
def mended_drop(x: Tensor, keep_prob: float, training: bool) -> Tensor:
    """Keep a number with probability `keep_prob`, in training only."""
    return F.dropout(x, 1 - keep_prob, training)


# Exercise 12.18
def mended_drop_path(x: Tensor, drop_prob: float) -> Tensor:
    """Drop a branch for some images, in training, `b n d -> b n d`."""
    keep_prob = 1 - drop_prob
    survives = torch.rand(len(x), 1, 1, device=x.device) < keep_prob
    chance = keep_prob if keep_prob > 0 else 1.0
    return x * survives.to(x.dtype) / chance


# Exercise 12.19
def mended_classify(
    x: Tensor, blocks: nn.ModuleList, norm: nn.Module, head: nn.Module
) -> Tensor:
    """Class scores from embedded tokens, `b n d -> b k`."""
    for block in blocks:
        x = block(x)
    x = norm(x)
    return head(x[:, 0])


# Exercise 12.20
def mended_prepend(cls_token: Tensor, x: Tensor) -> Tensor:
    """The class token before the tokens of every image, `1 1 d, b n d -> b 1+n d`."""
    copies = cls_token.expand(len(x), -1, -1)
    return torch.cat([copies, x], dim=1)


# Exercise 12.21
class MendedReadout(nn.Module):
    """Class scores, some channels dropped in training, `b d -> b k`."""

    def __init__(self, head: nn.Module, drop: float) -> None:
        super().__init__()
        self.head, self.drop = head, drop

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(x, self.drop, self.training))


# Exercise 12.22
def mended_freeze(backbone: nn.Module) -> nn.Module:
    """Stop the weights from learning; dropout works as before."""
    return backbone.requires_grad_(False)


# Exercise 12.23
def mended_distil(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """KL(teacher || student) at a temperature, `b k, b k -> ()`."""
    soft_targets = (teacher / tau).softmax(dim=-1)
    soft_guesses = (student / tau).log_softmax(dim=-1)
    divergence = F.kl_div(soft_guesses, soft_targets, reduction="batchmean")
    return divergence * tau**2


# Exercise 12.24
def mended_to_train(distiller: nn.Module) -> list[nn.Parameter]:
    """The parameters for the optimizer."""
    named = distiller.named_parameters()
    return [part for name, part in named if not name.startswith("teacher.")]


# Exercise 12.25
def mended_windows(side: int, kernel: int, stride: int, padding: int) -> int:
    """How many windows fit along one side."""
    steps = (side + 2 * padding - kernel) // stride
    return steps + 1


# Exercise 12.26
def mended_perform(x: Tensor, kqv: nn.Linear, w: Tensor) -> Tensor:
    """Linear attention of published weights, `b n c -> b n e`."""
    k, q, v = kqv(x).chunk(3, dim=-1)
    return linear_attention(positive_features(q, w), positive_features(k, w), v)


# Exercise 12.27
def mended_lay_back(windows: Tensor, side: int) -> Tensor:
    """The picture that was cut into these windows, `b n (c 7 7) -> b c side side`."""
    columns = windows.mT
    summed, times = (
        F.fold(part, (side, side), 7, stride=4, padding=2)
        for part in (columns, torch.ones_like(columns))
    )
    return summed / times


# Exercise 13.1
@torch.no_grad()
def gap(ours: nn.Module, theirs: nn.Module, images: Tensor) -> float:
    """How far apart two models with the same weights are, in standard deviations."""
    ours.load_state_dict(theirs.state_dict())
    right = theirs.eval()(images)
    difference = (ours.eval()(images) - right).abs().max()
    return (difference / right.std()).item()


# Exercise 14.2
def paired_lead(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """The mean lead over five seeds, and half the width of its 95 % interval."""
    leads = ours - theirs
    standard_error = leads.std() / len(leads) ** 0.5
    return leads.mean().item(), 2.776 * standard_error.item()


# Exercise 15.1
def test_patchify(patchify) -> None:
    """Each patch equals the window that it was cut from, pixel by pixel."""
    images = torch.arange(2 * 3 * 28 * 30.0).reshape(2, 3, 28, 30)  # b c h w
    patches = patchify(images, (4, 5))
    assert patches.shape == (2, 7 * 6, 3 * 4 * 5)
    for row, column in product(range(7), range(6)):
        y, x = 4 * row, 5 * column
        window = images[:, :, y : y + 4, x : x + 5]
        assert torch.equal(patches[:, 6 * row + column], window.flatten(1))


# Exercise 15.2
def test_sinusoid(sinusoid_encoding) -> None:
    """Every entry is the sine or cosine that the paper's formula gives."""
    for num_positions, dim in ((50, 8), (9, 5)):
        table = sinusoid_encoding(num_positions, dim)
        assert table.shape == (num_positions, dim)
        for position, column in product(range(num_positions), range(dim)):
            angle = position / 10_000 ** ((column - column % 2) / dim)
            wave = math.cos(angle) if column % 2 else math.sin(angle)
            assert abs(table[position, column].item() - wave) < 1e-4


# Exercise 15.3
def test_attention_weights(attention_weights) -> None:
    """Each row comes from exponentials of its own scores, with and without a mask."""
    q, k = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8)
    some = torch.rand(4, 5) < 0.6
    some[:, 0] = True
    for mask in (None, some):
        weights = attention_weights(q, k, mask)
        assert weights.shape == (2, 3, 4, 5)
        for b, h, i in product(range(2), range(3), range(4)):
            row = (k[b, h] @ q[b, h, i] / 8**0.5).exp()
            row = row if mask is None else row * mask[i]
            assert torch.allclose(weights[b, h, i], row / row.sum(), atol=1e-5)


# Exercise 15.4
def test_heads(layer_class) -> None:
    """The layer gives what a loop over its heads gives with the same weights."""
    layer, x = layer_class(12, 3), torch.randn(2, 5, 12)
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    heads = []
    for head in range(3):
        own = slice(4 * head, 4 * head + 4)
        scores = q[..., own] @ k[..., own].transpose(1, 2) / 4**0.5
        heads.append(scores.softmax(dim=-1) @ v[..., own])
    expected = layer.proj(torch.cat(heads, dim=-1))
    assert torch.allclose(layer(x), expected, atol=1e-5)


# Exercise 15.5
def test_drop_path(layer_class) -> None:
    """Training drops whole images, keeps the mean, draws anew; eval drops none."""
    layer, x = layer_class(0.4), torch.ones(2000, 3, 2)
    out = layer(x)
    dropped = (out == 0).flatten(1).float().mean(dim=1)  # the share of each image
    assert set(dropped.tolist()) == {0.0, 1.0}
    assert abs(dropped.mean() - 0.4) < 0.06
    assert abs(out.mean() - 1) < 0.1
    assert not torch.equal(layer(x), out)
    assert torch.equal(layer.eval()(x), x)


# Exercise 15.6
def test_distillation(loss) -> None:
    """The loss follows its definition at two temperatures, and has a gradient."""
    student, teacher = torch.randn(6, 4, requires_grad=True), 3 * torch.randn(6, 4)
    for tau in (1.0, 3.0):
        p, q = (teacher / tau).softmax(dim=-1), (student / tau).softmax(dim=-1)
        expected = (p * (p.log() - q.log())).sum(dim=-1).mean() * tau**2
        assert torch.allclose(loss(student, teacher, tau), expected, rtol=1e-4)
        assert loss(student, teacher, tau).requires_grad


# Exercise 16.1
def whole_gradient(gradients: list[Tensor], sizes: list[int]) -> Tensor:
    """The gradient of a batch from the gradients of its pieces."""
    pairs = zip(sizes, gradients, strict=True)
    return sum(size * gradient for size, gradient in pairs) / sum(sizes)


# Exercise 16.2
def my_rows(
    order: Tensor, step: int, batch_size: int, rank: int, world_size: int
) -> Tensor:
    """The images of one process in one step."""
    batch = order[step * batch_size : (step + 1) * batch_size]
    return batch.tensor_split(world_size)[rank]


# Exercise 16.3
def all_reduce(x: Tensor, rank: int, world_size: int, exchange) -> Tensor:
    """The mean of the vectors of all processes."""
    parts = list(x.chunk(world_size))
    for step in range(world_size - 1):  # add up
        mine = (rank - step) % world_size
        parts[mine - 1] = parts[mine - 1] + exchange(parts[mine])
    for step in range(world_size - 1):  # hand round
        mine = (rank + 1 - step) % world_size
        parts[mine - 1] = exchange(parts[mine])
    return torch.cat(parts) / world_size


# Exercise 16.5
def epoch_of_process(epoch: int, rank: int, world_size: int):
    """The images of a process in an epoch, and a random shift for each of them."""
    sampler = DistributedSampler(range(12), world_size, rank)
    sampler.set_epoch(epoch)
    torch.manual_seed(epoch * world_size + rank)
    return list(sampler), torch.randn(len(sampler))
