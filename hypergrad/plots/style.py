"""What all pictures have in common. matplotlib is imported in this room only."""

from typing import Any

import numpy as np

WIDTH = 8.0
"""Inches: readable when a page shows it about 800 pixels wide."""

# Okabe & Ito 2008: told apart with any colour vision, and in grey.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"
PURPLE, SKY, BLACK = "#CC79A7", "#56B4E9", "#000000"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK, GREY)


def new_figure(width: float, height: float) -> Any:
    """A figure without a window.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "`plot` draws with matplotlib, which is not installed. Install it with "
            '`pip install matplotlib`, or "keras-hypergrad[plot]".'
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def finished(figure: Any, path: Any) -> Any:
    """The figure, written to a file where one is named."""
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def set_scale(axes: Any, space: Any, values: np.ndarray, axis: str = "y") -> None:
    """The sampling scale of a range, labelled with the values themselves."""
    low, high = space["min_value"], space["max_value"]
    scale, ticks_of, limits = (
        (axes.set_yscale, axes.set_yticks, axes.set_ylim)
        if axis == "y"
        else (axes.set_xscale, axes.set_xticks, axes.set_xlim)
    )
    if space["sampling"] == "log":
        if np.any(values == 0.0):
            scale("symlog", linthresh=low)
        else:
            scale("log")
    elif space["sampling"] == "reverse_log":
        # Even in the distance to 1.
        scale(
            "function",
            functions=(
                lambda v: -np.log10(np.maximum(1.0 - v, 1e-12)),
                lambda s: 1.0 - 10.0 ** (-s),
            ),
        )
        ticks = [v for v in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999) if low <= v <= high]
        ticks_of(ticks, [f"{v:g}" for v in ticks])
        axes.minorticks_off()
        limits(low, high)


def mark(
    axes: Any,
    x: np.ndarray,
    y: np.ndarray,
    row: int,
    marker: str,
    color: str,
    label: str | None,
) -> None:
    size = 13 if marker == "*" else 7
    axes.plot(
        x[row], y[row], marker, color=color, ms=size, mec="white", ls="", label=label
    )


def plain_ticks(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def clean(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, lw=0.5)
    axes.tick_params(labelsize=8, which="both")
