"""A tuner with KerasTuner's verbs: whole numbers searched, real ones descended."""

from hypergrad.tuner.errors import FailedTrialError, FatalError
from hypergrad.tuner.gradient_tuner import GradientTuner
from hypergrad.tuner.hypermodel import HyperModel
from hypergrad.tuner.hyperparameters import HyperParameters
from hypergrad.tuner.objectives import Objective
from hypergrad.tuner.searches import (
    BayesianOptimization,
    GridSearch,
    Hyperband,
    RandomSearch,
)
from hypergrad.tuner.trial import Trial, TrialStatus
from hypergrad.tuner.tuner import Tuner

__all__ = [
    "BayesianOptimization",
    "FailedTrialError",
    "FatalError",
    "GradientTuner",
    "GridSearch",
    "HyperModel",
    "HyperParameters",
    "Hyperband",
    "Objective",
    "RandomSearch",
    "Trial",
    "TrialStatus",
    "Tuner",
]
