"""Which trial comes next, and what became of those before."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad.tuner.distributions import distribution, parameter_names
from hypergrad.tuner.errors import NothingWorked
from hypergrad.tuner.hyperparameters import HyperParameters, own_hyperparameters
from hypergrad.tuner.objectives import Objective
from hypergrad.tuner.storage import quiet
from hypergrad.tuner.store import DEATHS, Store, is_broken_off
from hypergrad.tuner.trial import Metrics, Trial, TrialStatus, best_first

POLL = 0.5
"""Seconds between looks at the trials of other workers."""

SPACE, SEED = "space", "seed"
ENQUEUED = "enqueued"


class Oracle:
    """The trials of a study; one object in each of its workers.

    Args:
        store: the rows they share.
        objective: `Objective`.
        sampler: of `hypergrad.tuner.samplers`, or a function, seed → Optuna sampler.
        max_trials: int, or None: until the sampler has no more.
        hyperparameters: `HyperParameters` that are known before, or None.
        tune_new_entries, allow_new_entries: what becomes of what a model asks for and
            is not among them.
        seed: int.
        max_retries_per_trial, max_consecutive_failed_trials: int.
    """

    def __init__(
        self,
        store: Store,
        objective: Objective,
        sampler: Any,
        max_trials: int | None,
        hyperparameters: HyperParameters | None,
        tune_new_entries: bool,
        allow_new_entries: bool,
        seed: int,
        max_retries_per_trial: int,
        max_consecutive_failed_trials: int,
    ):
        self.store = store
        self.objective = objective
        self.sampler = sampler
        self.max_trials = max_trials
        self.hyperparameters = hyperparameters or HyperParameters()
        self.tune_new_entries = tune_new_entries
        self.allow_new_entries = allow_new_entries
        self.seed = seed
        self.max_retries_per_trial = max_retries_per_trial
        self.max_consecutive_failed_trials = max_consecutive_failed_trials
        self._exhausted: list[str] | None = None  # the entries when it was

    # The space

    def get_space(self) -> HyperParameters:
        """A copy of the search space, with its defaults as values."""
        return self.hyperparameters.copy()

    def update_space(self, hyperparameters: HyperParameters) -> None:
        """Adds what a model asked for and was not known.

        Raises:
            RuntimeError: there is such an entry, and ``allow_new_entries=False``.
        """
        hyperparameters = own_hyperparameters(hyperparameters)
        mine = [(e.name, e.conditions) for e in self.hyperparameters.space]
        new = [e for e in hyperparameters.space if (e.name, e.conditions) not in mine]
        if new and not self.allow_new_entries:
            raise RuntimeError(
                "`allow_new_entries` is False, but the model asks for entries that "
                f"`hyperparameters` does not have: {new}. Add them, or allow new ones."
            )
        if new and self.tune_new_entries:
            self.hyperparameters.merge(new)

    def share_space(self) -> None:
        """Takes the entries that other workers found, and keeps one's own for them."""
        stored = self.store.attributes.get(SPACE)
        if stored is not None and self.tune_new_entries:
            known = HyperParameters.from_config(stored)
            mine = [(e.name, e.conditions) for e in self.hyperparameters.space]
            self.hyperparameters.merge(
                [e for e in known.space if (e.name, e.conditions) not in mine]
            )
        self.store.keep(SPACE, self.hyperparameters.get_config())

    def _entries(self) -> list[str]:
        return [repr((e, e.conditions)) for e in self.hyperparameters.space]

    # Trials

    def create_trial(self) -> Trial | None:
        """The next trial for this worker, or None at the end of the search.

        It waits while other workers are at the last trials: one of them may die.
        """
        while True:
            self.store.recover()
            self.share_space()
            known = self.store.chains()
            states = [chain[-1].state.name for chain in known]
            full = self.max_trials is not None and len(known) >= self.max_trials
            exhausted = self._exhausted == self._entries()  # it may grow
            if "WAITING" not in states and (full or exhausted):
                if "RUNNING" not in states:
                    return None
                time.sleep(POLL)
                continue
            trial = self._begin()
            if trial is not None:
                return trial

    def _begin(self) -> Trial | None:
        row = self.store.ask(given({}))
        known = self.store.chains()
        number = next(
            (i for i, chain in enumerate(known) if chain[-1].number == row.number), None
        )
        late = self.max_trials is not None and (number or 0) >= self.max_trials
        if number is None or (late and len(known[number]) == 1):
            self.store.leave_out(row)  # another worker was first
            return None
        attributes = row.user_attrs
        values = attributes.get("start")
        if values is None:
            index = sum(not c[0].user_attrs.get(ENQUEUED) for c in known[:number])
            values = self._values(row, index)
            if values is None:
                self._exhausted = self._entries()
                self.store.leave_out(row)
                return None
        seed = attributes.get("seed", _seed_of(self.seed, number))
        self.store.annotate(row, start=values, seed=seed)
        hp = self.get_space()
        hp.values = dict(values)
        return Trial(
            hyperparameters=hp,
            trial_id=_id_of(number),
            start=dict(values),
            seed=seed,
            row=row._trial_id,
            failures=attributes.get("failures", 0),
            message=attributes.get("message"),
        )

    def _values(self, row: Any, index: int) -> dict[str, Any] | None:
        """name → value of the active entries, told to Optuna as well."""
        space = self.hyperparameters
        if hasattr(self.sampler, "values"):
            proposed = self.sampler.values(space, index)
            if proposed is None:
                return None
            sampler = given(
                {
                    name: proposed[entry.name]
                    for entry, name in zip(space.space, parameter_names(space.space))
                    if entry.name in proposed
                }
            )
        else:
            with quiet(self.store.optuna):
                sampler = self.sampler(_seed_of(self.seed, index))
        return self._suggested(row, sampler)

    def _suggested(self, row: Any, sampler: Any) -> dict[str, Any]:
        hp = self.get_space()
        hp.values = {}
        self.store.study.sampler = sampler
        with quiet(self.store.optuna):
            trial = self.store.optuna.trial.Trial(self.store.study, row._trial_id)
            for entry, name in zip(hp.space, parameter_names(hp.space)):
                if not hp.is_active(entry):
                    continue
                kind = distribution(entry)
                value = entry.default if kind is None else trial._suggest(name, kind)
                hp.values[entry.name] = value
        return hp.values

    def enqueue(self, values: Mapping[str, Any]) -> None:
        """Has these values tried next; what is not named is proposed as usual."""
        space = self.hyperparameters
        known = {entry.name for entry in space.space}
        for name in values:
            if name not in known:
                raise ValueError(
                    f"`values` must name hyperparameters of the space: "
                    f"{', '.join(sorted(known)) or 'none yet'}. Received: {name!r}."
                )
        fixed = {}
        for entry, name in zip(space.space, parameter_names(space.space)):
            if entry.name not in values:
                continue
            kind, value = distribution(entry), values[entry.name]
            if kind is None:
                continue
            try:
                inside = kind._contains(kind.to_internal_repr(value))
            except (TypeError, ValueError):
                inside = False
            if not inside:
                raise ValueError(
                    f"`values[{entry.name!r}]` must be a value of {entry}. Received: "
                    f"{value!r}."
                )
            fixed[name] = value
        with quiet(self.store.optuna):
            self.store.study.enqueue_trial(fixed, user_attrs={ENQUEUED: True})

    def end_trial(self, trial: Trial) -> None:
        """Keeps what became of a trial; an invalid one may be tried again.

        Raises:
            NothingWorked: as many trials as are allowed failed one after the other.
        """
        if trial.status == TrialStatus.COMPLETED and not math.isfinite(
            math.nan if trial.score is None else trial.score
        ):
            trial.status = TrialStatus.INVALID
            trial.message = (
                f"The objective {self.objective.name!r} is {trial.score}: training "
                "diverged, or the metric is not defined here."
            )
        if trial.status == TrialStatus.INVALID:
            trial.failures += 1
            if trial.failures > self.max_retries_per_trial:
                trial.status = TrialStatus.FAILED
        self.share_space()  # before another worker sees that nobody is at it
        row = self._row(trial)
        self.store.annotate(
            row,
            hyperparameters=trial.hyperparameters.get_config(),
            metrics=_json(trial.metrics.get_config()),
            best_step=trial.best_step,
            message=trial.message,
            failures=trial.failures,
            info=_json(trial.info),
            state=None,
        )
        if trial.status == TrialStatus.COMPLETED:
            self.store.complete(row, float(trial.score))  # type: ignore[arg-type]
        elif trial.status == TrialStatus.PRUNED:
            self.store.prune(row)
        elif trial.status == TrialStatus.INVALID:
            self.store.retry(row)
        else:
            self.store.fail(row)
            self._check_failures()

    def _row(self, trial: Trial) -> Any:
        return self.store.storage.get_trial(trial.row)

    def _check_failures(self) -> None:
        ended = [
            (chain[-1].datetime_complete, trial)
            for chain, trial in zip(self.store.chains(), self.trials.values())
            if trial.status in (TrialStatus.FAILED, TrialStatus.COMPLETED)
            and chain[-1].datetime_complete is not None
        ]
        ended.sort(key=lambda pair: pair[0])
        last = [trial for _, trial in ended[-self.max_consecutive_failed_trials :]]
        if len(last) < self.max_consecutive_failed_trials or any(
            trial.status != TrialStatus.FAILED for trial in last
        ):
            return
        raise NothingWorked(
            f"The search stops: {len(last)} trials failed one after the other, as many "
            "as `max_consecutive_failed_trials` allows. The last one, "
            f"{last[-1].trial_id}:\n{last[-1].message}"
        )

    @property
    def trials(self) -> dict[str, Trial]:
        """trial_id → trial, of all workers, in the order they began."""
        return {
            trial.trial_id: trial
            for trial in (
                self._seen(i, chain) for i, chain in enumerate(self.store.chains())
            )
        }

    def get_trial(self, trial_id: str) -> Trial:
        """The trial of that id.

        Raises:
            KeyError: there is none.
        """
        known = self.trials
        if trial_id not in known:
            raise KeyError(
                f"There is no trial {trial_id!r}. Known: {', '.join(known) or 'none'}."
            )
        return known[trial_id]

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best completed trials with a finite score, the best one first."""
        return best_first(list(self.trials.values()), self.objective)[:num_trials]

    def remaining_trials(self) -> int | None:
        """How many may still begin; None where nothing limits them."""
        if self.max_trials is None:
            return None
        return max(0, self.max_trials - len(self.store.chains()))

    def _seen(self, number: int, chain: list[Any]) -> Trial:
        """A trial as its rows tell it."""
        last = chain[-1]
        kept = last.user_attrs
        config = kept.get("hyperparameters")
        start = dict(kept.get("start", {}))
        if config is None:
            hp = self.get_space()
            hp.values = dict(start)
        else:
            hp = HyperParameters.from_config(config)
        message = kept.get("message")
        status = {
            "COMPLETE": TrialStatus.COMPLETED,
            "PRUNED": TrialStatus.PRUNED,
            "FAIL": TrialStatus.FAILED,
        }.get(last.state.name, TrialStatus.RUNNING)
        if status == TrialStatus.FAILED and is_broken_off(last):
            status = TrialStatus.RUNNING
        elif status == TrialStatus.FAILED and message is None:
            message = f"Its worker died, {kept.get(DEATHS, 0) + 1} times."
        return Trial(
            hyperparameters=hp,
            trial_id=_id_of(number),
            status=status,
            score=last.value if last.state.name == "COMPLETE" else None,
            metrics=Metrics(kept.get("metrics", {})),
            best_step=kept.get("best_step", 0),
            message=message,
            start=start,
            seed=kept.get("seed", _seed_of(self.seed, number)),
            info=dict(kept.get("info", {})),
            row=last._trial_id,
            failures=kept.get("failures", 0),
        )


def given(values: Mapping[str, Any]) -> Any:
    """A sampler that proposes these values."""
    from hypergrad.tuner.given import Given

    return Given(values)


def _id_of(number: int) -> str:
    return f"{number:04d}"


def _seed_of(seed: int, number: int) -> int:
    """A seed for trial ``number``, other than those of its neighbours."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0] >> 1)


def _json(value: Any) -> Any:
    """Numbers and lists as JSON and a database hold them: NaN is None."""
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(v) for v in value]
    if isinstance(value, np.ndarray):
        return _json(value.tolist())
    if isinstance(value, np.generic):
        return _json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
