"""Keras optimizers of this package."""

from hypergrad.rules.optax_optimizer import Optax

__all__ = ["Optax"]
