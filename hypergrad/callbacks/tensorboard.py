"""TensorBoard, without TensorFlow."""

from typing import Any

import numpy as np

from hypergrad.callbacks.callback import Callback, Logs
from hypergrad.callbacks.columns import MEASURES, numbers_of


class TensorBoard(Callback):
    """Writes losses, cost and values of each run for TensorBoard.

    Scalars ``tune/val_loss``, ``tune/train_loss``, ``tune/best``, ``tune/runs``,
    ``tune/seconds`` and ``values/<name>``, and a histogram for each array, by row of
    the history. A tune that goes on writes beside what is there.

    Args:
        log_dir: folder of the event files.

    Raises:
        ImportError: tensorboardX is not installed.

    Example:
        >>> hg.tune(problem, callbacks=[hg.callbacks.TensorBoard("logs")])
    """

    def __init__(self, log_dir: Any):
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "The TensorBoard callback writes with tensorboardX, which is not "
                "installed. Install it with `pip install tensorboardX`, or "
                '"keras-hypergrad[log]".'
            ) from error
        self.log_dir = str(log_dir)
        self._writer: Any = None

    def on_tune_begin(self, logs: Logs = None) -> None:
        from tensorboardX import SummaryWriter

        done = len((logs or {}).get("history", {}).get("val_loss", ()))
        self._writer = SummaryWriter(self.log_dir, purge_step=done or None)

    def on_run_end(self, row: int, logs: Logs = None) -> None:
        assert logs is not None
        for name in MEASURES:
            if np.isfinite(logs[name]):
                self._writer.add_scalar(f"tune/{name}", logs[name], row)
        for name, number in numbers_of(logs["values"]).items():
            self._writer.add_scalar(f"values/{name}", number, row)
        for name, value in logs["values"].items():
            if np.ndim(value):
                self._writer.add_histogram(f"values/{name}", np.asarray(value), row)
        self._writer.flush()

    def on_tune_end(self, logs: Logs = None) -> None:
        self._writer.close()
