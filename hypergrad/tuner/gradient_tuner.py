"""A search that descends what has a gradient, and searches the rest."""

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hypergrad._tune import tune
from hypergrad.callbacks.callback import Callback, Logs
from hypergrad.outer import Budget
from hypergrad.outer.bayesian import BayesianScreening, Known
from hypergrad.outer.final_training import FinalTraining
from hypergrad.outer.study import INTERRUPTED
from hypergrad.tuner.descent_options import descent_options
from hypergrad.tuner.distributions import parameter_names
from hypergrad.tuner.hypermodel import trains_itself
from hypergrad.tuner.hyperparameters import Float, HyperParameters
from hypergrad.tuner.measure import Measured, measure
from hypergrad.tuner.project import trial_folder
from hypergrad.tuner.pruning import BehindTheBest
from hypergrad.tuner.reach import Reach, reach
from hypergrad.tuner.scoring import keep_build_config, seeded_execution
from hypergrad.tuner.states import packed, unpack
from hypergrad.tuner.storage import optuna_or_error
from hypergrad.tuner.store import Store
from hypergrad.tuner.trial import Trial, TrialStatus
from hypergrad.tuner.tuner import Tuner

MOST_KNOWN = 100
"""Runs of earlier descents that a screening is told."""

RUNS = 12
"""Of the descent of a trial, by default."""


class GradientTuner(Tuner):
    """Searches whole numbers and choices, and descends real ones, in one search.

    Which is which is found, not declared: the model is built at several values of each
    ``hp.Float``, and what differs between the models decides (`search_space_summary`
    shows it). A trial takes choices from the sampler, starts from the tuned numbers of
    the best trial so far, tunes them by `hypergrad.tune` on the validation loss, and is
    scored by the objective along the training that was tuned, gone through once more
    (another one by ``fit``, where the descent does not know the objective, or callbacks
    would change it). Where numbers inside the loss are tuned, ``val_loss`` is the loss
    with these at their defaults.

    With a ``fit`` or ``run_trial`` of one's own nothing is descended, since what it
    trains is not known; the summary says so.

    Args:
        hypermodel, objective, max_trials, …: as of `Tuner`. ``sampler``: of choices
            and first values; None: TPE.
        budget: of the descent of each trial: number of runs, or `Budget`. None: 12
            runs. The training that is scored comes on top.
        max_runs: number of runs of all trials together, those that are scored included;
            the search ends when they are spent. None: no limit.
        tune_options: dict, further keywords of `hypergrad.tune`: ``method``,
            ``optimizer``, ``screening``, ``average``, ``folds``, ….
        pruner: Optuna pruner that is told the best E after each run, or None.
            "default": `hypergrad.tuner.pruning.BehindTheBest`.

    Example:
        >>> tuner = hg.GradientTuner(build_model, "val_accuracy", max_trials=8)
        >>> tuner.search(x, y, epochs=5, validation_data=(x_val, y_val))
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        *args: Any,
        budget: Any = None,
        max_runs: float | None = None,
        tune_options: Mapping[str, Any] | None = None,
        pruner: Any = "default",
        sampler: Any = None,
        **options: Any,
    ):
        self.budget = Budget.of(RUNS if budget is None else budget)
        self.max_runs = max_runs
        self.tune_options = dict(tune_options or {})
        for name in ("hyperparameters", "bind", "directory", "budget", "seed"):
            if name in self.tune_options:
                raise ValueError(
                    f"`tune_options` must be keywords of hg.tune that the tuner does "
                    f"not set itself. Received: {name!r}."
                )
        self._reaches: dict[str, Reach] = {}
        super().__init__(
            *(hypermodel, objective, max_trials, *args),
            sampler=self._sampler if sampler is None else sampler,
            **options,
        )
        optuna = optuna_or_error()
        if isinstance(pruner, str) and pruner == "default":
            pruner = BehindTheBest()
        self.oracle.store.study.pruner = pruner or optuna.pruners.NopPruner()

    # What is descended

    @property
    def why_nothing_is_descended(self) -> str | None:
        """The reason why this search has no gradient at all; None where it may."""
        if type(self).run_trial is not GradientTuner.run_trial:
            return "`run_trial` is overridden: what it trains is not known"
        if self.hypermodel is None or trains_itself(self.hypermodel):
            return "the model has a `fit` of its own: what it trains is not known"
        return None

    def reach(self, hp: HyperParameters) -> Reach:
        """Which hyperparameters are descended at the choices of ``hp``, and why not."""
        why = self.why_nothing_is_descended
        if why is not None:
            return Reach({}, {e.name: why for e in hp.space if hp.is_active(e)})
        chosen = {
            entry.name: hp.values[entry.name]
            for entry in hp.space
            if hp.is_active(entry) and not isinstance(entry, Float)
        }
        key = repr((sorted(chosen.items()), hp.space))
        if key not in self._reaches:
            self._reaches[key] = reach(self._build, hp)
        return self._reaches[key]

    def search_space_summary(self, extended: bool = False) -> None:
        """Prints the search space, and what of it is descended at its defaults."""
        super().search_space_summary(extended)
        hp = self.oracle.get_space()
        found = self.reach(hp)
        print("\nDescended, by the gradient of the validation loss:")
        for name, paths in found.descended.items():
            for path, formula in paths.items():
                print(f"  {name}: {path} = {formula}")
        if not found.descended:
            print("  nothing")
        print("Searched:")
        for name, why in found.searched.items():
            print(f"  {name}: {why}")

    # A trial

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        found = self.reach(trial.hyperparameters)
        if found.descended:
            result = self._descend(trial, found, args, kwargs)
            self._take_over(trial, result, time.monotonic() - began)
            if trial.status == TrialStatus.PRUNED:
                return None
            if self._can_be_gone_through(result, found, kwargs):
                first = self._gone_through(trial, result, kwargs)
                others = range(1, self.executions_per_trial)
                rest = [self._execute(trial, i, args, dict(kwargs)) for i in others]
                return [first, *rest]
        return super().run_trial(trial, *args, **kwargs)

    def _can_be_gone_through(
        self, result: Any, found: Reach, kwargs: Mapping[str, Any]
    ) -> bool:
        """Whether the best run of a descent can be scored instead of another training.

        Not where somebody looks at single batches, where the objective is of the
        training data, or where Keras' ``val_loss`` has penalties that E has not.
        """
        problem = result.origin.problem
        if problem.average > 1 or not result.status:
            return False
        watched = (type(self).on_batch_begin, type(self).on_batch_end)
        if watched != (Tuner.on_batch_begin, Tuner.on_batch_end):
            return False
        known = {f"val_{name}" for name in result.metrics}
        if found.of_the_loss or not problem.keras.model.losses:
            known.add("val_loss")
        if not {part.name for part in self.objective.parts} <= known:
            return False
        try:
            FinalTraining(callbacks=tuple(kwargs.get("callbacks") or ())).check(problem)
        except ValueError:
            return False
        return True

    def _gone_through(
        self, trial: Trial, result: Any, kwargs: Mapping[str, Any]
    ) -> keras.callbacks.History:
        """The training that the descent ended with, once more, as ``fit`` tells of it.

        The same weights, batches and noise: what is scored is what was tuned.
        """
        history = keras.callbacks.History()
        callbacks = self._callbacks(trial, 0, kwargs.get("callbacks"))
        problem = result.origin.problem
        final = FinalTraining(callbacks=(*callbacks, history))
        final.run(problem.sample(0), problem.values(result.values))
        keep_build_config(history.model, trial_folder(self._project, trial.trial_id))
        return history

    def wants_more(self) -> bool:
        return self.remaining_runs >= 1.0 + self.executions_per_trial

    @property
    def remaining_runs(self) -> float:
        """What is left of ``max_runs``, by what trials have kept so far."""
        if self.max_runs is None:
            return math.inf
        spent = 0.0
        for trial in self.oracle.trials.values():
            spent += trial.info.get("descent", {}).get("runs", 0.0)
            scored = trial.status == TrialStatus.COMPLETED
            spent += self.executions_per_trial * scored
        return self.max_runs - spent

    def _budget(self) -> Budget:
        """Of the next descent; its scored training is put by."""
        left = self.remaining_runs - self.executions_per_trial
        if not math.isfinite(left):
            return self.budget
        runs = left if self.budget.runs is None else min(left, self.budget.runs)
        return dataclasses.replace(self.budget, runs=runs)

    def _descend(self, trial: Trial, found: Reach, args: tuple, kwargs: dict) -> Any:
        options = descent_options(args, kwargs) | self.tune_options
        folder = trial_folder(self._project, trial.trial_id) / "descent"
        kept = self.oracle.store.storage.get_trial(trial.row).user_attrs.get("state")
        if kept:
            unpack(kept, folder)
        known = self._known(trial, tuple(found.descended))
        options.setdefault("screening", BayesianScreening(known=known))
        report = Report(self.oracle.store, trial, folder if self._is_shared else None)
        options["callbacks"] = [*options.get("callbacks", ()), report]
        keras.backend.clear_session()
        here = self._measured(trial.hyperparameters, found)
        with seeded_execution(trial, 0):
            model = self._build(here)
        trial.hyperparameters.merge(here, overwrite=False)  # what the model asked for
        result = tune(
            model,
            **{"verbose": 0, **options},
            hyperparameters=found.ranges(trial.hyperparameters),
            bind=found.bind,
            budget=self._budget(),
            seed=trial.seed % 2**31,
            directory=folder,
        )
        if any(INTERRUPTED in note for note in result.notes):
            raise KeyboardInterrupt
        if report.hopeless:
            trial.status = TrialStatus.PRUNED
        return result

    def _known(self, trial: Trial, names: tuple[str, ...]) -> Known | None:
        """Runs of earlier descents of the same numbers, the same after a restart."""
        store = self.oracle.store
        row = store.storage.get_trial(trial.row)
        if "known" not in row.user_attrs:
            store.annotate(row, known=self._runs_before(names))
            row = store.storage.get_trial(trial.row)
        points, losses = row.user_attrs["known"]
        if not points:
            return None
        return Known(names, tuple(map(tuple, points)), tuple(losses))

    def _runs_before(self, names: tuple[str, ...]) -> tuple[list, list]:
        """(points, losses) of earlier descents, each scaled to the best one's end.

        Other choices shift E; where its numbers are good changes less.
        """
        rows: list[tuple[float, list[float]]] = []
        descents = [
            trial.info["descent"]
            for trial in self.oracle.trials.values()
            if trial.status in (TrialStatus.COMPLETED, TrialStatus.PRUNED)
            and set(trial.info.get("descent", {}).get("values", ())) == set(names)
        ]
        lowest = min((d["loss"] for d in descents if d["loss"]), default=1.0)
        for descent in descents:
            history = descent["history"]
            for i, loss in enumerate(history["val_loss"]):
                if loss is not None and descent["loss"]:
                    point = [history[name][i] for name in names]
                    rows.append((loss * lowest / descent["loss"], point))
        rows = sorted(rows)[:MOST_KNOWN]
        return [point for _, point in rows], [loss for loss, _ in rows]

    def _measured(self, hp: HyperParameters, found: Reach) -> HyperParameters:
        """The point with the numbers inside the loss at their defaults.

        E is the compiled loss, and must be the same in all trials: a label smoothing
        that is tuned acts on training only.
        """
        here = hp.copy()
        for entry in here.space:
            if entry.name in found.of_the_loss and here.is_active(entry):
                here.values[entry.name] = entry.default
        return here

    def _fit_model(
        self, hp: Any, model: Any, args: tuple, callbacks: list, kwargs: dict
    ) -> Any:
        found = self.reach(hp)
        named = [part.name for part in self.objective.parts]
        if found.of_the_loss and "val_loss" in named:
            reference = self._build(self._measured(hp, found))
            measure(model, reference)
            callbacks = [Measured(), *callbacks]
        return super()._fit_model(hp, model, args, callbacks, kwargs)

    def _take_over(self, trial: Trial, result: Any, seconds: float) -> None:
        """The tuned numbers, and how they were found."""
        tuned = {name: float(np.asarray(v)) for name, v in result.values.items()}
        trial.hyperparameters.values.update(tuned)
        trial.info["descent"] = {
            "values": tuned,
            "loss": result.loss,
            "runs": result.runs,
            "seconds": seconds,
            "history": {name: list(column) for name, column in result.history.items()},
        }
        if self.display.verbose:
            first = result.history["val_loss"][0]
            print(
                f"Descended {', '.join(tuned)}: validation loss {first:.5g} → "
                f"{result.loss:.5g} in {result.runs:.4g} runs"
            )

    # Where a trial begins

    def _sampler(self, seed: int) -> Any:
        """TPE for the choices; real numbers begin where the best trial ended."""
        samplers = optuna_or_error().samplers
        base = samplers.TPESampler(
            n_startup_trials=4,
            multivariate=True,
            group=True,
            constant_liar=True,
            seed=seed % 2**32,
        )
        known = self._tuned_before()
        return samplers.PartialFixedSampler(known, base) if known else base

    def _tuned_before(self) -> dict[str, float]:
        """Name of a parameter → value that the best trial so far was tuned to."""
        best = self.oracle.get_best_trials(1)
        if not best:
            return {}
        tuned = best[0].info.get("descent", {}).get("values", {})
        space = self.oracle.hyperparameters.space
        return {
            name: tuned[entry.name]
            for entry, name in zip(space, parameter_names(space))
            if entry.name in tuned
        }


class Report(Callback):
    """Tells Optuna the best E after each run, and stops where its pruner says so.

    ``folder``: whose state is kept in the database as well, or None.
    """

    def __init__(self, store: Store, trial: Trial, folder: Path | None):
        self.store = store
        self.trial = trial
        self.folder = folder
        self.hopeless = False

    def on_run_end(self, row: int, logs: Logs = None) -> None:
        if self.folder is not None:
            state = packed(self.folder)
            self.store.storage.set_trial_user_attr(self.trial.row, "state", state)
        best = (logs or {}).get("best")
        if best is None or not np.isfinite(best):
            return
        study, number = self.store.study, self.trial.row
        self.store.storage.set_trial_intermediate_value(number, row, float(best))
        if study.pruner.prune(study, self.store.storage.get_trial(number)):
            self.hopeless = True
            self.stop("others were better after as many runs")
