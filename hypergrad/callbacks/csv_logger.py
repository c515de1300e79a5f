"""A table of all runs in a file that any program reads."""

import csv
from pathlib import Path
from typing import Any

from hypergrad.callbacks.callback import Callback, Logs
from hypergrad.callbacks.columns import CONDITIONS, MEASURES, numbers_of, rows_of


class CSVLogger(Callback):
    """Writes a line for each run: its cost, losses, kind and values.

    Columns: ``row``, ``kind``, ``draw``, ``num_steps``, ``val_loss``, ``train_loss``,
    ``best``, ``runs``, ``seconds``, then the values; of an array the smallest, the mean
    and the largest.
    The file is written anew when a tune begins; one that goes on from its ``directory``
    begins with the lines of the runs before.

    Args:
        filename: path of the file; its folder is made.
        separator: str, between the columns.

    Example:
        >>> hg.tune(problem, callbacks=[hg.callbacks.CSVLogger("tune.csv")])
    """

    def __init__(self, filename: Any, separator: str = ","):
        self.filename = Path(filename)
        self.separator = separator
        self._columns: list[str] | None = None

    def on_tune_begin(self, logs: Logs = None) -> None:
        self.filename.parent.mkdir(parents=True, exist_ok=True)
        self.filename.write_text("", "utf-8")
        self._columns = None
        for row, known in enumerate(rows_of((logs or {}).get("history", {}))):
            self._write(row, known)

    def on_run_end(self, row: int, logs: Logs = None) -> None:
        assert logs is not None
        self._write(row, logs)

    def _write(self, row: int, logs: Any) -> None:
        numbers = numbers_of(logs["values"])
        line = {"row": row, "kind": logs["kind"]}
        line |= {name: logs[name] for name in CONDITIONS}
        line |= {name: repr(float(logs[name])) for name in MEASURES}
        line |= {name: repr(value) for name, value in numbers.items()}
        with self.filename.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if self._columns is None:
                self._columns = list(line)
                writer.writerow(self._columns)
            writer.writerow([line[name] for name in self._columns])
