"""The searches that need no gradient, under KerasTuner's names."""

import math
from typing import Any

from hypergrad.arguments import checked_whole
from hypergrad.tuner.samplers import Grid, Random
from hypergrad.tuner.storage import optuna_or_error
from hypergrad.tuner.trial import Trial, TrialStatus
from hypergrad.tuner.tuner import Tuner


class RandomSearch(Tuner):
    """Every value at random, on its own scale; the arguments are those of `Tuner`."""

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        *args: Any,
        **options: Any,
    ):
        super().__init__(
            hypermodel, objective, max_trials, *args, sampler=Random, **options
        )


class GridSearch(Tuner):
    """Every combination of values; the arguments are those of `Tuner`.

    The defaults come first. Of a number without steps ten values are tried, evenly on
    its scale.

    Args:
        max_trials: None: until all combinations have been tried.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int | None = None,
        *args: Any,
        **options: Any,
    ):
        super().__init__(
            hypermodel, objective, max_trials, *args, sampler=Grid, **options
        )


class BayesianOptimization(Tuner):
    """A model of which values are promising (TPE); other arguments as of `Tuner`.

    KerasTuner has a Gaussian process here. The tree-structured Parzen estimator of
    Optuna takes conditional branches, and trials that other workers are at.

    Args:
        num_initial_points: int, trials at random before; None: 3 for each
            hyperparameter, as in KerasTuner.
        alpha, beta: of KerasTuner's Gaussian process; without effect here.

    References: Bergstra et al. 2011; Watanabe 2023, arXiv:2304.11127.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        num_initial_points: int | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        *args: Any,
        **options: Any,
    ):
        if num_initial_points is not None:
            checked_whole("num_initial_points", num_initial_points)

        def sampler(seed: int) -> Any:
            number = num_initial_points or 3 * len(self.oracle.hyperparameters.space)
            return optuna_or_error().samplers.TPESampler(
                n_startup_trials=number,
                multivariate=True,
                group=True,
                constant_liar=True,
                seed=seed % 2**32,
            )

        super().__init__(
            hypermodel, objective, max_trials, *args, sampler=sampler, **options
        )


class Hyperband(Tuner):
    """Many trainings that are stopped early, where others were better by then.

    Trials are drawn at random. Each reports its objective after every epoch, and goes
    on to the next rung (``factor`` times as many epochs) only if it is among the best
    ``1 / factor`` of its bracket there. Other arguments as of `Tuner`.

    Args:
        max_epochs: int, of a training that is never stopped.
        factor: int ≥ 2, by which epochs grow and trials shrink from rung to rung.
        hyperband_iterations: float, how often the whole is gone through: it sets the
            number of trials.

    References: Li et al. 2018, arXiv:1603.06560; Li et al. 2020, arXiv:1810.05934, for
        rungs that wait for nobody.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_epochs: int = 100,
        factor: int = 3,
        hyperband_iterations: float = 1,
        *args: Any,
        **options: Any,
    ):
        checked_whole("max_epochs", max_epochs)
        checked_whole("factor", factor, 2)
        self.max_epochs = max_epochs
        number = _trials_of(max_epochs, factor) * hyperband_iterations
        super().__init__(
            *(hypermodel, objective, max(1, math.ceil(number)), *args),
            sampler=Random,
            **options,
        )
        pruner = optuna_or_error().pruners.HyperbandPruner(
            min_resource=1, max_resource=max_epochs, reduction_factor=factor
        )
        self.oracle.store.study.pruner = pruner

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        kwargs["epochs"] = self.max_epochs
        return super().run_trial(trial, *args, **kwargs)

    def on_epoch_end(self, trial: Trial, model: Any, epoch: int, logs: Any) -> None:
        if not self.objective.has_value(logs or {}):
            return
        study = self.oracle.store.study
        row = study._storage.get_trial(trial.row)
        value = self.objective.get_value(logs)
        study._storage.set_trial_intermediate_value(trial.row, epoch + 1, value)
        if study.pruner.prune(study, study._storage.get_trial(row._trial_id)):
            model.stop_training = True
            if epoch + 1 < self.max_epochs:
                trial.status = TrialStatus.PRUNED


def _trials_of(max_epochs: int, factor: int) -> float:
    """How many trials the brackets of one iteration begin."""
    most = int(math.log(max_epochs, factor) + 1e-9)
    return sum(
        math.ceil((most + 1) / (rung + 1) * factor**rung) for rung in range(most + 1)
    )
