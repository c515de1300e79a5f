"""The progress of a tune on the terminal."""

import sys
from typing import Any

from hypergrad.callbacks.callback import Callback, Logs

WIDTH = 20


class ProgressBar(Callback):
    """A bar on a terminal, a line for each outer step elsewhere.

    Args:
        verbose: 1 or 2, a bar or lines; "auto": a bar where ``stream`` is a terminal.
        stream: text stream; None: standard output.

    Example:
        >>> hg.tune(problem, verbose=0, callbacks=[hg.callbacks.ProgressBar(2)])
    """

    def __init__(self, verbose: int | str = "auto", stream: Any = None):
        if verbose not in ("auto", 1, 2):
            raise ValueError(
                '`verbose` must be "auto", 1 (a bar) or 2 (a line for each outer step).'
                f" Received: {verbose!r}."
            )
        self.verbose = verbose
        self.stream = stream
        self._plan: dict[str, Any] = {}
        self._began = (0.0, 0.0)

    def on_tune_begin(self, logs: Logs = None) -> None:
        self._plan = dict(logs or {})
        self._began = (self._plan.get("runs", 0.0), self._plan.get("seconds", 0.0))

    def on_run_end(self, row: int, logs: Logs = None) -> None:
        assert logs is not None
        if self._is_bar():
            self._write("\r" + self._line(logs), "")
        elif logs["kind"] not in ("step", "rejected"):
            self._write(self._line(logs), "\n")

    def on_outer_step_end(self, step: int, logs: Logs = None) -> None:
        assert logs is not None
        if self._is_bar():
            self._write("\r" + self._line(logs, step), "")
        elif logs["kind"] in ("step", "rejected"):
            self._write(self._line(logs, step), "\n")

    def on_tune_end(self, logs: Logs = None) -> None:
        if self._is_bar():
            self._write("", "\n")

    def _line(self, logs: Any, step: int | None = None) -> str:
        """``step 3/20 ███░░░ E 0.2141  best 0.2141  22.5/40 runs  0:12 left``."""
        steps = self._plan.get("outer_steps")
        what = logs["kind"] if step is None else f"step {step + 1}"
        if step is not None and steps:
            what += f"/{steps}"
        budget = self._plan.get("budget")
        runs = f"{logs['runs']:g}" + (f"/{budget:g}" if budget else "") + " runs"
        done = self._fraction(logs, step)
        parts = [f"{what:<12}", f"E {logs['val_loss']:.4g}", f"best {logs['best']:.4g}"]
        parts.append(runs)
        if self._is_bar():
            full = round(WIDTH * done)
            parts.insert(1, "█" * full + "░" * (WIDTH - full))
        parts.append(self._left(logs, done))
        return "  ".join(parts).ljust(78)[:100].rstrip().ljust(90 * self._is_bar())

    def _fraction(self, logs: Any, step: int | None) -> float:
        budget, steps = self._plan.get("budget"), self._plan.get("outer_steps")
        parts = []
        if budget:
            parts.append(logs["runs"] / budget)
        if steps and step is not None:
            parts.append((step + 1) / steps)
        return min(1.0, max(parts, default=0.0))

    def _left(self, logs: Any, done: float) -> str:
        spent = logs["seconds"] - self._began[1]
        if not 0.0 < done < 1.0 or spent <= 0.0:
            return f"{_clock(logs['seconds'])} so far"
        return f"{_clock(spent / done - spent)} left"

    def _is_bar(self) -> bool:
        if self.verbose != "auto":
            return self.verbose == 1
        stream = self.stream or sys.stdout
        return bool(getattr(stream, "isatty", lambda: False)())

    def _write(self, text: str, end: str) -> None:
        print(text, end=end, file=self.stream or sys.stdout, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{seconds:02d}"
    return f"{minutes}:{seconds:02d}"
