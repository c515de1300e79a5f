"""Layers of Keras that cut their own gradient, so that no hypergradient is right."""

from typing import Any

import keras


def refuse_cut_gradients(model: Any) -> None:
    """Raises where a layer of Keras stops a gradient that a second derivative needs.

    The first derivative that training uses is what Keras means it to be; its own
    derivative misses what flows through the stopped part, silently (measured: 2e-3 of
    the hypergradient for SpectralNormalization).

    Raises:
        ValueError: naming the layer and what to use instead.
    """
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.SpectralNormalization):
            _refuse(layer, "Leave the normalization out, or use weight decay.")
        if isinstance(layer, keras.layers.BatchNormalization) and getattr(
            layer, "renorm", False
        ):
            _refuse(layer, "Build it with `renorm=False`.")


def _refuse(layer: Any, fix: str) -> None:
    raise ValueError(
        f"The layer {layer.name!r} ({type(layer).__name__}) stops gradients inside, so "
        "that the derivative of training through it would be silently wrong. Expected "
        f"layers that are differentiable twice. {fix}"
    )
