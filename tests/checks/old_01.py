"""Right answers and known mistakes for the exercises of lesson 01."""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from checks import stub


def refusing(cut, refuse="size batch width"):
    """Exercise 1.2 around its core: sizes read, what does not fit refused."""

    def patchify(images, patch_size):
        ph, pw = (patch_size,) * 2 if isinstance(patch_size, int) else patch_size
        if "size" in refuse and min(ph, pw) < 1:
            raise ValueError("a patch must have pixels")
        if "batch" in refuse and images.ndim != 4:
            raise ValueError("images are b c h w")
        if images.shape[-2] % ph or ("width" in refuse and images.shape[-1] % pw):
            raise ValueError("a side must be a multiple of the patch")
        return cut(images, ph, pw)

    return patchify


def by_pattern(pattern):
    return refusing(lambda images, ph, pw: rearrange(images, pattern, ph=ph, pw=pw))


def by_loop(images, ph, pw):
    rows = range(0, images.shape[2], ph)
    columns = range(0, images.shape[3], pw)
    cut = [
        images[:, :, y : y + ph, x : x + pw].flatten(1) for y in rows for x in columns
    ]
    return torch.stack(cut, dim=1)


def by_unfold(images, ph, pw):
    return F.unfold(images, (ph, pw), stride=(ph, pw)).transpose(1, 2)


def by_permute(images, ph, pw):
    b, c, height, width = images.shape
    parts = images.reshape(b, c, height // ph, ph, width // pw, pw)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * ph * pw)


def by_convolution(images, ph, pw):
    size = images.shape[1] * ph * pw
    kernels = torch.eye(size, dtype=images.dtype).reshape(size, -1, ph, pw)
    return F.conv2d(images, kernels, stride=(ph, pw)).flatten(2).mT


def by_float_convolution(images, ph, pw):
    size = images.shape[1] * ph * pw
    kernels = torch.eye(size).reshape(size, -1, ph, pw)
    return F.conv2d(images, kernels, stride=(ph, pw)).flatten(2).mT


def by_float_pixels(images, ph, pw):
    return by_loop(images.float(), ph, pw).to(images.dtype)


def by_squeezing(images, ph, pw):
    return by_loop(images, ph, pw).squeeze()


def by_reshape(images, ph, pw):
    b, c, _, _ = images.shape
    return images.reshape(b, -1, c * ph * pw)


def by_cutting_memory(images, ph, pw):
    pieces = images.flatten(1).split(images.shape[1] * ph * pw, dim=1)
    return torch.stack(pieces, dim=1)


def by_windows(images, ph, pw):
    windows = images.unfold(2, ph, ph).unfold(3, pw, pw)
    return windows.reshape(len(images), -1, images.shape[1] * ph * pw)


def by_windows_of_channels(images, ph, pw):
    windows = rearrange(
        images, "b c (gh ph) (gw pw) -> b (c gh gw) (ph pw)", ph=ph, pw=pw
    )
    return windows.reshape(len(images), -1, images.shape[1] * ph * pw)


def by_columns_of_loops(images, ph, pw):
    rows = range(0, images.shape[2], ph)
    columns = range(0, images.shape[3], pw)
    cut = [
        images[:, :, y : y + ph, x : x + pw].flatten(1) for x in columns for y in rows
    ]
    return torch.stack(cut, dim=1)


def channel_last_of_loop(images, ph, pw):
    patches = by_loop(images, ph, pw).unflatten(-1, (-1, ph * pw))
    return patches.mT.flatten(2)


RIGHT_PATTERN = "b c (gh ph) (gw pw) -> b (gh gw) (c ph pw)"


def linear(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


def as_linear(conv):
    return linear(conv.weight.detach().flatten(1), conv.bias.detach())


def as_linear_by_copy(conv):
    layer = nn.Linear(conv.weight[0].numel(), conv.out_channels)
    with torch.no_grad():
        layer.weight.copy_(rearrange(conv.weight, "d c h w -> d (c h w)"))
        layer.bias.copy_(conv.bias)
    return layer


def as_linear_by_asking(conv):
    """The convolution shows its matrix when it is given one pixel at a time."""
    size = conv.weight[0].numel()
    with torch.no_grad():
        pixels = torch.eye(size).reshape(size, -1, *conv.kernel_size)
        answers = conv(pixels).flatten(1) - conv.bias
    return linear(answers.T, conv.bias.detach())


def without_bias(conv):
    return linear(conv.weight.detach().flatten(1), torch.zeros(len(conv.weight)))


def with_a_random_bias(conv):
    layer = nn.Linear(conv.weight[0].numel(), conv.out_channels)
    layer.weight.data = conv.weight.detach().flatten(1).clone()
    return layer


def bias_switched_off(conv):
    layer = nn.Linear(conv.weight[0].numel(), conv.out_channels, bias=False)
    layer.weight.data = conv.weight.detach().flatten(1).clone()
    return layer


def kernel_channel_last(conv):
    weight = rearrange(conv.weight.detach(), "d c ph pw -> d (ph pw c)")
    return linear(weight, conv.bias.detach())


def kernel_permuted(conv):
    weight = conv.weight.detach().permute(0, 2, 3, 1).reshape(conv.out_channels, -1)
    return linear(weight, conv.bias.detach())


def kernel_by_columns(conv):
    weight = rearrange(conv.weight.detach(), "d c ph pw -> d (c pw ph)")
    return linear(weight, conv.bias.detach())


def kernel_backwards(conv):
    return linear(conv.weight.detach().flatten(1).flip(1), conv.bias.detach())


def transposed(conv):
    layer = as_linear(conv)
    layer.weight.data = layer.weight.data.T.clone()
    return layer


def only_the_size(conv):
    return nn.Linear(conv.weight[0].numel(), conv.out_channels)


RIGHT = [
    ("1.1", (196, 768)),
    ("1.1", [(224 // 16) ** 2, 3 * 16**2]),
    ("1.2", by_pattern(RIGHT_PATTERN)),
    ("1.2", refusing(by_loop)),
    ("1.2", refusing(by_unfold)),
    ("1.2", refusing(by_permute)),
    ("1.2", refusing(by_convolution)),
    ("1.3", as_linear),
    ("1.3", as_linear_by_copy),
    ("1.3", as_linear_by_asking),
]
WRONG = [
    ("1.1", (768, 196), "answer-swapped", "each at the other's place"),
    ("1.1", (14, 768), "one-side-counted", "along one side"),
    ("1.1", (197, 768), "class-token-counted", "class token"),
    ("1.1", (3136, 768), "divided-by-one-side", "divided by 16 once"),
    ("1.1", (50176, 768), "pixels-are-tokens", "how many pixels"),
    ("1.1", (588, 256), "one-patch-per-channel", "three times too many"),
    ("1.1", (195, 768), None, "then square"),
    ("1.1", (196, 256), "channels-forgotten", "how many numbers is one pixel"),
    ("1.1", (196, 16), "one-line-of-a-patch", "one line of a patch"),
    ("1.1", (196, 48), "one-line-of-a-patch", "one line of a patch"),
    ("1.1", (196, 14), None, "times channels"),
    ("1.2", stub, None, "still empty"),
    ("1.2", refusing(by_reshape), "reshape-cuts-memory", "2% .* Gather the two grid"),
    ("1.2", refusing(by_cutting_memory), "reshape-cuts-memory", "Gather the two grid"),
    ("1.2", refusing(by_windows), "channels-stay-in-front", "nothing but red"),
    (
        "1.2",
        refusing(by_windows_of_channels),
        "channels-stay-in-front",
        "nothing but red",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> b (gw gh) (c ph pw)"),
        "grid-read-by-columns",
        "patch 1 lies below patch 0",
    ),
    (
        "1.2",
        refusing(by_columns_of_loops),
        "grid-read-by-columns",
        "patch 1 lies below patch 0",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> b (gh gw) (ph pw c)"),
        "channel-last",
        "a valid embedding",
    ),
    ("1.2", refusing(channel_last_of_loop), "channel-last", "a valid embedding"),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> b (gh gw) (c pw ph)"),
        "pixels-read-by-columns",
        "down its columns",
    ),
    (
        "1.2",
        lambda images, size: refusing(by_loop)(images.mT, size[::-1]),
        "grid-read-by-columns",
        "patch 1 lies below patch 0",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> b (gh gw) (ph c pw)"),
        None,
        "but in another order",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (pw gw) -> b (gh gw) (c ph pw)"),
        None,
        "whose pixels does it hold",
    ),
    (
        "1.2",
        lambda images, size: refusing(by_loop)(images, size[::-1]),
        "height-and-width-swapped",
        "4 high and 2 wide",
    ),
    (
        "1.2",
        lambda images, size: refusing(by_loop)(images, size[0]),
        "patches-taken-as-squares",
        "these patches are squares",
    ),
    (
        "1.2",
        lambda images, size: refusing(by_loop)(images, size[1]),
        "patches-taken-as-squares",
        "these patches are squares",
    ),
    (
        "1.2",
        lambda images, size: F.unfold(images, size, stride=size),
        "tokens-last",
        r"\(2, 48, 8\), expected \(2, 8, 48\)",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> b (c ph pw) (gh gw)"),
        "tokens-last",
        "the tokens came last",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> b (c gh gw) (ph pw)"),
        "one-patch-per-channel",
        "three times the tokens",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> b gh gw (c ph pw)"),
        "axes-not-merged",
        "4 axes are left",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> b (gh gw) c ph pw"),
        "axes-not-merged",
        "5 axes are left",
    ),
    (
        "1.2",
        by_pattern("b c (gh ph) (gw pw) -> (b gh gw) (c ph pw)"),
        None,
        r"shape \(16, 48\), expected \(2, 8, 48\)",
    ),
    (
        "1.2",
        lambda images, size: by_permute(images, *size),
        None,
        "your answer raised TypeError",
    ),
    (
        "1.2",
        lambda images, size: by_unfold(
            images, *(size if isinstance(size, tuple) else (size, size))
        ),
        None,
        "not a multiple of the patch should raise ValueError, and nothing",
    ),
    (
        "1.2",
        lambda images, size: refusing(by_loop)(
            images, (2, 2) if isinstance(size, int) else size
        ),
        None,
        "right for a pair of sizes",
    ),
    (
        "1.2",
        refusing(by_unfold, "size batch"),
        None,
        "not a multiple of the patch should raise ValueError, and nothing",
    ),
    ("1.2", refusing(by_squeezing), None, "of length 1 is an axis, too"),
    ("1.2", refusing(by_float_convolution), None, "but images in float64 raised Runt"),
    ("1.2", refusing(by_float_pixels), None, "hold the pixels as they are"),
    ("1.2", refusing(by_loop, "batch width"), None, "a patch of 4 x 0 should raise"),
    (
        "1.2",
        refusing(by_unfold, "size width"),
        None,
        r"image \(3, 8, 16\), without the axis of the batch, should raise ValueError",
    ),
    ("1.3", stub, None, "still empty"),
    ("1.3", lambda conv: conv, "layer-left-as-it-was", "nn.Linear is asked for"),
    ("1.3", lambda conv: conv.weight, None, "nn.Linear is asked for"),
    ("1.3", transposed, "weight-transposed", r"\(24, 7\), not \(7, 24\): row i"),
    ("1.3", lambda conv: nn.Linear(3, 7), None, r"\(7, 3\), not \(7, 24\)"),
    ("1.3", only_the_size, "weights-left-random", "two calls"),
    ("1.3", without_bias, "bias-forgotten", "added after the sum"),
    ("1.3", bias_switched_off, "bias-forgotten", "added after the sum"),
    ("1.3", with_a_random_bias, "bias-forgotten", "added after the sum"),
    ("1.3", kernel_channel_last, "kernel-channel-last", "with the channel last"),
    ("1.3", kernel_permuted, "kernel-channel-last", "with the channel last"),
    ("1.3", kernel_by_columns, "kernel-read-by-columns", "column by column"),
    ("1.3", kernel_backwards, None, r"up to \d\.\d\d: is the kernel laid flat"),
]
