"""The rows of a study in its database, shared by all of its workers.

A trial is a row of Optuna's. A worker that dies leaves a running row: another one marks
it as failed (only one process can) and adds a row that goes on with the trial. Where a
worker dies between the two, the row is missing and the next one adds it; should two
workers add it, the one with the lower number counts. So a trial is a chain of rows, of
which the first, its root, gives it its number, and the last its result. No lock is
held, and none can be left behind.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypergrad.tuner.storage import optuna_or_error, quiet
from hypergrad.tuner.workers import is_dead, this_worker

FORMAT = 1
"""Of what is kept in attributes; a reader refuses a newer one."""

MOST_DEATHS = 10
"""Workers that may die over one trial before it counts as failed."""

AFTER = "goes on after"
SURPLUS = "surplus"
OUTCOME = "outcome"
WORKER = "worker"
DEATHS = "deaths"


class Store:
    """The rows of one study.

    Args:
        storage: of `open_storage`.
        name: of the study.
        direction: "min" or "max".
    """

    def __init__(self, storage: Any, name: str, direction: str):
        self.optuna = optuna_or_error()
        self.storage = storage
        weakref.finalize(self, storage.engine.dispose)  # no open connections are left
        self.name = name
        way = "maximize" if direction == "max" else "minimize"
        with quiet(self.optuna):
            try:
                self.study = self.optuna.create_study(
                    storage=storage, study_name=name, load_if_exists=True, direction=way
                )
            except ValueError as error:  # another direction
                raise ValueError(
                    f"The study {name!r} of this database cannot be gone on with: "
                    f"{error}"
                ) from None
        self.states = self.optuna.trial.TrialState
        version = self.attributes.get("format", FORMAT)
        if version > FORMAT:
            raise ValueError(
                f"The study {name!r} has format {version}, expected at most {FORMAT}. "
                "It was written by a newer hypergrad: upgrade to go on with it."
            )
        self.keep("format", FORMAT)

    # The study

    @property
    def attributes(self) -> dict[str, Any]:
        return dict(self.study.user_attrs)

    def keep(self, key: str, value: Any) -> None:
        """Keeps something of the whole study, as JSON."""
        if self.attributes.get(key) != value:
            self.study.set_user_attr(key, value)

    # Rows

    def rows(self) -> list[Any]:
        """All rows but surplus ones, in the order of their numbers."""
        rows = self.study.get_trials(deepcopy=False)
        return [row for row in rows if not row.user_attrs.get(SURPLUS)]

    def chains(self) -> list[list[Any]]:
        """The rows of each trial, its root first."""
        return chains(self.rows())

    def ask(self, sampler: Any) -> Any:
        """A running row of this worker's own: one that waits, or a new one."""
        self.study.sampler = sampler
        with quiet(self.optuna):
            row = self.study.ask()
        row.set_user_attr(WORKER, this_worker())
        return row

    def annotate(self, row: Any, **kept: Any) -> None:
        """Keeps something of a row, as JSON."""
        for key, value in kept.items():
            self.storage.set_trial_user_attr(row._trial_id, key, value)

    def frozen(self, row: Any) -> Any:
        """A row with what other workers know of it."""
        return self.storage.get_trial(row._trial_id)

    def complete(self, row: Any, score: float) -> None:
        self._end(row, self.states.COMPLETE, "COMPLETED", [score])

    def prune(self, row: Any) -> None:
        self._end(row, self.states.PRUNED, "PRUNED", None)

    def fail(self, row: Any) -> None:
        self._end(row, self.states.FAIL, "FAILED", None)

    def leave_out(self, row: Any) -> None:
        """A row that no trial needs: it came too late."""
        self.annotate(row, **{SURPLUS: True})
        self.fail(row)

    def _end(self, row: Any, state: Any, outcome: str, values: Any) -> None:
        self.annotate(row, **{OUTCOME: outcome})
        try:
            self.storage.set_trial_state_values(row._trial_id, state, values)
        except self.optuna.exceptions.UpdateFinishedTrialError:
            pass  # another worker took this one for dead, and goes on with the trial

    def release(self, row: Any) -> None:
        """Gives up a row that this worker will not end; the next one goes on."""
        self._end(row, self.states.FAIL, "RELEASED", None)
        self.recover()

    def retry(self, row: Any) -> None:
        """Fails a row whose trial is tried again, and adds the row that does it."""
        self._end(row, self.states.FAIL, "INVALID", None)
        self.recover()

    def recover(self) -> None:
        """Fails the running rows of dead workers, and sees that all are gone on with.

        A row belongs to a dead worker if its process is known to have ended, or if it
        has had no heartbeat for a while.
        """
        with quiet(self.optuna):
            self.optuna.storages.fail_stale_trials(self.study)
        for row in self.rows():
            if row.state == self.states.RUNNING and self._worker_is_dead(row):
                try:
                    self.storage.set_trial_state_values(row._trial_id, self.states.FAIL)
                except self.optuna.exceptions.UpdateFinishedTrialError:
                    pass  # another worker was first
        for chain in self.chains():
            if is_broken_off(chain[-1]):
                self._go_on_after(chain[-1])

    def _go_on_after(self, row: Any) -> None:
        """Adds the row that goes on with the trial after one that failed."""
        kept = {k: v for k, v in row.user_attrs.items() if k not in (OUTCOME, WORKER)}
        died = row.user_attrs.get(OUTCOME) not in ("INVALID", "RELEASED")
        self.study.add_trial(
            self.optuna.create_trial(
                state=self.states.WAITING,
                params=row.params,
                distributions=row.distributions,
                user_attrs=kept
                | {AFTER: row.number, DEATHS: kept.get(DEATHS, 0) + died},
                system_attrs=row.system_attrs,
                intermediate_values=row.intermediate_values,
            )
        )

    def _worker_is_dead(self, row: Any) -> bool:
        worker = row.user_attrs.get(WORKER)
        return worker is not None and is_dead(worker)

    # Signs of life

    @contextmanager
    def alive(self, row: Any) -> Iterator[None]:
        """Records heartbeats of a row, from another thread."""
        beat: Callable[[int], None] = self.storage.record_heartbeat
        interval = self.storage.get_heartbeat_interval()
        stop = threading.Event()

        def beats() -> None:
            while True:
                try:
                    beat(row._trial_id)
                except Exception:  # a database that is away for a moment
                    pass
                if stop.wait(interval):
                    return

        thread = threading.Thread(target=beats, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def is_broken_off(row: Any) -> bool:
    """Whether a row failed and its trial is to be gone on with."""
    if row.state.name != "FAIL" or row.user_attrs.get(OUTCOME) == "FAILED":
        return False
    return row.user_attrs.get(DEATHS, 0) < MOST_DEATHS


def chains(rows: list[Any]) -> list[list[Any]]:
    """The rows of each trial: its root, and what went on after it, one at a time."""
    following: dict[int, Any] = {}
    for row in rows:  # in the order of their numbers: the first one counts
        after = row.user_attrs.get(AFTER)
        if after is not None:
            following.setdefault(after, row)
    found = []
    for row in rows:
        if row.user_attrs.get(AFTER) is not None:
            continue
        chain = [row]
        while chain[-1].number in following:
            chain.append(following[chain[-1].number])
        found.append(chain)
    return found
