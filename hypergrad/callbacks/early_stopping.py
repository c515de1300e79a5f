"""Stops a tune that no longer gets better."""

import math

from hypergrad.arguments import checked_whole
from hypergrad.callbacks.callback import Callback, Logs
from hypergrad.callbacks.columns import rows_of


class EarlyStopping(Callback):
    """Ends a tune after ``patience`` outer steps in a row without a better E.

    Where outer steps are not judged on the terms of the result, in the short trainings
    of a growing horizon or with samples that are drawn anew, a step that was kept is a
    better E.

    Args:
        patience: int ≥ 1.
        min_delta: float ≥ 0, by how much the best E must fall to count.

    Example:
        >>> hg.tune(problem, callbacks=[hg.callbacks.EarlyStopping(patience=5)])
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0):
        checked_whole("patience", patience)
        if not min_delta >= 0:
            raise ValueError(
                f"`min_delta` must be at least 0. Received: {min_delta!r}."
            )
        self.patience = patience
        self.min_delta = min_delta
        self._best = math.inf
        self._waited = 0

    def on_tune_begin(self, logs: Logs = None) -> None:
        self._best = math.inf
        self._waited = 0
        best = math.inf
        # What an earlier process has waited counts: a resumed tune ends where it would
        # have ended.
        for run in rows_of((logs or {}).get("history", {})):
            stepped = run["kind"] in ("step", "rejected")
            if stepped:
                self._begin(best)
            best = run["best"] if math.isfinite(run["best"]) else best
            if stepped:
                self._end(best, run["kind"] == "step" and not run["comparable"])

    def on_outer_step_begin(self, step: int, logs: Logs = None) -> None:
        if logs:
            self._begin(logs["best"])

    def on_outer_step_end(self, step: int, logs: Logs = None) -> None:
        assert logs is not None
        self._end(logs["best"], logs["kept"] and not logs["comparable"])

    def _begin(self, best: float) -> None:
        # What the screening found counts.
        if self._best == math.inf and math.isfinite(best):
            self._best = best

    def _end(self, best: float, better: bool) -> None:
        if better or best < self._best - self.min_delta:
            self._best = min(self._best, best)
            self._waited = 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stop(f"no better E in {self.patience} outer steps")
