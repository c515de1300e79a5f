"""Numbers of layers, of their regularizers and constraints, and of nested models."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras

from hypergrad.targets import verdicts
from hypergrad.targets.names import canonical_names, quote
from hypergrad.targets.target import Kind, Target
from hypergrad.targets.values import is_choice, is_integer, real_list, real_value

# Public attributes of every layer that are no numbers of its computation.
_BOOKKEEPING = frozenset(
    "name trainable dtype built autocast seed axis rank supports_masking stateful "
    "call_signature_parameters data_format jit_compile state_size output_size "
    "layers metrics loss loss_weights optimizer input_spec use_cudnn losses "
    "steps_per_execution stop_training compiled batch_shape sparse ragged".split()
)
_HOLD_GIVEN_LAYERS = (
    keras.Model,
    keras.layers.Wrapper,
    keras.layers.Bidirectional,
    keras.layers.StackedRNNCells,
)
_CONSTRAINT = (
    "a constraint acts inside the optimizer's update, which is not supported yet. "
    f"{verdicts.TUNER}."
)


def layer_targets(model: keras.Model) -> Iterator[Target]:
    """Every number of a model's layers, in layer order, with its canonical path."""
    if not verdicts.is_from_keras(type(model)):
        yield from _own_targets("model", model, "model")
    for path, layer, internal in walk(model):
        for target in _own_targets(path, layer, "layer"):
            if internal and target.reason is not None:
                target = replace(target, listed=False)
            yield target


def walk(
    parent: Any, prefix: str = "", internal: bool = False
) -> Iterator[tuple[str, Any, bool]]:
    """(path, layer, whether it is a part that Keras made) of all layers below."""
    if isinstance(parent, keras.Model):
        children = parent.layers
    else:
        children = parent._flatten_layers(include_self=False, recursive=False)
    for name, child in zip(canonical_names(children), children):
        path = prefix + quote(name, first=not prefix)
        yield path, child, internal
        yield from walk(child, path + "/", internal or _makes_its_parts(child))


def _makes_its_parts(layer: Any) -> bool:
    """Whether a layer's sublayers are Keras' own (LSTM), not the user's (Wrapper)."""
    given = isinstance(layer, _HOLD_GIVEN_LAYERS) or type(layer) is keras.layers.RNN
    return verdicts.is_from_keras(type(layer)) and not given


def _own_targets(path: str, layer: Any, kind: Kind) -> Iterator[Target]:
    config = _config(layer)
    for public, attribute in _attributes(layer, config):
        held = getattr(layer, attribute)
        here = f"{path}.{quote(public)}"
        if isinstance(held, keras.regularizers.Regularizer):
            reason = _idle_reason(layer, held)
            yield from _part_targets(here, held, "regularizer", reason)
        elif isinstance(held, keras.constraints.Constraint):
            yield from _part_targets(here, held, "constraint", _CONSTRAINT)
        else:
            listed = public in config or not verdicts.is_from_keras(type(layer))
            yield from _target(here, layer, attribute, held, kind, listed)
    yield from _targets_of_variables(path, layer)


def _attributes(layer: Any, config: list[str]) -> Iterator[tuple[str, str]]:
    """(name in the path, name in the object); config keys may be held privately."""
    public = [name for name in vars(layer) if not name.startswith("_")]
    for name in [*public, *(key for key in config if key not in public)]:
        if name in _BOOKKEEPING:
            continue
        if name in public or hasattr(layer, name):
            yield name, name
        elif "_" + name in vars(layer):
            yield name, "_" + name


def _config(layer: Any) -> list[str]:
    """What a layer was configured by: the names its constructors take.

    `get_config` would say it too, but it serializes, which imports TensorFlow (some
    seconds) wherever it is installed, and a user's layer need not have one.
    """
    if isinstance(layer, keras.Model):
        return []
    names: dict[str, None] = {}
    for cls in type(layer).__mro__:
        if "__init__" in vars(cls):
            taken = inspect.signature(vars(cls)["__init__"]).parameters
            names.update(dict.fromkeys(taken))
    return list(names)


def _target(
    path: str, owner: Any, attribute: str, held: Any, kind: Kind, listed: bool = True
) -> Iterator[Target]:
    """The target for one attribute, if it is a number or a choice at all."""
    how = verdicts.verdict(owner, attribute.removeprefix("_"))
    in_table = how.reason is None and how.form != "unknown"
    value = real_value(held)
    if value is None and in_table:  # Rescaling(scale=2), Rescaling(scale=[1.0, 2.0])
        value = float(held) if is_integer(held) else real_list(held)
        value = real_list(held) if isinstance(held, (list, tuple)) else value
    if value is not None:
        if how.reason is None and attribute not in vars(owner):
            return  # a property: the object that holds it is visited by itself
        yield Target(
            path, kind, owner, attribute, value, how.reason, how.form, idle=how.idle
        )
    elif is_integer(held):
        reason = how.reason or verdicts.INTEGER
        if verdicts.is_from_keras(type(owner)) and reason == verdicts.UNVERIFIED:
            reason = verdicts.INTEGER
        yield Target(path, "structure", owner, attribute, held, reason, listed=listed)
    elif real_list(held) is not None:
        reason = how.reason or "a list of numbers. Make it an array to tune it."
        yield Target(path, kind, owner, attribute, held, reason, listed=listed)
    elif is_choice(held) or _is_activation(attribute, held):
        yield Target(
            path,
            "structure",
            owner,
            attribute,
            getattr(held, "__name__", held),
            verdicts.CHOICE,
            listed=not is_choice(held),
        )


def _is_activation(attribute: str, held: Any) -> bool:
    return attribute.endswith("activation") and callable(held)


def _part_targets(
    path: str, part: Any, kind: Kind, reason: str | None
) -> Iterator[Target]:
    """Numbers of a regularizer or constraint; ``reason`` refuses all of them."""
    for attribute, held in vars(part).items():
        if attribute.startswith("_"):
            continue
        for target in _target(
            f"{path}.{quote(attribute)}", part, attribute, held, kind
        ):
            if reason is not None and attribute != "axis":
                target = replace(
                    target, kind=kind, reason=reason, idle=kind == "regularizer"
                )
            yield target


def _targets_of_variables(path: str, layer: Any) -> Iterator[Target]:
    """Regularizers that only a variable knows: ``add_weight(regularizer=...)``."""
    for variable in layer._trainable_variables:
        regularizer = variable.regularizer
        if not isinstance(regularizer, keras.regularizers.Regularizer):
            continue
        here = f"{path}.{quote(variable.name + '_regularizer')}"
        yield from _part_targets(
            here, regularizer, "regularizer", _idle_reason(layer, regularizer)
        )


def _idle_reason(layer: Any, regularizer: Any) -> str | None:
    """Why a regularizer adds nothing to the loss; None where it may."""
    if not layer.built or getattr(layer, "activity_regularizer", None) is regularizer:
        return None
    regularized = [v for v in layer.variables if v.regularizer is regularizer]
    if not regularized:
        return (
            "it regularizes no variable of the layer: the layer was built without it, "
            "or without the variable. Pass it when the layer is constructed."
        )
    if not any(v.trainable for v in regularized):
        return "the layer is frozen, and Keras adds no penalty for frozen weights."
    return None
