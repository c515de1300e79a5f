"""Stops a tune that no longer gets better."""

import math

from hypergrad.callbacks.callback import Callback, Logs


class EarlyStopping(Callback):
    """Ends a tune after ``patience`` outer steps in a row without a better E.

    Args:
        patience: int ≥ 1.
        min_delta: float ≥ 0, by how much the best E must fall to count.

    Example:
        >>> hg.tune(problem, callbacks=[hg.callbacks.EarlyStopping(patience=5)])
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0):
        whole = isinstance(patience, int) and not isinstance(patience, bool)
        if not whole or patience < 1:
            raise ValueError(
                f"`patience` must be an integer of at least 1. Received: {patience!r}."
            )
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

    def on_outer_step_begin(self, step: int, logs: Logs = None) -> None:
        # What the screening found counts, and so does what a resumed tune had found.
        if logs and self._best == math.inf and math.isfinite(logs["best"]):
            self._best = logs["best"]

    def on_outer_step_end(self, step: int, logs: Logs = None) -> None:
        assert logs is not None
        if logs["best"] < self._best - self.min_delta:
            self._best = logs["best"]
            self._waited = 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            self.stop(f"no better E in {self.patience} outer steps")
