"""Layers of Keras through which no hypergradient is right."""

from typing import Any

import keras


def refuse_cut_gradients(model: Any) -> None:
    """Raises where a layer of Keras has no second derivative, or not twice the same.

    The first derivative that training uses is what Keras means it to be; its own
    derivative misses what flows through a stopped part, silently (measured: 2e-3 of
    the hypergradient for SpectralNormalization). A layer that draws in Python while it
    is traced is another one in each compiled program, so that the run and its sweep
    would belong to two trainings (measured: 0.25 for AugMix).

    Raises:
        ValueError: naming the layer and what to use instead.
    """
    layers = keras.layers
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.SpectralNormalization):
            _refuse(layer, _STOPS, "Leave the normalization out, or use weight decay.")
        if isinstance(layer, layers.BatchNormalization) and getattr(
            layer, "renorm", False
        ):
            _refuse(layer, _STOPS, "Build it with `renorm=False`.")
        if isinstance(layer, layers.AugMix):
            _refuse(
                layer,
                _DRAWS,
                "Apply it to the data, or use `RandAugment`.",
            )
        if getattr(layer, "quantization_mode", None) is not None:
            _refuse(layer, _ROUNDS, "Tune the model before `quantize`.")


_STOPS = "stops gradients inside"
_DRAWS = "chooses its operations by Python's `random` while it is compiled"
_ROUNDS = "is quantized, and its gradient is not the derivative of what it computes"


def _refuse(layer: Any, reason: str, fix: str) -> None:
    raise ValueError(
        f"The layer {layer.name!r} ({type(layer).__name__}) {reason}, so that the "
        "derivative of training through it would be silently wrong. Expected layers "
        f"that are differentiable twice. {fix}"
    )
