"""The pictures of the comparison."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from report.results import Row, grouped

# Okabe & Ito 2008: told apart with any colour vision; lines and marks help as well.
STYLES = {
    "random": ("#0072B2", "-", "o"),
    "grid": ("#999999", "-", "s"),
    "quasirandom": ("#56B4E9", "--", "^"),
    "cosine": ("#F0E442", "-", "P"),
    "optuna[tpe]": ("#009E73", "-", "v"),
    "optuna[cma-es]": ("#009E73", "--", "<"),
    "keras-tuner[bayesian]": ("#CC79A7", "-", "X"),
    "keras-tuner[hyperband]": ("#CC79A7", "--", "*"),
    "successive-halving": ("#E69F00", "--", "h"),
    "pbt": ("#000000", ":", "p"),
    "tune": ("#D55E00", "-", "D"),
}
"""Methods that are drawn. All are in the table."""


def draw_best_so_far(rows: Sequence[Row], path: Path) -> None:
    """The best validation loss against runs spent: median and middle half of seeds."""
    problems = grouped([r for r in rows if r.method in STYLES and r.status == "done"])
    columns = min(3, len(problems))
    lines = math.ceil(len(problems) / columns)
    figure = Figure(figsize=(9, 2.7 * lines + 0.7), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for place, (problem, methods) in zip(axes.flat, problems.items()):
        for method in (m for m in STYLES if m in methods):
            _draw_curves(place, method, methods[method])
        place.set_title(problem, fontsize=10)
        _log_scale(place)
        place.tick_params(labelsize=7, which="both")
        place.grid(alpha=0.3)
        place.margins(x=0.02)
    for place in axes.flat[len(problems) :]:
        place.set_visible(False)
    for place in axes[:, 0]:
        place.set_ylabel("best validation loss", fontsize=8)
    for place in axes.flat[max(0, len(problems) - columns) : len(problems)]:
        place.set_xlabel("runs spent", fontsize=8)
    _legend(figure, axes)
    figure.savefig(path, dpi=110)


def _draw_curves(place, method: str, rows: Sequence[Row]) -> None:
    color, line, mark = STYLES[method]
    last = math.ceil(max(row.runs for row in rows) - 1e-6)  # thirds add up to 8.0…01
    runs = np.arange(1.0, last + 1.0)
    curves = np.array([best_after(row.curve, runs) for row in rows])
    known = np.isfinite(curves).mean(axis=0) > 0.75  # so that all quartiles are finite
    if not known.any():
        return
    runs, curves = runs[known], curves[:, known]
    low, middle, high = np.quantile(curves, (0.25, 0.5, 0.75), axis=0, method="nearest")
    place.fill_between(runs, low, high, color=color, alpha=0.15, lw=0, step="post")
    place.plot(
        runs, middle, line, color=color, marker=mark, ms=4, lw=1.6,
        markevery=max(1, len(runs) // 6), drawstyle="steps-post", label=method,
    )  # fmt: skip


def _log_scale(place) -> None:
    """1, 2 and 5 of each decade, or where there are too few of them, even numbers."""
    low, high = place.get_ylim()
    place.set_yscale("log")
    locator = LogLocator(subs=(1, 2, 5)) if high / low > 5 else MaxNLocator(5)
    place.yaxis.set_major_locator(locator)
    place.yaxis.set_major_formatter("{x:.3g}")
    place.yaxis.set_minor_formatter(NullFormatter())


def best_after(curve: dict, runs: np.ndarray) -> np.ndarray:
    """The best loss known when so many runs were spent; infinite before the first."""
    best = np.array([np.inf, *(np.inf if b is None else b for b in curve["best"])])
    return best[np.searchsorted(curve["runs"], runs + 1e-9, side="right")]


def draw_against_numbers(rows: Sequence[Row], path: Path) -> None:
    """Loss over that of random search, against the number of hyperparameters.

    A mark is a problem: the geometric mean over the seeds of the ratio of two losses
    of one seed, with its range from the lowest to the highest.
    """
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    place = figure.subplots()
    problems = grouped([r for r in rows if r.method in STYLES])
    drawn = [m for m in STYLES if any(m in methods for methods in problems.values())]
    for i, method in enumerate(m for m in drawn if m != "random"):
        color, _, mark = STYLES[method]
        shift = 1.05 ** (i - len(drawn) / 2)  # marks of one problem stand side by side
        first = True
        for methods in problems.values():
            ratios = _ratios(methods.get(method, []), methods.get("random", []))
            if not len(ratios):
                continue
            x = methods[method][0].numbers * shift
            y = math.exp(np.log(ratios).mean())
            error = [[y - ratios.min()], [ratios.max() - y]]
            place.errorbar(
                x, y, _bars(error), color=color, marker=mark, ms=5,
                elinewidth=0.8, alpha=0.9, label=method if first else None,
            )  # fmt: skip
            first = False
    place.axhline(1.0, color=STYLES["random"][0], lw=1.2)
    place.annotate(
        "random search", (0.995, 1.0), xycoords=("axes fraction", "data"),
        ha="right", va="bottom", fontsize=8, color=STYLES["random"][0],
    )  # fmt: skip
    place.set(xscale="log", yscale="log", xlabel="number of hyperparameters")
    place.set_ylabel("validation loss / that of random search")
    place.yaxis.set_major_formatter("{x:.2g}")
    place.yaxis.set_minor_formatter("{x:.2g}")
    place.tick_params(labelsize=8, which="both")
    place.grid(alpha=0.3)
    _legend(figure, np.array([[place]]))
    figure.savefig(path, dpi=110)


def _bars(error: list) -> list | None:
    """No bar of length 0, which matplotlib would draw as a dash."""
    return error if any(e[0] > 0 for e in error) else None


def _ratios(rows: Sequence[Row], reference: Sequence[Row]) -> np.ndarray:
    known = {r.seed: r.loss for r in reference}
    pairs = [r.loss / known[r.seed] for r in rows if r.seed in known]
    return np.array([ratio for ratio in pairs if math.isfinite(ratio)])


def _legend(figure: Figure, axes: np.ndarray) -> None:
    entries = {}
    for place in axes.flat:
        handles, labels = place.get_legend_handles_labels()
        entries |= dict(zip(labels, handles))
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center",
        ncols=min(6, max(1, len(entries))), frameon=False, fontsize=8,
    )  # fmt: skip
