"""A copy of a Keras optimizer whose ``apply`` works inside a stateless scope."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from hypergrad.rules import keras_internals as internals
from hypergrad.rules import options as opt


def pure_twin(optimizer: Any, attributes: Mapping[str, Any], slots: list) -> Any:
    """An instance of a subclass, which shares the variables and nothing else.

    The class puts `_PureBackend` in front of Keras' backend class, behind the user's:
    what the user overrides is kept, also where it calls ``super()``.

    Args:
        optimizer: a built Keras optimizer; not changed.
        attributes: attribute -> value of the copy.
        slots: the optimizer's variables that the stateless scope maps.
    """
    cls = type(optimizer)
    twin: Any = object.__new__(type(f"Pure{cls.__name__}", (cls, _PureBackend), {}))
    variables = internals.trainable_variables(optimizer)
    decayed = {
        twin._var_key(v): internals.uses_weight_decay(optimizer, v) for v in variables
    }
    twin.__dict__.update(vars(optimizer))
    twin.__dict__.update(
        _trainable_variables_indices={
            twin._var_key(v): i for i, v in enumerate(variables)
        },
        _exclude_from_weight_decay_cache=decayed,
        loss_scale_factor=None,  # cancels, see options.py
        _mapped_slots=slots,
    )
    twin.__dict__.update(attributes)
    return twin


def _clip_gradients(twin: Any, grads: list) -> list:
    kind = opt.clipping_attribute(twin)
    return opt.clip_gradients(kind, grads, [vars(twin)] * len(grads))


def _apply_gradients(twin: Any, grads: list, variables: list) -> None:
    """Keras' ``_backend_apply_gradients`` with selections in place of ``ops.cond``."""
    steps = twin.gradient_accumulation_steps
    if steps:
        due = (internals.iterations(twin) + 1) % steps == 0
        sums = internals.accumulators(twin, variables)
        total = [g + s.value for g, s in zip(grads, sums)]
        grads = [t / steps for t in total]
        slots = [v for v in twin._mapped_slots if all(v is not s for s in sums)]
        before = [(v, v.value) for v in [*variables, *slots]]

    grads = twin._clip_gradients(grads)
    twin._apply_weight_decay(variables)
    twin._backend_update_step(grads, variables, twin.learning_rate)

    if steps:
        for variable, old in before:
            variable.assign(ops.where(due, variable.value, old))
        for accumulator, t in zip(sums, total):
            accumulator.assign(ops.where(due, ops.zeros_like(t), t))
    if twin.use_ema:
        internals.average_weights(twin)


# Keras' TensorFlow class assigns to TensorFlow variables, around the stateless scope:
# the base class' own form of its methods takes their place.
_PureBackend = type(
    "PureBackend",
    (internals.BackendOptimizer,),
    {
        **internals.base_methods(),
        "_clip_gradients": _clip_gradients,
        "_backend_apply_gradients": _apply_gradients,
    },
)
