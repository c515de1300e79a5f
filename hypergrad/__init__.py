"""Gradient-based hyperparameter optimisation of Keras 3 models."""

from hypergrad import callbacks, diagnostics, linear, optimizers, plots
from hypergrad._evaluate import Evaluation, evaluate
from hypergrad._hypergradient import Hypergradient, hypergradient
from hypergrad._search import search
from hypergrad._second_derivatives import SecondDerivatives, second_derivatives
from hypergrad._tune import tune
from hypergrad.backend import grad, value_and_grad
from hypergrad.diagnostics import (
    GradientCheck,
    HorizonReport,
    NanReport,
    check_gradient,
    horizon,
    nan_report,
    raise_if_overfitting,
)
from hypergrad.estimate import Estimate, estimate
from hypergrad.methods import (
    Auto,
    EvolutionStrategies,
    FiniteDifference,
    Forward,
    Implicit,
    PersistentES,
    Reverse,
    Reversible,
    Truncated,
)
from hypergrad.outer import Budget, Growing
from hypergrad.problem import PerExample, PerStep, Problem, TrainState
from hypergrad.result import Result
from hypergrad.space import Float, PerTarget, PerVariable, Schedule
from hypergrad.status import NonFiniteError, Status
from hypergrad.targets import tunables
from hypergrad.tuner import (
    BayesianOptimization,
    FailedTrialError,
    FatalError,
    GradientTuner,
    GridSearch,
    Hyperband,
    HyperModel,
    HyperParameters,
    Objective,
    RandomSearch,
    Tuner,
)

__version__ = "0.1.0"

__all__ = [
    "Auto",
    "BayesianOptimization",
    "Budget",
    "Estimate",
    "Evaluation",
    "EvolutionStrategies",
    "FailedTrialError",
    "FatalError",
    "FiniteDifference",
    "Float",
    "Forward",
    "GradientCheck",
    "GradientTuner",
    "GridSearch",
    "Growing",
    "HorizonReport",
    "HyperModel",
    "HyperParameters",
    "Hyperband",
    "Hypergradient",
    "Implicit",
    "NanReport",
    "NonFiniteError",
    "Objective",
    "PerExample",
    "PerStep",
    "PerTarget",
    "PerVariable",
    "PersistentES",
    "Problem",
    "RandomSearch",
    "Result",
    "Reverse",
    "Reversible",
    "Schedule",
    "SecondDerivatives",
    "Status",
    "TrainState",
    "Truncated",
    "Tuner",
    "callbacks",
    "check_gradient",
    "diagnostics",
    "estimate",
    "evaluate",
    "grad",
    "horizon",
    "hypergradient",
    "linear",
    "nan_report",
    "optimizers",
    "plots",
    "raise_if_overfitting",
    "search",
    "second_derivatives",
    "tunables",
    "tune",
    "value_and_grad",
]
