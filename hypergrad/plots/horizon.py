"""The horizon report: norms, agreement and smoothness against the length."""

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
    new_figure,
)


def horizon(report: Any, path: Any = None) -> Any:
    """Draws what `hypergrad.horizon` found.

    Args:
        report: a `HorizonReport`.
        path: file to write, or None.

    Returns:
        ``matplotlib.figure.Figure``: above the norm of dE/du, with its spread over the
        samples; below agreement and smoothness. Lengths that are not usable are grey,
        the recommended one is marked.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = new_figure(WIDTH, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 1.0])
    rows = report.rows
    steps = np.array([row.steps for row in rows], float)
    norms = np.array([row.norm for row in rows])
    usable = np.array([row.usable for row in rows])
    spread = np.sqrt(np.nan_to_num([row.variance for row in rows], posinf=0.0))
    least = norms / (1.0 + spread)
    above.fill_between(steps, least, norms * (1.0 + spread), color=BLUE, alpha=0.15)
    above.plot(steps, norms, color=BLUE, lw=1.5)
    for part, color, label in ((usable, BLUE, "usable"), (~usable, GREY, "not usable")):
        if part.any():
            style = {"color": color, "ls": "", "ms": 6, "label": label}
            above.plot(steps[part], norms[part], "o", **style)
    above.set_xscale("log", base=2)
    if np.any(norms > 0.0):
        above.set_yscale("log")
    above.set_ylabel("norm of dE/du")
    above.set_title(report.advice, fontsize=10, loc="left", wrap=True)
    below.plot(steps, [r.agreement for r in rows], "o-", color=GREEN, label="agreement")
    below.plot(
        steps, [r.smoothness for r in rows], "s--", color=ORANGE, label="smoothness"
    )
    below.axhline(0.0, color=GREY, lw=0.8)
    below.set_ylim(-1.05, 1.05)
    below.set_xlabel("steps of training")
    below.set_xticks(steps, [f"{int(s)}" for s in steps])
    below.minorticks_off()
    for axes in (above, below):
        if report.recommended is not None:
            axes.axvline(report.recommended, color=GREEN, lw=1.0, ls=":")
        axes.legend(fontsize=8, frameon=False, loc="best")
        clean(axes)
    return finished(figure, path)
