"""Figures of the course: one style, one colour for each letter, always alt text.

Functions in `lesson_NN` take tensors and return a matplotlib Figure that carries its
own description (`describe`), and `show` puts both into the notebook.
"""

from collections.abc import Sequence
from io import BytesIO

import matplotlib as mpl
from cycler import cycler
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"

# One colour per axis letter (Okabe and Ito's palette, safe for colour-blind readers).
AXIS_COLORS = {
    "b": BLACK,
    "n": BLUE,
    "m": SKY,
    "d": VERMILION,
    "h": GREEN,
    "e": ORANGE,
    "c": PURPLE,
    "p": YELLOW,
}

mpl.rcParams.update(
    {
        "figure.dpi": 80,
        "figure.facecolor": "white",
        "font.size": 12,
        "axes.titlesize": 12,
        "axes.prop_cycle": cycler(
            color=[BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK],
            linestyle=["-", "--", "-.", ":", "-", "--", "-."],
        ),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "image.cmap": "viridis",
        "image.interpolation": "nearest",
    }
)


def figure(
    rows: int = 1, columns: int = 1, width: float = 9.0, height: float = 3.0, **options
) -> tuple[Figure, list[Axes]]:
    """A new figure, sized in inches, and its axes in reading order."""
    fig = Figure(figsize=(width, height), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **options)
    return fig, list(axes.flat)


def describe(fig: Figure, alt: str) -> Figure:
    """Give a figure its alt text: what it shows, its axes and its trend."""
    fig.set_label(alt)
    return fig


def show(fig: Figure) -> None:
    """Put a figure into the notebook, with its alt text as metadata and as text.

    Raises ValueError if the figure has no alt text (`describe`).
    """
    alt = str(fig.get_label())
    if not alt.strip():
        raise ValueError("a figure needs alt text: what it shows, its axes, its trend")
    raw, png = BytesIO(), BytesIO()
    fig.savefig(raw, format="png")
    Image.open(raw).convert("RGB").quantize(256).save(png, format="png", optimize=True)
    display(
        {"image/png": png.getvalue(), "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


def draw_image(ax: Axes, image: Tensor, title: str = "", **options) -> None:
    """Draw an image `c h w` (one or three channels) or `h w` without axes."""
    if image.ndim == 3:
        image = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    options = {"cmap": "gray"} | options
    ax.imshow(image.detach().cpu(), **options)
    ax.set_title(title)
    ax.axis("off")


def tiles(
    images: Sequence[Tensor] | Tensor,
    titles: Sequence[str] = (),
    columns: int = 8,
    size: float = 1.1,
    **options,
) -> Figure:
    """Images `c h w` or `h w` in reading order, at most `size` inches wide."""
    rows = -(-len(images) // columns)
    image_height = size * max(image.shape[-2] / image.shape[-1] for image in images)
    height = rows * (image_height + (0.3 if titles else 0.05))
    fig, axes = figure(rows, columns, width=columns * size, height=height)
    for ax in axes:
        ax.axis("off")
    for index, image in enumerate(images):
        draw_image(axes[index], image, titles[index] if titles else "", **options)
    return fig
