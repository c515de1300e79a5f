"""The outer loop: screening, steps, safeguard, budgets, checkpoints."""

from hypergrad.outer.budget import Budget
from hypergrad.outer.keras_steps import KerasSteps, OptaxSteps
from hypergrad.outer.safeguard import TakeBack
from hypergrad.outer.screening import Screening
from hypergrad.outer.steps import AbstractSteps, SignSteps

__all__ = [
    "AbstractSteps",
    "Budget",
    "KerasSteps",
    "OptaxSteps",
    "Screening",
    "SignSteps",
    "TakeBack",
]
