"""The searches that are compared, each with 60 runs."""

import math
from collections.abc import Callable
from typing import Any

import hypergrad as hg
from problems import EPOCHS, OBJECTIVE

RUNS = 60


def gradient_tuner(of: Any, record: Any, seed: int, folder: str) -> None:
    class Charged(hg.GradientTuner):
        """Charges a descent to the record when it is done."""

        def _take_over(self, trial: Any, result: Any, seconds: float) -> None:
            super()._take_over(trial, result, seconds)
            record.charge(result.runs)

    tuner = Charged(
        of.build,
        objective=hg.Objective(OBJECTIVE, "min"),
        max_trials=RUNS,
        max_runs=RUNS,
        seed=seed,
        directory=folder,
    )
    tuner.search(**of.fit, callbacks=[record])


def keras_tuner_search(kind: str) -> Callable:
    def search(of: Any, record: Any, seed: int, folder: str) -> None:
        import keras_tuner

        given: dict[str, Any] = {
            "objective": keras_tuner.Objective(OBJECTIVE, "min"),
            "seed": seed + 1,  # 0 would be a random one
            "directory": folder,
            "max_consecutive_failed_trials": RUNS,
        }
        if kind == "Hyperband":
            given |= {"max_epochs": EPOCHS, "hyperband_iterations": 99}
        else:
            given |= {"max_trials": RUNS}
        tuner = getattr(keras_tuner, kind)(of.build, **given)
        tuner.search(**of.fit, callbacks=[record])

    return search


def optuna_tpe(of: Any, record: Any, seed: int, folder: str) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: Any) -> float:
        model = of.build(Asked(trial))
        history = model.fit(**of.fit, callbacks=[record])
        values = [v for v in history.history[OBJECTIVE] if math.isfinite(v)]
        return min(values, default=math.inf)

    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=RUNS)


class Asked:
    """``hp`` of an Optuna trial."""

    def __init__(self, trial: Any):
        self.trial = trial

    def Int(self, name: str, low: int, high: int, step: int = 1) -> int:
        return self.trial.suggest_int(name, low, high, step=step)

    def Float(
        self, name: str, low: float, high: float, sampling: str = "linear"
    ) -> float:
        return self.trial.suggest_float(name, low, high, log=sampling == "log")

    def Choice(self, name: str, values: list) -> Any:
        return self.trial.suggest_categorical(name, values)


SEARCHES: dict[str, Callable] = {
    "hypergrad GradientTuner": gradient_tuner,
    "KerasTuner RandomSearch": keras_tuner_search("RandomSearch"),
    "KerasTuner BayesianOptimization": keras_tuner_search("BayesianOptimization"),
    "KerasTuner Hyperband": keras_tuner_search("Hyperband"),
    "Optuna TPE": optuna_tpe,
}
