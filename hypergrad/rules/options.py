"""What every Keras optimizer does around its own update, as pure functions.

In the order of ``optimizer.apply``: gradients are clipped, weights are decayed, the
optimizer's own update follows, weights are constrained.

A ``loss_scale_factor`` has no place here: Keras multiplies the loss by it and divides
the gradients by it. Rules take gradients of the loss itself, where it cancels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import keras
from keras import ops

from hypergrad.rules import safe
from hypergrad.rules.constraints import constrain
from hypergrad.rules.keras_internals import rate_source, uses_weight_decay

# In the order in which Keras asks for them; at most one can be set.
_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


@dataclass(frozen=True)
class Options:
    """The structure of an optimizer's options; their numbers are hyperparameters.

    Attributes:
        clip: the attribute that clips: "clipnorm", "global_clipnorm", "clipvalue", or
            None.
        decayed: for each variable, whether weight decay applies to it.
        constraints: for each variable, its projection or None.
        schedule: function of the step count that gives the learning rate; None where
            the learning rate is a number.
    """

    clip: str | None
    decayed: tuple[bool, ...]
    constraints: tuple[Callable | None, ...]
    schedule: Callable | None


def read_options(optimizer: Any, variables: list) -> Options:
    """The options of a Keras optimizer on these variables."""
    return Options(
        clip=clipping_attribute(optimizer),
        decayed=tuple(uses_weight_decay(optimizer, v) for v in variables),
        constraints=tuple(v.constraint for v in variables),
        schedule=_schedule(optimizer),
    )


def shared_hyperparameters(optimizer: Any) -> dict[str, float]:
    """The numbers that every Keras optimizer has: attribute name -> float."""
    numbers = {"weight_decay": float(optimizer.weight_decay or 0.0)}
    rate = rate_source(optimizer)
    if isinstance(rate, keras.Variable):
        numbers["learning_rate"] = float(ops.convert_to_numpy(rate.value))
    clip = clipping_attribute(optimizer)
    if clip is not None:
        numbers[clip] = float(getattr(optimizer, clip))
    return numbers


def clipping_attribute(optimizer: Any) -> str | None:
    """The clipping in force. Keras takes a threshold that is not positive as unset."""
    for name in _CLIPPING:
        threshold = getattr(optimizer, name)
        if threshold is not None and threshold > 0:
            return name
    return None


def _schedule(optimizer: Any) -> Callable | None:
    rate = rate_source(optimizer)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate
    if isinstance(rate, keras.Variable):
        return None
    return lambda iterations: rate()  # Keras calls a plain function without the step


def scalar(value: Any, dtype: Any) -> Any:
    """A hyperparameter (Python number, tensor, `Traced`) as a tensor of ``dtype``."""
    return ops.convert_to_tensor(
        float(value) if isinstance(value, Real) else value, dtype=dtype
    )


def learning_rate(options: Options, iterations: Any, hparams: Mapping[str, Any]) -> Any:
    """The learning rate of this step: the hyperparameter, else the schedule's value."""
    if "learning_rate" in hparams:
        return hparams["learning_rate"]
    if options.schedule is None:
        raise KeyError(
            "`hparams` has no 'learning_rate', expected every number of the rule. "
            f"Received: {sorted(hparams)}. Pass {{**rule.hyperparameters, **tuned}}."
        )
    return options.schedule(iterations)


def cast_like(grad: Any, weight: Any) -> Any:
    """The gradient in the dtype of its variable, as Keras casts it after clipping."""
    return ops.cast(grad, weight.dtype)


def clip_gradients(kind: str | None, grads: list, hparams: Mapping[str, Any]) -> list:
    """Clips gradients as Keras' attribute of the name ``kind`` does, ``c`` its value.

    None stays None, and counts in no norm.

    =================  ================================================================
    "clipnorm"         ``g · c / max(‖g‖, c)``, each variable for itself
    "global_clipnorm"  ``g · c · min(1/n, 1/c)``, ``n`` the norm over all variables
    "clipvalue"        ``min(max(g, −c), c)``, each entry for itself
    =================  ================================================================

    Each is piecewise smooth. The derivative is that of the piece in force: without
    clipping that of ``g``, with it that of the clipped value, in which ``c`` counts and
    the length of ``g`` (or the clipped entry) does not. On the border it is that of
    the unclipped side.

    References: Pascanu et al. 2013, Alg. 1, arXiv:1211.5063 (norm clipping).
    """
    if kind is None:
        return grads
    threshold = hparams[kind]
    present = [g for g in grads if g is not None]
    if kind == "clipnorm":
        clipped = [_clip_by_norm(g, scalar(threshold, g.dtype)) for g in present]
    elif kind == "global_clipnorm":
        clipped = _clip_by_global_norm(present, threshold)
    else:
        clipped = [_clip_by_value(g, scalar(threshold, g.dtype)) for g in present]
    remaining = iter(clipped)
    return [None if g is None else next(remaining) for g in grads]


def _clip_by_norm(grad: Any, threshold: Any) -> Any:
    return grad * threshold / safe.larger(safe.norm(grad), threshold)


def _clip_by_global_norm(grads: list, threshold: Any) -> list:
    squares = ops.stack([ops.sum(ops.square(g)) for g in grads])
    norm = safe.sqrt(ops.sum(squares))
    threshold = scalar(threshold, norm.dtype)
    inverse, limit = safe.divide(1.0, norm), 1.0 / threshold
    # `norm - norm` is 0, or NaN for a norm that is not finite, as in Keras.
    scale = threshold * ops.where(inverse < limit, inverse, limit) + (norm - norm)
    return [g * ops.cast(scale, g.dtype) for g in grads]


def _clip_by_value(grad: Any, threshold: Any) -> Any:
    below = ops.where(ops.greater(grad, threshold), threshold, grad)
    return ops.where(ops.less(below, -threshold), -threshold, below)


def decay_weights(
    options: Options,
    grads: list,
    weights: list,
    rate: Any,
    hparams: Mapping[str, Any],
) -> list:
    """``θ ← θ − θ·λ·η`` with λ the weight decay and η the learning rate.

    Decoupled from the gradient, for every Keras optimizer. Excluded variables, and
    those without a gradient, are left alone.

    References: Loshchilov & Hutter 2019, Alg. 2, arXiv:1711.05101.
    """
    decay = hparams["weight_decay"]
    if isinstance(decay, Real) and decay == 0:
        return weights
    return [
        w - w * scalar(decay, w.dtype) * scalar(rate, w.dtype)
        if decayed and g is not None
        else w
        for g, w, decayed in zip(grads, weights, options.decayed, strict=True)
    ]


def constrain_weights(options: Options, grads: list, weights: list) -> list:
    """Each weight that had a gradient, projected by its variable's constraint."""
    return [
        w if g is None else constrain(constraint, w)
        for g, w, constraint in zip(grads, weights, options.constraints, strict=True)
    ]
