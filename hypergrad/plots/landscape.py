"""E over two hyperparameters, with the way that hypergradients point."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hypergrad.plots.style import (
    GREEN,
    GREY,
    ORANGE,
    WIDTH,
    finished,
    new_figure,
    set_scale,
)

LEVELS = 12


def landscape(
    problem: Any,
    names: Sequence[str] = (),
    result: Any = None,
    path: Any = None,
    **options: Any,
) -> Any:
    """Draws E over two hyperparameters as contours.

    Arrows point against the hypergradient, on the sampling scales; their length says
    nothing. With a result its descent is drawn on top, from the start (square) to the
    tuned values (star); the others are held at the tuned values.

    Args:
        problem: a `Problem`, or a `hypergrad.diagnostics.Landscape` measured before.
        names: two names of its space, such as ``("optimizer.learning_rate",
            "optimizer.beta_1")``.
        result: a `Result` on the same problem, or None.
        path: file to write, or None.
        **options: of `hypergrad.diagnostics.landscape`: ``values``, ``size``,
            ``arrows``, ``method``.

    Returns:
        ``matplotlib.figure.Figure``.

    Raises:
        ValueError: names that are not two of the space, or ranges without two ends.
        ImportError: matplotlib is not installed.

    Cost: size² runs and arrows² hypergradients: 144 and 16 by default.
    """
    figure = new_figure(0.8 * WIDTH, 0.6 * WIDTH)
    found = problem
    if not hasattr(problem, "losses"):
        from hypergrad.diagnostics import landscape as measure

        if result is not None:
            options.setdefault("values", result.values)
        found = measure(problem, names, **options)
    axes = figure.subplots()
    x, y = found.grids
    losses = np.ma.masked_invalid(found.losses)
    filled = axes.contourf(x, y, losses, _levels(losses), cmap="cividis", extend="max")
    bar = figure.colorbar(filled, ax=axes, format="%.3g")
    bar.set_label("validation loss (E)", fontsize=9)
    for name, values, axis in zip(found.names, found.grids, ("x", "y")):
        space = found.space[name]
        if axis == "x":
            axes.set_xlabel(name)
        else:
            axes.set_ylabel(name)
        set_scale(axes, space, values, axis)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    _arrows(axes, found)
    if result is not None:
        _path(axes, found.names, result)
    return finished(figure, path)


def _levels(losses: Any) -> np.ndarray:
    """Finer near the lowest E: of what is far above only that it is so is shown."""
    flat = losses.compressed()
    if not flat.size:
        raise ValueError(
            "Every run of the grid diverged: narrow the ranges, or look at "
            "`hypergrad.nan_report(problem)`."
        )
    top = np.quantile(flat, 0.8)
    least = flat.min()
    return least + (top - least + 1e-12) * np.linspace(0.0, 1.0, LEVELS + 1) ** 1.5


def _arrows(axes: Any, found: Any) -> None:
    norms = np.linalg.norm(found.arrows[:, 2:], axis=1)
    for (a, b, da, db), norm in zip(found.arrows, norms):
        if not np.isfinite(norm) or norm == 0.0:
            continue
        tip = (a + 0.07 * da / norm, b + 0.07 * db / norm)
        axes.annotate(
            "", xy=_at(axes, found, tip), xytext=_at(axes, found, (a, b)),
            arrowprops={"arrowstyle": "-|>", "color": "white", "lw": 1.2},
        )  # fmt: skip


def _at(axes: Any, found: Any, fractions: Any) -> tuple[float, float]:
    """Data coordinates of a place given by its fractions of the ranges."""
    from hypergrad.space import Float

    place = []
    for name, q in zip(found.names, fractions):
        ends = found.space[name]
        float_ = Float(ends["min_value"], ends["max_value"], sampling=ends["sampling"])
        place.append(float(float_.sample(np.clip(q, 0.0, 1.0))))
    return place[0], place[1]


def _path(axes: Any, names: Sequence[str], result: Any) -> None:
    kinds = np.asarray(result.history["kind"])
    points = np.array([[np.mean(v) for v in result.history[n]] for n in names])
    kept = np.isin(kinds, ["step"])
    aside = ~kept
    axes.plot(*points[:, aside], "o", color=GREY, ms=3, alpha=0.8)
    axes.plot(*points[:, kept], ".-", color=ORANGE, lw=1.2, ms=6)
    axes.plot(*points[:, :1], "s", color=GREEN, ms=8, mec="white", label="start")
    tuned = [[np.mean(result.values[n])] for n in names]
    axes.plot(*tuned, "*", color=ORANGE, ms=15, mec="white", label="tuned")
    axes.legend(fontsize=8, loc="best")
