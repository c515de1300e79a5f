"""What all problems of the comparison have in common."""

import abc

from benchopt import BaseDataset

from benchmark_utils.data import MissingData
from benchmark_utils.task import Task

_TASKS: dict[str, Task] = {}
"""The last task of this process: what was compiled for it serves all methods."""


class AbstractTask(BaseDataset):
    """A problem. A subclass, ``Dataset``, makes it in ``task``."""

    def get_data(self) -> dict:
        if self.name not in _TASKS:
            try:
                task = self.task()
            except MissingData as error:
                return {"task": None, "missing": str(error)}
            _TASKS.clear()
            _TASKS[self.name] = task
        return {"task": _TASKS[self.name]}

    @abc.abstractmethod
    def task(self) -> Task:
        """The problem.

        Raises:
            MissingData: the data are not here; the message says how to get them.
        """
