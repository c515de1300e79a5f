"""What every Keras optimizer does around its own update, as pure functions.

In the order of ``optimizer.apply``: gradients are summed up, clipped, weights are
decayed, the optimizer's own update follows, weights are averaged, then constrained.

A ``loss_scale_factor`` has no place here: Keras multiplies the loss by it and divides
the gradients by it. Rules take gradients of the loss itself, where it cancels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import keras
from keras import ops

from hypergrad.rules import safe
from hypergrad.rules.constraints import constrain
from hypergrad.rules.keras_internals import decay_attribute, rate_source
from hypergrad.rules.per_variable import Numbers, Once, scalar
from hypergrad.rules.schedules import evaluate

# In the order in which Keras asks for them; at most one can be set.
_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


@dataclass(frozen=True)
class Options:
    """The structure of an optimizer's options; their numbers are hyperparameters.

    Attributes:
        clip: the attribute that clips: "clipnorm", "global_clipnorm", "clipvalue", or
            None.
        decay: for each variable, the number that decays it, or None.
        constraints: for each variable, its projection or None.
        schedule: function of the step count that gives the learning rate; None where
            the learning rate is a number.
        accumulation: over how many steps gradients are averaged; 1 for each its own.
        averages: whether a moving average of the weights is kept (``use_ema``).
        overwriting: after how many updates weights become their average; None never.
    """

    clip: str | None
    decay: tuple[str | None, ...]
    constraints: tuple[Callable | None, ...]
    schedule: Callable | None
    accumulation: int
    averages: bool
    overwriting: int | None


def read_options(optimizer: Any, variables: list) -> Options:
    """The options of a Keras optimizer on these variables."""
    return Options(
        clip=clipping_attribute(optimizer),
        decay=tuple(decay_attribute(optimizer, v) for v in variables),
        constraints=tuple(v.constraint for v in variables),
        schedule=_schedule(optimizer),
        accumulation=int(optimizer.gradient_accumulation_steps or 1),
        averages=bool(optimizer.use_ema),
        overwriting=optimizer.ema_overwrite_frequency or None,
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
    if optimizer.use_ema:
        numbers["ema_momentum"] = float(optimizer.ema_momentum)
    return numbers


def common(
    optimizer: Any, variables: list, names: Sequence[str]
) -> tuple[dict[str, float], Options]:
    """(hyperparameters, options) of a rule with these numbers of its own.

    A number that is None is 0.0.
    """
    own = {name: float(getattr(optimizer, name) or 0.0) for name in names}
    shared = shared_hyperparameters(optimizer)
    return {**shared, **own}, read_options(optimizer, variables)


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


def learning_rate(options: Options, iterations: Any, hparams: Mapping[str, Any]) -> Any:
    """The learning rate of this step: the hyperparameter, else the schedule's value."""
    if "learning_rate" in hparams:
        return hparams["learning_rate"]
    if options.schedule is None:
        raise KeyError(
            "`hparams` has no 'learning_rate', expected every number of the rule. "
            f"Received: {sorted(hparams)}. Pass {{**rule.hyperparameters, **tuned}}."
        )
    return evaluate(options.schedule, iterations, hparams)


def cast_like(grad: Any, weight: Any) -> Any:
    """The gradient in the dtype of its variable, as Keras casts it after clipping."""
    return ops.cast(grad, weight.dtype)


def clip_gradients(kind: str | None, grads: list, numbers: Sequence[Numbers]) -> list:
    """Clips gradients as Keras' attribute of the name ``kind`` does, ``c`` its value.

    None stays None, and counts in no norm. ``numbers``: those of each variable.

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
    if kind == "global_clipnorm":
        present = [g for g in grads if g is not None]
        remaining = iter(_clip_by_global_norm(present, numbers[0][kind]))
        return [None if g is None else next(remaining) for g in grads]
    clip = _clip_by_norm if kind == "clipnorm" else _clip_by_value
    threshold = Once(lambda numbers, dtype: scalar(numbers[kind], dtype))
    return [
        None if g is None else clip(g, threshold(n, g.dtype))
        for g, n in zip(grads, numbers, strict=True)
    ]


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
    options: Options, grads: list, weights: list, numbers: Sequence[Numbers]
) -> list:
    """``θ ← θ − θ·λ·η`` with λ the weight decay and η the learning rate.

    Decoupled from the gradient, for every Keras optimizer. Excluded variables, and
    those without a gradient, are left alone. ``numbers``: those of each variable.

    References: Loshchilov & Hutter 2019, Alg. 2, arXiv:1711.05101.
    """
    factors = {
        name: Once(
            lambda numbers, dtype, name=name: (
                scalar(numbers[name], dtype),
                scalar(numbers["learning_rate"], dtype),
            )
        )
        for name in {*options.decay} - {None}
    }
    new = list(weights)
    for i, (name, n) in enumerate(zip(options.decay, numbers, strict=True)):
        if grads[i] is None or name is None or _is_zero(n[name]):
            continue
        w = weights[i]
        decay, rate = factors[name](n, keras.backend.standardize_dtype(w.dtype))
        new[i] = w - w * decay * rate
    return new


def _is_zero(number: Any) -> bool:
    return isinstance(number, Real) and number == 0


def average_weights(
    options: Options,
    averages: list,
    weights: list,
    updates: Any,
    numbers: Sequence[Numbers],
) -> tuple[list, list]:
    """The moving averages of the weights, and the weights, maybe overwritten by them.

    ``a ← μ a + (1 − μ) θ`` with μ ``ema_momentum``, 0 for the first update; after
    every ``ema_overwrite_frequency`` updates ``θ ← a``. ``updates``: the number of
    updates before this step, which gradient accumulation makes smaller than steps.

    References: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by
    averaging"; Tarvainen & Valpola 2017, arXiv:1703.01780 (the exponential form).
    """
    later = ops.not_equal(updates, 0)
    momentum = Once(
        lambda numbers, dtype: (
            ops.cast(later, dtype) * scalar(numbers["ema_momentum"], dtype)
        )
    )
    new = []
    for a, w, n in zip(averages, weights, numbers, strict=True):
        mu = momentum(n, keras.backend.standardize_dtype(w.dtype))
        new.append(mu * a + (1 - mu) * w)
    if options.overwriting is not None:
        due = ops.equal((updates + 1) % options.overwriting, 0)
        weights = [ops.where(due, a, w) for a, w in zip(new, weights)]
    return new, weights


def constrain_weights(options: Options, grads: list, weights: list) -> list:
    """Each weight that had a gradient, projected by its variable's constraint."""
    return [
        w if g is None else constrain(constraint, w)
        for g, w, constraint in zip(grads, weights, options.constraints, strict=True)
    ]
