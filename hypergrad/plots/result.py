"""A result: E against runs, the path of each value, the norms of hypergradients."""

from typing import Any

import numpy as np

from hypergrad.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    WIDTH,
    clean,
    finished,
    mark,
    new_figure,
    plain_ticks,
    set_scale,
)

COLUMNS = 2
ENTRIES = 20_000
"""About as many entries of an array are drawn."""


def plot_result(result: Any, path: Any = None) -> Any:
    """E against the runs spent, and the path of each hyperparameter.

    Args:
        result: a `Result`.
        path: file to write, or None.

    Returns:
        ``matplotlib.figure.Figure``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    names = list(result.values)
    lines = -(-len(names) // COLUMNS)
    figure = new_figure(WIDTH, 3.0 + 1.7 * lines)
    grid = figure.add_gridspec(
        lines + 1, COLUMNS, height_ratios=[3.0, *[1.7] * lines], hspace=0.08
    )
    first = figure.add_subplot(grid[0, :])
    _draw_objective(first, result)
    for i, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + i // COLUMNS, i % COLUMNS], sharex=first)
        _draw_value(axes, result, name)
        if i + COLUMNS >= len(names):
            axes.set_xlabel("runs (plain trainings)", fontsize=9)
    return finished(figure, path)


def _draw_objective(axes: Any, result: Any) -> None:
    history = result.history
    runs = np.asarray(history["runs"], float)
    losses = np.asarray(history["val_loss"], float)
    finite = np.isfinite(losses)
    kinds = np.asarray(history["kind"])
    best = np.fmin.accumulate(np.where(finite, losses, np.inf))
    seen = np.isfinite(best)
    axes.step(runs[seen], best[seen], where="post", color=BLUE, lw=2, label="best")
    for wanted, marker, color, label in (
        (("screening", "interior", "search"), "o", GREY, None),
        (("step",), "o", BLUE, "step kept"),
        (("rejected",), "x", ORANGE, "step taken back"),
    ):
        at = finite & np.isin(kinds, wanted)
        if label is None:
            label = "search" if "search" in kinds else "screening"
        if at.any():
            axes.plot(
                runs[at], losses[at], marker, color=color, ms=5, ls="", label=label
            )
    mark(axes, runs, losses, 0, "s", GREEN, "start")
    mark(axes, runs, losses, _best_row(result), "*", ORANGE, "tuned")
    low, high = np.min(losses[finite], initial=np.inf), losses[0]
    positive = finite.any() and low > 0.0
    if positive and np.max(losses[finite]) > 5.0 * low:
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    axes.set_ylabel("validation loss (E)")
    axes.set_xlabel("runs (plain trainings)", fontsize=9)
    change = f"{high:.4g} → {result.loss:.4g}, {result.runs:g} runs"
    axes.set_title(f"validation loss {change}", fontsize=11, loc="left")
    axes.legend(fontsize=8, ncols=3, frameon=False, loc="upper right")
    clean(axes)


def _draw_value(axes: Any, result: Any, name: str) -> None:
    history = result.history
    runs = np.asarray(history["runs"], float)
    values = np.asarray([_entries(v) for v in history[name]], float)
    kinds = np.asarray(history["kind"])
    on_path = np.isin(kinds, ["step", "search"])
    on_path[_first_place(result)] = True
    aside = ~on_path
    style = {"color": GREY, "ls": "", "ms": 3}
    if values.shape[1] == 1:
        joined = "" if "search" in kinds else "-"
        axes.plot(runs[on_path], values[on_path, 0], ls=joined, marker=".", color=BLUE)
        axes.plot(runs[aside], values[aside, 0], marker="o", alpha=0.5, **style)
        mark(axes, runs, values[:, 0], _best_row(result), "*", ORANGE, None)
        mark(axes, runs, values[:, 0], 0, "s", GREEN, None)
    else:
        low, quarter, middle, three, high = np.quantile(
            values[on_path], [0.0, 0.25, 0.5, 0.75, 1.0], axis=1
        )
        at = runs[on_path]
        axes.fill_between(at, low, high, color=BLUE, alpha=0.15, lw=0)
        axes.fill_between(at, quarter, three, color=BLUE, alpha=0.3, lw=0)
        axes.plot(at, middle, color=BLUE)
    space = result.space[name]
    set_scale(axes, space, values)
    axes.set_title(name, fontsize=9, loc="left")
    clean(axes)


def _entries(value: Any) -> np.ndarray:
    """The entries of a value; of many, every n-th is enough for their quantiles."""
    flat = np.ravel(value)
    return flat[:: 1 + flat.size // ENTRIES]


def _best_row(result: Any) -> int:
    losses = np.asarray(result.history["val_loss"], float)
    return int(np.argmin(np.where(np.isfinite(losses), losses, np.inf)))


def _first_place(result: Any) -> int:
    """Where the descent began: the best run before its first step."""
    tried = np.isin(result.history["kind"], ["step", "rejected"])
    before = int(np.argmax(tried)) if tried.any() else len(tried)
    losses = np.asarray(result.history["val_loss"][:before], float)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    # The exact start on a bound is not descended from: the run after it is.
    if "interior" in result.history["kind"][:before]:
        losses[0] = np.inf
    return int(np.argmin(losses))
