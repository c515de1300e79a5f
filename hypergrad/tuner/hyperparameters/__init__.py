"""What a ``build_model(hp)`` asks: kinds of hyperparameters, and their container."""

from hypergrad.tuner.hyperparameters.conditions import Parent
from hypergrad.tuner.hyperparameters.container import HyperParameters
from hypergrad.tuner.hyperparameters.foreign import own_hyperparameters
from hypergrad.tuner.hyperparameters.kinds import (
    Boolean,
    Choice,
    Fixed,
    Float,
    HyperParameter,
    Int,
    from_config,
)

__all__ = [
    "Boolean",
    "Choice",
    "Fixed",
    "Float",
    "HyperParameter",
    "HyperParameters",
    "Int",
    "Parent",
    "from_config",
    "own_hyperparameters",
]
