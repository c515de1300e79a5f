"""What a callback is, in Keras' manner."""

from collections.abc import Mapping
from typing import Any

Logs = Mapping[str, Any] | None


class Callback:
    """Told what a tune or a search does; override what is of interest.

    ``logs`` is a dict: ``"val_loss"`` (E of the run that just ended), ``"train_loss"``
    (mean over the last tenth of its steps, penalties included), ``"best"``, ``"runs"``
    and ``"seconds"`` so far, ``"kind"``, and where a row of the history was added its
    ``"values"``; ``"draw"``, ``"num_steps"``: which samples were trained and how long,
    and whether that is ``"comparable"`` with the result. ``self.stop(reason)`` ends the
    tune after what is going on.

    Example:
        >>> class Print(hg.callbacks.Callback):
        ...     def on_outer_step_end(self, step, logs=None):
        ...         print(step, logs["val_loss"])
    """

    _stop: Any = None

    def set_stop(self, stop: Any) -> None:
        """The library says how to stop; called before anything else."""
        self._stop = stop

    def stop(self, reason: str) -> None:
        """Asks for the end; the best values so far are returned."""
        if self._stop is not None:
            self._stop(reason)

    def on_tune_begin(self, logs: Logs = None) -> None:
        """Before the first run; ``logs`` has what is planned (``"outer_steps"``).

        ``logs["history"]`` are the columns so far: not empty where a tune goes on.
        """

    def on_tune_end(self, logs: Logs = None) -> None:
        """After the last run."""

    def on_outer_step_begin(self, step: int, logs: Logs = None) -> None:
        """Before an update of the values, kept or not; counted from 0."""

    def on_outer_step_end(self, step: int, logs: Logs = None) -> None:
        """After it; ``logs["kept"]`` says whether the step was kept."""

    def on_run_end(self, row: int, logs: Logs = None) -> None:
        """After every run, those of the screening too; ``row`` of the history."""
