"""Watches the gap between validation and training loss."""

import math
import warnings
from typing import Any

from hypergrad.arguments import checked_whole
from hypergrad.callbacks.callback import Callback, Logs
from hypergrad.callbacks.columns import rows_of

ACTIONS = ("stop", "raise", "warn")


class OverfittingError(RuntimeError):
    """The validation loss is too far above the training loss, or the test loss."""


class OverfittingGuard(Callback):
    """Acts where the tuned training fits its data much better than the validation data.

    The gap is E less the training loss (mean over the last tenth of the steps,
    penalties included) of the best run so far. Where it exceeds ``max_gap`` after
    ``patience`` runs in turn, the guard acts, once.

    Args:
        patience: int ≥ 1, runs.
        max_gap: float, in units of the loss.
        action: "stop" ends the tune, "raise" raises `OverfittingError`, "warn" warns.

    Example:
        >>> guard = hg.callbacks.OverfittingGuard(patience=5, max_gap=0.3)
        >>> hg.tune(problem, callbacks=[guard])
    """

    def __init__(self, patience: int = 5, max_gap: float = 0.5, action: str = "stop"):
        checked_whole("patience", patience)
        if not (isinstance(max_gap, (int, float)) and math.isfinite(max_gap)):
            raise ValueError(f"`max_gap` must be a number. Received: {max_gap!r}.")
        if action not in ACTIONS:
            raise ValueError(
                f"`action` must be one of {ACTIONS}. Received: {action!r}."
            )
        self.patience = patience
        self.max_gap = max_gap
        self.action = action
        self._reset()

    def _reset(self) -> None:
        self.gap = math.nan
        self._best = math.inf
        self._waited = 0
        self._acted = False

    def on_tune_begin(self, logs: Logs = None) -> None:
        self._reset()
        for known in rows_of((logs or {}).get("history", {})):
            self._count(known)

    def on_run_end(self, row: int, logs: Logs = None) -> None:
        assert logs is not None
        self._count(logs)
        if self._waited < self.patience or self._acted:
            return
        self._acted = True
        text = (
            f"overfitting: the validation loss is {self.gap:.3g} above the training "
            f"loss, for {self._waited} runs more than max_gap={self.max_gap:g}"
        )
        if self.action == "raise":
            raise OverfittingError(f"{text}.")
        if self.action == "warn":
            warnings.warn(f"{text}.", stacklevel=2)
        else:
            self.stop(text)

    def _count(self, logs: Any) -> None:
        if logs["comparable"] and logs["val_loss"] < self._best:
            self._best = logs["val_loss"]
            self.gap = logs["val_loss"] - logs["train_loss"]
        self._waited = self._waited + 1 if self.gap > self.max_gap else 0
