"""The picture of the demo."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

# Okabe & Ito 2008: told apart with any colour vision.
COLORS = {
    "grid search": "#999999",
    "random search": "#0072B2",
    "hypergradient": "#D55E00",
    "hg.tune": "#009E73",
}


def draw(all_results: dict, budget: int, path: Path) -> None:
    """Best validation loss against budget, and the path of each hyperparameter."""
    first = next(iter(all_results.values()))["hypergradient"]
    names = list(first.values)
    figure = Figure(figsize=(10, 3.6 + 0.2), layout="constrained")
    grid = figure.add_gridspec(len(names), 2, width_ratios=[1.3, 1])
    left = figure.add_subplot(grid[:, 0])
    _draw_best(left, all_results, budget)
    for i, name in enumerate(names):
        _draw_path(figure.add_subplot(grid[i, 1]), all_results, name, i == 2)
    figure.savefig(path, dpi=120)


def _draw_best(axes, all_results: dict, budget: int) -> None:
    runs = np.arange(1, budget + 1)
    for method, color in COLORS.items():
        curves = np.array(
            [_best_so_far(results[method], runs) for results in all_results.values()]
        )
        for curve in curves:
            axes.step(runs, curve, where="post", color=color, alpha=0.3, lw=1)
        axes.step(
            runs, curves.mean(axis=0), where="post", color=color, lw=2.2, label=method
        )
    axes.set(xlabel="budget spent (runs)", ylabel="best validation loss", yscale="log")
    axes.yaxis.set_minor_formatter("{x:.2g}")
    axes.yaxis.set_major_formatter("{x:.2g}")
    axes.set_title("thick: mean over seeds; thin: each seed", fontsize=10)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def _best_so_far(result, runs: np.ndarray) -> np.ndarray:
    """The lowest loss known when that many runs were spent."""
    spent = np.asarray(result.history["runs"])
    losses = np.asarray(result.history["val_loss"], float)
    losses = np.where(np.isfinite(losses), losses, np.inf)
    best = np.minimum.accumulate(losses)
    last = np.searchsorted(spent, runs + 1e-9, side="right") - 1
    return np.where(last >= 0, best[np.maximum(last, 0)], np.nan)


def _draw_path(axes, all_results: dict, name: str, last: bool) -> None:
    for results in all_results.values():
        history = results["hypergradient"].history
        kept = [k in ("start", "step") for k in history["kind"]]
        spent = np.asarray(history["runs"])[kept]
        values = np.asarray(history[name], float)[kept]
        values = 1 - values if "beta" in name else values
        axes.plot(spent, values, ".-", color=COLORS["hypergradient"], alpha=0.7)
    axes.set_yscale("log")
    short = name.split(".")[-1]
    axes.set_ylabel(f"1 − {short}" if "beta" in name else short, fontsize=9)
    axes.tick_params(labelbottom=last, labelsize=8)
    axes.grid(alpha=0.3)
    if last:
        axes.set_xlabel("budget spent (runs)")
