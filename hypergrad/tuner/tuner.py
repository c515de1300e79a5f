"""A search over models: KerasTuner's verbs, on a database."""

import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hypergrad.arguments import checked_whole
from hypergrad.tuner.display import Display
from hypergrad.tuner.errors import FailedTrialError, FatalError, FatalValueError
from hypergrad.tuner.hypermodel import built_at, hypermodel_of, trains_itself
from hypergrad.tuner.hyperparameters import HyperParameters, own_hyperparameters
from hypergrad.tuner.objectives import best_step, checked_metrics, objective_of
from hypergrad.tuner.oracle import SEED, SPACE, Oracle
from hypergrad.tuner.parallel import search_in_processes
from hypergrad.tuner.project import project_folder, trial_folder
from hypergrad.tuner.samplers import Random
from hypergrad.tuner.scoring import (
    WEIGHTS,
    SaveBestEpoch,
    TellTuner,
    checked_model,
    copied_callbacks,
    keep_build_config,
    load_weights,
    recompile,
    seeded_execution,
)
from hypergrad.tuner.space_changes import refuse_other_choices
from hypergrad.tuner.storage import open_storage
from hypergrad.tuner.store import Store
from hypergrad.tuner.trial import Metrics, Trial, TrialStatus

REMOVED = {
    "oracle": "`hg.RandomSearch` and its siblings take its arguments themselves, and "
    "`sampler=` what proposes values",
    "distribution_strategy": "start the same script on every machine with one "
    "`storage=`, or call `search(n_jobs=…)`",
}
"""Arguments of KerasTuner that are refused, and what to do instead."""


class Tuner:
    """Searches the models that ``build_model(hp)`` describes.

    Each trial is one point of the search space, its score the objective after training
    the model there. Trials are rows of a database: a search that was killed is gone on
    with by the same command, and the same script started several times, or on several
    machines with one ``storage``, works on one study.

    Subclass it and override `run_trial` to search anything else.

    Args:
        hypermodel: function (hp) → compiled ``keras.Model``, or object with
            ``build(hp)`` and optionally ``fit(hp, model, *args, **kwargs)``; None where
            `run_trial` is overridden and needs none.
        objective: name of a metric (``"val_accuracy"``), `Objective`, or a list of
            these, which are added up. None: what ``fit`` or ``run_trial`` returns is
            the number to minimise.
        max_trials: int, of all workers together; it can be raised later.
        seed: int; 0 is a seed as any other. None: a random one, kept in the study.
        hyperparameters: `HyperParameters` that are known before; their ranges count,
            whatever the model asks for.
        tune_new_entries: bool, whether what the model asks for besides is searched;
            else it has its default.
        allow_new_entries: bool, whether it may ask for anything besides.
        max_retries_per_trial: int, how often a trial that raised an error, or has no
            finite score, is tried again.
        max_consecutive_failed_trials: int, the search ends with an error after so many.
        sampler: where values come from: `hypergrad.tuner.samplers.Random` (the
            default), ``Grid``, ``QuasiRandom``, or a function, seed → Optuna sampler.
        max_model_size: int, models with more weights fail their trial; or None.
        optimizer, loss, metrics: what models are compiled with instead; or None.
        directory: folder of projects; None: the working directory.
        project_name: str, folder inside of it, and name of the study.
        tuner_id: str, ignored: workers need no names.
        logger: ignored, as by KerasTuner.
        overwrite: bool, whether a study of that name is deleted first.
        executions_per_trial: int, trainings with different seeds, whose metrics are
            averaged.
        storage: URL of a database for several machines, such as
            ``"postgresql+psycopg://user@host/database"``; None: an SQLite file in the
            project's folder. It is not saved, and printed without its password. The
            state of a descent is in the database then, too; weights stay in
            ``directory``, which may be shared.

    Raises:
        ValueError, TypeError: before anything is built or written, where it can be.

    Example:
        >>> tuner = hg.RandomSearch(build_model, objective="val_accuracy", max_trials=5)
        >>> tuner.search(x, y, epochs=5, validation_data=(x_val, y_val))
        >>> model = tuner.get_best_models()[0]
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int | None = 10,
        seed: int | None = None,
        hyperparameters: Any = None,
        tune_new_entries: bool = True,
        allow_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int = 3,
        *,
        sampler: Any = None,
        max_model_size: int | None = None,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        directory: Any = None,
        project_name: str | None = None,
        tuner_id: str | None = None,
        logger: Any = None,
        overwrite: bool = False,
        executions_per_trial: int = 1,
        storage: Any = None,
        **removed: Any,
    ):
        _refuse(removed)
        self.hypermodel = hypermodel_of(hypermodel)
        if self.hypermodel is None and type(self).run_trial is Tuner.run_trial:
            raise ValueError(
                "`hypermodel` must be a function build_model(hp), or an object with "
                "`build(hp)`, unless `run_trial` is overridden. Received: None."
            )
        if max_trials is not None:
            checked_whole("max_trials", max_trials)
        checked_whole("executions_per_trial", executions_per_trial)
        checked_whole("max_retries_per_trial", max_retries_per_trial, 0)
        checked_whole("max_consecutive_failed_trials", max_consecutive_failed_trials)
        if seed is not None:
            checked_whole("seed", seed, 0)
        if hyperparameters is None and not (tune_new_entries and allow_new_entries):
            raise ValueError(
                "With `tune_new_entries=False` or `allow_new_entries=False` the search "
                "space must be known: pass `hyperparameters=`. Received: None."
            )
        known = HyperParameters()
        if hyperparameters is not None:
            known = own_hyperparameters(hyperparameters).copy()
        self.objective = objective_of(objective)
        self.directory = directory or "."
        self.project_name = project_name or "untitled_project"
        self.max_model_size = max_model_size
        self.optimizer, self.loss, self.metrics = optimizer, loss, metrics
        self.executions_per_trial = executions_per_trial
        self.tuner_id = tuner_id or "tuner0"
        self._fit: tuple[tuple, dict] = ((), {})
        self._project = project_folder(self.directory, self.project_name, overwrite)
        self._storage = open_storage(storage, self._project)
        self._is_shared = storage is not None
        if overwrite and storage is not None:
            _delete(self._storage, self.project_name)
        store = Store(self._storage, self.project_name, self.objective.direction)
        seed = _kept_seed(store, seed)
        _check_objective(store, self.objective)
        self.oracle = Oracle(
            store,
            self.objective,
            Random(seed) if sampler is None else _seeded_sampler(sampler, seed),
            max_trials,
            known,
            bool(tune_new_entries),
            bool(allow_new_entries),
            seed,
            max_retries_per_trial,
            max_consecutive_failed_trials,
        )
        self.display = Display(self.oracle)
        stored = store.attributes.get(SPACE)
        self._populate_space()
        if stored is not None:
            print(f"Reloading Tuner from {self.project_dir}")
            before = HyperParameters.from_config(stored)
            for line in refuse_other_choices(before, self.oracle.hyperparameters):
                print(f"The search space has changed: {line}")
        self.oracle.share_space()

    # The search

    def search(
        self,
        *fit_args: Any,
        n_jobs: int = 1,
        **fit_kwargs: Any,
    ) -> None:
        """Runs trials until ``max_trials`` of them, of all workers, have ended.

        Args:
            *fit_args, **fit_kwargs: what ``fit`` gets in every trial: data, ``epochs``,
                ``validation_data``, ``callbacks``, which are copied for each training.
                With ``verbose=0`` the search prints nothing either.
            n_jobs: int, processes of this machine that work on the search at once, each
                with its share of the cores, or a GPU. They need ``cloudpickle``.
        """
        if checked_whole("n_jobs", n_jobs) > 1:
            search_in_processes(self, n_jobs, fit_args, fit_kwargs)
            return
        self.display.verbose = fit_kwargs.get("verbose", "auto") not in (0, False)
        self.on_search_begin()
        while self.wants_more() and (trial := self.oracle.create_trial()) is not None:
            self._run(trial, fit_args, fit_kwargs)
        self.on_search_end()

    def _run(self, trial: Trial, fit_args: tuple, fit_kwargs: Mapping) -> None:
        store = self.oracle.store
        row = store.storage.get_trial(trial.row)
        self.display.on_trial_begin(trial, going_on=bool(trial.message or trial.info))
        trial.message = None
        fatal = None
        with store.alive(row):
            try:
                self.on_trial_begin(trial)
                results = self.run_trial(trial, *fit_args, **fit_kwargs)
                self._take(trial, results)
            except FailedTrialError as error:
                trial.status, trial.message = TrialStatus.FAILED, str(error)
            except FatalError as error:
                trial.status, trial.message = TrialStatus.FAILED, str(error)
                fatal = error
            except Exception:
                trial.status = TrialStatus.INVALID
                trial.message = traceback.format_exc()
            except BaseException:
                store.release(row)
                raise
            self.oracle.update_space(trial.hyperparameters)
            self.oracle.end_trial(trial)
        self.display.on_trial_end(trial)
        self.on_trial_end(trial)
        if fatal is not None:
            raise fatal

    def _take(self, trial: Trial, results: Any) -> None:
        """What a training returned becomes the score of its trial."""
        if trial.status == TrialStatus.PRUNED:
            return
        source = f"{type(self).__name__}.run_trial()"
        metrics = checked_metrics(results, self.objective, source)
        trial.metrics = Metrics(metrics)
        trial.score = metrics[self.objective.name]
        trial.best_step = best_step(results, self.objective, source)
        trial.status = TrialStatus.COMPLETED

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        """Scores the values of a trial; override it to search something else.

        Args:
            trial: `Trial`; ``trial.hyperparameters`` is the ``hp`` of ``build``.
            *args, **kwargs: what ``search`` got.

        Returns:
            ``keras.callbacks.History``, a number (the objective), a dict of metrics
            with the objective among them, or a list of these, which are averaged.
        """
        return [
            self._execute(trial, number, args, dict(kwargs))
            for number in range(self.executions_per_trial)
        ]

    def _execute(self, trial: Trial, number: int, args: tuple, kwargs: dict) -> Any:
        """One training of a trial."""
        folder = trial_folder(self._project, trial.trial_id)
        callbacks = self._callbacks(trial, number, kwargs.pop("callbacks", None))
        keras.backend.clear_session()
        with seeded_execution(trial, number):
            model = self._build(trial.hyperparameters)
            results = self._fit_model(
                trial.hyperparameters, model, args, callbacks, kwargs
            )
        keep_build_config(model, folder)
        if not (folder / WEIGHTS).exists():  # a `fit` that called no callbacks
            model.save_weights(folder / WEIGHTS)
        return results

    def _callbacks(self, trial: Trial, number: int, given: Any) -> list:
        """Those of the user, copied, and the tuner's own."""
        if number == 0:
            folder = trial_folder(self._project, trial.trial_id)
            self._best_epoch = SaveBestEpoch(self.objective, folder / WEIGHTS)
        return [*copied_callbacks(given), TellTuner(self, trial), self._best_epoch]

    def _build(self, hp: HyperParameters) -> Any:
        model = checked_model(self.hypermodel, hp, self.max_model_size)
        recompile(model, self.optimizer, self.loss, self.metrics)
        if not (model.compiled or trains_itself(self.hypermodel)):
            raise FatalValueError(
                "`build_model(hp)` must return a compiled keras.Model. Received: "
                f"{model.name!r}, not compiled. Call `model.compile(…)`, or pass "
                "`optimizer=` and `loss=` to the tuner."
            )
        return model

    def _fit_model(
        self, hp: Any, model: Any, args: tuple, callbacks: list, kwargs: dict
    ) -> Any:
        return self.hypermodel.fit(hp, model, *args, callbacks=callbacks, **kwargs)

    # What was found

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[HyperParameters]:
        """The values of the best trials, the best one first."""
        return [t.hyperparameters for t in self.oracle.get_best_trials(num_trials)]

    def get_best_models(self, num_models: int = 1) -> list[Any]:
        """The models of the best trials, with the weights that were scored."""
        return [self.load_model(t) for t in self.oracle.get_best_trials(num_models)]

    def load_model(self, trial: Trial) -> Any:
        """The model of a trial with the weights that were scored."""
        model = self._build(trial.hyperparameters.copy())
        folder = trial_folder(self._project, trial.trial_id)
        load_weights(model, folder, trial.trial_id)
        return model

    def enqueue(self, values: Mapping[str, Any]) -> None:
        """Has the next trial try these values; it counts as one of ``max_trials``.

        Args:
            values: dict, name → value; what is not named is proposed as usual.
        """
        self.oracle.enqueue(values)

    def search_space_summary(self, extended: bool = False) -> None:
        """Prints the search space."""
        space = self.oracle.get_space().space
        print("Search space summary")
        print(f"Default search space size: {len(space)}")
        for entry in space:
            config = entry.get_config()
            print(f"{config.pop('name')} ({type(entry).__name__})")
            print(config)

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints the best trials, and why others failed."""
        print("Results summary")
        print(f"Results in {self.project_dir}")
        print(f"Showing {num_trials} best trials")
        print(self.objective)
        for trial in self.oracle.get_best_trials(num_trials):
            print()
            trial.summary()
        failed = [
            t for t in self.oracle.trials.values() if t.status == TrialStatus.FAILED
        ]
        if failed:
            print(f"\n{len(failed)} trials failed:")
            for trial in failed:
                line = (trial.message or "").strip().splitlines() or ["?"]
                print(f"  {trial.trial_id}: {line[-1]}")

    @property
    def remaining_trials(self) -> int | None:
        """How many trials may still begin; None where nothing limits them."""
        return self.oracle.remaining_trials()

    @property
    def project_dir(self) -> str:
        return str(Path(self.directory) / self.project_name)

    def reload(self) -> None:
        """Takes over what other workers have found out about the search space."""
        self.oracle.share_space()

    # For subclasses

    def wants_more(self) -> bool:
        """Whether this worker may begin another trial; asked before each."""
        return True

    def on_search_begin(self) -> None:
        """Before the first trial of this worker."""

    def on_search_end(self) -> None:
        """After the last trial of all workers."""

    def on_trial_begin(self, trial: Trial) -> None:
        """Before a trial."""

    def on_trial_end(self, trial: Trial) -> None:
        """After a trial."""

    def on_epoch_begin(self, trial: Trial, model: Any, epoch: int, logs: Any) -> None:
        """Before an epoch of a trial."""

    def on_epoch_end(self, trial: Trial, model: Any, epoch: int, logs: Any) -> None:
        """After an epoch of a trial."""

    def on_batch_begin(self, trial: Trial, model: Any, batch: int, logs: Any) -> None:
        """Before a batch of a trial."""

    def on_batch_end(self, trial: Trial, model: Any, batch: int, logs: Any) -> None:
        """After a batch of a trial."""

    # Inside

    def _populate_space(self) -> None:
        """Builds models until every conditional scope has been open once."""
        if self.hypermodel is None:
            return
        hp = self.oracle.get_space()
        declare = getattr(self.hypermodel, "declare_hyperparameters", None)
        if declare is not None:
            declare(hp)
            self.oracle.update_space(hp)
        opened: list = []
        closed: list = []
        while True:
            try:
                built_at(self.hypermodel, hp)
            except Exception as error:
                if not closed:  # at the defaults
                    raise
                warnings.warn(
                    f"`build_model` fails at {hp.values}: {error} Trials there will "
                    "fail, and what it asks for after that is not known yet.",
                    stacklevel=4,
                )
            self.oracle.update_space(hp)
            opened += [scope for scope in hp.active_scopes if scope not in opened]
            closed += [scope for scope in hp.inactive_scopes if scope not in closed]
            missing = [scope for scope in closed if scope not in opened]
            if not missing:
                return
            closed.remove(missing[0])
            hp = self.oracle.get_space()
            for condition in missing[0]:
                hp.values[condition.name] = condition.values[0]
            hp.ensure_active_values()


def _refuse(given: Mapping[str, Any]) -> None:
    for name in given:
        if name == "distribution_strategy" and given[name] is None:
            continue
        why = REMOVED.get(name)
        if why is None:
            raise TypeError(
                f"Unknown argument {name!r}. The arguments are those of hg.Tuner."
            )
        raise FatalValueError(f"`{name}` is not supported: {why}. See hg.Tuner.")


def _seeded_sampler(sampler: Any, seed: int) -> Any:
    if isinstance(sampler, type):
        try:
            return sampler(seed)
        except TypeError:
            return sampler()
    if hasattr(sampler, "values") or callable(sampler):
        return sampler
    raise TypeError(
        "`sampler` must be one of hypergrad.tuner.samplers, or a function, seed → "
        f"Optuna sampler. Received: {sampler!r}."
    )


def _kept_seed(store: Store, seed: int | None) -> int:
    """The seed of the study, which all of its workers share."""
    stored = store.attributes.get(SEED)
    if stored is not None and seed is not None and stored != seed:
        raise ValueError(
            f"The study {store.name!r} was begun with seed={stored}. Received: "
            f"seed={seed}. Leave `seed` out, or use another `project_name`."
        )
    if stored is None:
        stored = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
        stored = stored if seed is None else seed
        store.keep(SEED, stored)
    return int(store.attributes[SEED])


def _check_objective(store: Store, objective: Any) -> None:
    stored = store.attributes.get("objective")
    if stored is not None and stored != str(objective):
        raise ValueError(
            f"The study {store.name!r} was begun with {stored}. Received: {objective}. "
            "Scores of two objectives cannot be compared: use another `project_name`."
        )
    store.keep("objective", str(objective))


def _delete(storage: Any, name: str) -> None:
    import optuna

    try:
        optuna.delete_study(study_name=name, storage=storage)
    except KeyError:
        pass  # there was none
