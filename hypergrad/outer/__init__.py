"""The outer loop: screening, steps, safeguard, budgets, checkpoints."""

from hypergrad.outer.bayesian import BayesianScreening
from hypergrad.outer.budget import Budget
from hypergrad.outer.conditions import Growing
from hypergrad.outer.keras_steps import KerasSteps, OptaxSteps
from hypergrad.outer.safeguard import TakeBack
from hypergrad.outer.screening import AbstractScreening, Screening, Seen
from hypergrad.outer.steps import AbstractSteps, SignSteps

__all__ = [
    "AbstractScreening",
    "AbstractSteps",
    "BayesianScreening",
    "Budget",
    "Growing",
    "KerasSteps",
    "OptaxSteps",
    "Screening",
    "Seen",
    "SignSteps",
    "TakeBack",
]
