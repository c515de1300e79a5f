"""Several results: the best E so far against the runs spent."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hypergrad.plots.style import (
    CYCLE,
    WIDTH,
    clean,
    finished,
    new_figure,
    plain_ticks,
)
from hypergrad.result.comparable import compared_losses


def compare(
    results: "Mapping[str, Any] | Sequence[Any]", path: Any = None, *, x: str = "runs"
) -> Any:
    """Draws the best validation loss so far of several results.

    Args:
        results: dict, label → `Result` or a list of them (other seeds: the median, and
            the range as a band); or a list of results.
        path: file to write, or None.
        x: "runs" or "seconds".

    Returns:
        ``matplotlib.figure.Figure``.

    Raises:
        ValueError: no results, or another ``x``.
        ImportError: matplotlib is not installed.
    """
    named = _named(results)
    if x not in ("runs", "seconds"):
        raise ValueError(f"`x` must be 'runs' or 'seconds'. Received: {x!r}.")
    figure = new_figure(WIDTH, 3.6)
    axes = figure.subplots()
    lowest, highest = np.inf, -np.inf
    for i, (label, group) in enumerate(named.items()):
        grid, best = _best_so_far(group, x)
        middle = _quantile(best, 0.5)
        color, seen = CYCLE[i % len(CYCLE)], np.isfinite(middle)
        line = ("-", "--", ":")[i // len(CYCLE) % 3]
        axes.step(
            grid[seen], middle[seen], where="post", color=color, ls=line, label=label
        )
        if len(group) > 1:
            low, high = _quantile(best, 0.0), _quantile(best, 1.0)
            both = np.isfinite(low) & np.isfinite(high)
            axes.fill_between(
                grid[both], low[both], high[both],
                step="post", color=color, alpha=0.15, lw=0,
            )  # fmt: skip
        lowest = min(lowest, np.min(middle[seen], initial=np.inf))
        highest = max(highest, np.max(middle[seen], initial=-np.inf))
    if lowest > 0.0 and highest > 5.0 * lowest:
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    units = {"runs": "runs (plain trainings)", "seconds": "seconds"}
    axes.set_xlabel(units[x])
    axes.set_ylabel("best validation loss (E)")
    axes.legend(fontsize=8, frameon=False)
    clean(axes)
    return finished(figure, path)


def _named(results: Any) -> dict[str, list[Any]]:
    if not isinstance(results, Mapping):
        results = {f"result {i + 1}": result for i, result in enumerate(results)}
    named = {
        str(label): list(group) if isinstance(group, (list, tuple)) else [group]
        for label, group in results.items()
    }
    if not named or not all(named.values()):
        raise ValueError(
            "`compare` needs results: a dict, label → Result or a list of them. "
            f"Received: {results!r}."
        )
    return named


def _best_so_far(group: Sequence[Any], x: str) -> tuple[np.ndarray, np.ndarray]:
    """(all costs, best E of each result at these costs; NaN before its first run)."""
    costs = [np.asarray(result.history[x], float) for result in group]
    grid = np.unique(np.concatenate(costs))
    rows = []
    for cost, result in zip(costs, group):
        best = np.minimum.accumulate(compared_losses(result.history))
        place = np.searchsorted(cost, grid, side="right") - 1
        known = np.where(place >= 0, best[np.maximum(place, 0)], np.inf)
        rows.append(known)
    return grid, np.array(rows)


def _quantile(best: np.ndarray, q: float) -> np.ndarray:
    """NaN where a result has no finite loss yet."""
    everywhere = np.isfinite(best).all(axis=0)
    found = np.full(best.shape[1], np.nan)
    found[everywhere] = np.quantile(best[:, everywhere], q, axis=0)
    return found
