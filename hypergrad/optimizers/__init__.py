"""Keras optimizers and schedules of this package."""

from hypergrad.result.tuned_schedule import TunedSchedule
from hypergrad.rules.optax_optimizer import Optax

__all__ = ["Optax", "TunedSchedule"]
