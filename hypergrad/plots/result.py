"""A result: E against runs, the path of each value, the norms of hypergradients."""

from typing import Any

import numpy as np

from hypergrad.plots.style import (
    BLUE,
    CYCLE,
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
from hypergrad.result.comparable import comparable, compared_losses

COLUMNS = 2
ENTRIES = 20_000
"""About as many entries of an array are drawn."""


def plot_result(result: Any, path: Any = None) -> Any:
    """E against the runs spent, and the path of each hyperparameter.

    Below, where there are any, the tuned schedules, the norms of hypergradients and the
    learning curve.

    Args:
        result: a `Result`.
        path: file to write, or None.

    Returns:
        ``matplotlib.figure.Figure``.

    Raises:
        ImportError: matplotlib is not installed.
    """
    names = list(result.values)
    curves = [name for name in names if result.space[name].get("curve")]
    norms = [name for name in names if np.any(_norms(result, name) > 0.0)]
    lines = -(-len(names) // COLUMNS)
    below = bool(norms) + (result.learning_curve is not None)
    heights = [3.0, *[1.7] * lines, *[1.7] * len(curves), *[1.9] * below]
    figure = new_figure(WIDTH, sum(heights))
    grid = figure.add_gridspec(
        len(heights), COLUMNS, height_ratios=heights, hspace=0.08
    )
    first = figure.add_subplot(grid[0, :])
    _draw_objective(first, result)
    for i, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + i // COLUMNS, i % COLUMNS], sharex=first)
        _draw_value(axes, result, name)
        if i + COLUMNS >= len(names):
            axes.set_xlabel("runs (plain trainings)", fontsize=9)
    for i, name in enumerate(curves):
        axes = figure.add_subplot(grid[1 + lines + i, :])
        _draw_curve(figure, axes, result, name)
        if i + 1 == len(curves):
            axes.set_xlabel("training, from its first step to its last", fontsize=9)
    if norms:
        axes = figure.add_subplot(grid[-below, :], sharex=first)
        _draw_norms(axes, result, norms)
    if result.learning_curve is not None:
        _draw_learning(figure.add_subplot(grid[-1, :]), result)
    return finished(figure, path)


def _norms(result: Any, name: str) -> np.ndarray:
    column = result.history.get(f"gradient_norm.{name}", ())
    return np.nan_to_num(np.asarray(column, float), nan=0.0, posinf=0.0)


def _draw_norms(axes: Any, result: Any, names: list[str]) -> None:
    runs = np.asarray(result.history["runs"], float)
    for i, name in enumerate(names):
        norms = _norms(result, name)
        at = norms > 0.0
        color = CYCLE[i % len(CYCLE)]
        axes.plot(runs[at], norms[at], ".-", color=color, ms=5, lw=1, label=name)
    axes.set_yscale("log")
    axes.set_title("norm of dE/du, the hypergradient", fontsize=9, loc="left")
    axes.set_xlabel("runs (plain trainings)", fontsize=9)
    if len(names) <= len(CYCLE):
        axes.legend(fontsize=7, frameon=False, ncols=2, loc="best")
    clean(axes)


def _draw_learning(axes: Any, result: Any) -> None:
    """E and the training loss on the way of the final training."""
    curve, best = result.learning_curve, result.best_step
    steps = np.asarray(curve["step"])
    lines = (
        ("loss", "training loss", GREY), ("val_loss", "validation loss (E)", BLUE)
    )  # fmt: skip
    for name, label, color in lines:
        axes.plot(steps, curve[name], ".-", color=color, ms=5, lw=1, label=label)
    at = list(steps).index(best)
    lowest = curve["val_loss"][at]
    axes.plot(best, lowest, "*", color=ORANGE, ms=13, label=f"best: step {best}")
    shown = np.asarray([curve["loss"], curve["val_loss"]], float)
    shown = shown[np.isfinite(shown)]
    if shown.size and shown.min() > 0.0 and shown.max() > 5.0 * shown.min():
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    axes.set_title("final training", fontsize=9, loc="left")
    axes.set_xlabel("steps of training", fontsize=9)
    axes.legend(fontsize=7, frameon=False, ncols=3, loc="best")
    clean(axes)


def _draw_curve(figure: Any, axes: Any, result: Any, name: str) -> None:
    """A schedule: tuned and start; of several variables or targets a heatmap."""
    space, tuned = result.space[name], np.asarray(result.values[name], float)
    rows = tuned.reshape(len(tuned), -1).T
    along = np.linspace(0.0, 1.0, rows.shape[1])
    if len(rows) == 1:
        start = np.ravel(result.start["values"][name])
        axes.plot(along, start, "--", color=GREEN, label="start")
        axes.plot(along, rows[0], ".-", color=ORANGE, label="tuned")
        set_scale(axes, space, rows)
        axes.legend(fontsize=8, frameon=False)
        clean(axes)
    else:
        drawn = 1.0 - rows if space["sampling"] == "reverse_log" else rows
        log = space["sampling"] != "linear" and np.all(drawn > 0.0)
        image = axes.imshow(
            drawn, aspect="auto", cmap="cividis", norm="log" if log else None,
            extent=(0.0, 1.0, len(rows) - 0.5, -0.5), interpolation="nearest",
        )  # fmt: skip
        bar = figure.colorbar(image, ax=axes, pad=0.01, fraction=0.04)
        bar.ax.tick_params(labelsize=7, which="both")
        axes.set_ylabel("entry", fontsize=8)
        axes.tick_params(labelsize=8, which="both")
    minus = len(rows) > 1 and space["sampling"] == "reverse_log"
    title = f"1 − {name}" if minus else name
    axes.set_title(f"{title}, tuned schedule", fontsize=9, loc="left")
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])


def _draw_objective(axes: Any, result: Any) -> None:
    history = result.history
    runs = np.asarray(history["runs"], float)
    losses = np.asarray(history["val_loss"], float)
    finite = np.isfinite(losses)
    kinds = np.asarray(history["kind"])
    alike = comparable(history)
    best = np.fmin.accumulate(compared_losses(history))
    seen = np.isfinite(best)
    axes.step(runs[seen], best[seen], where="post", color=BLUE, lw=2, label="best")
    for wanted, marker, color, label in (
        (("screening", "interior", "search"), "o", GREY, None),
        (("step",), "o", BLUE, "step kept"),
        (("rejected",), "x", ORANGE, "step taken back"),
    ):
        at = finite & np.isin(kinds, wanted) & alike
        if label is None:
            label = "search" if "search" in kinds else "screening"
        if at.any():
            axes.plot(
                runs[at], losses[at], marker, color=color, ms=5, ls="", label=label
            )
    other = finite & ~alike
    if other.any():
        lengths = np.asarray(history["num_steps"])
        shorter, drawn = len(set(lengths)) > 1, any(history["draw"])
        label = "shorter training" if shorter else "other samples"
        label += ", other samples" if shorter and drawn else ""
        axes.plot(runs[other], losses[other], ".", color=GREY, ms=4, label=label)
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
        # The medians of entries of all other runs.
        medians = np.median(values, axis=1)
        axes.plot(runs[aside], medians[aside], marker="o", alpha=0.5, **style)
        mark(axes, runs, medians, _best_row(result), "*", ORANGE, None)
        mark(axes, runs, medians, 0, "s", GREEN, None)
    space = result.space[name]
    set_scale(axes, space, values)
    axes.set_title(name, fontsize=9, loc="left")
    clean(axes)


def _entries(value: Any) -> np.ndarray:
    """The entries of a value; of many, every n-th is enough for their quantiles."""
    flat = np.ravel(value)
    return flat[:: 1 + flat.size // ENTRIES]


def _best_row(result: Any) -> int:
    losses = compared_losses(result.history)
    return int(np.argmin(np.where(losses == result.loss, -np.inf, losses)))


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
