"""Copies of a compiled model, from its configuration or by a function of the user."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
from keras import tree

from hypergrad.rules.keras_internals import unwrap


def copied(model: Any, build_fn: Callable | None) -> Any:
    """A new, compiled model like this one; of ``build_fn`` where there is one.

    Raises:
        ValueError: the model cannot be cloned.
        TypeError: ``build_fn`` does not return a compiled model.
    """
    return _clone(model) if build_fn is None else _built(build_fn)


def build_on(model: Any, train: Mapping[str, Any]) -> None:
    """Builds model, loss, metrics and optimizer on two rows."""
    two = {name: tree.map_structure(lambda a: a[:2], v) for name, v in train.items()}
    model._symbolic_build(data_batch=(two["x"], two.get("y"), two.get("sample_weight")))


def check_like(new: Any, old: Any) -> None:
    """Refuses a copy with other variables."""
    shapes = [[tuple(v.shape) for v in m.variables] for m in (new, old)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"The copy of {old.name!r} has other variables than the model that was "
            f"tuned: {len(shapes[0])} with shapes {shapes[0][:4]}…, expected "
            f"{len(shapes[1])} with {shapes[1][:4]}…. Pass a `build_fn=` that returns "
            "the same model."
        )


def copy_optimizer(optimizer: Any) -> Any:
    """A new optimizer of the same class and configuration, without variables."""
    with _known_classes([getattr(optimizer, "_learning_rate", None)]):
        fresh = type(optimizer).from_config(optimizer.get_config())
    for name, value in vars(optimizer).items():
        # Numbers that a configuration rounds or leaves out.
        if isinstance(value, float) and not name.startswith("_"):
            setattr(fresh, name, value)
    return fresh


def _built(build_fn: Callable) -> Any:
    model = build_fn()
    if not isinstance(model, keras.Model) or not getattr(model, "compiled", False):
        raise TypeError(
            "`build_fn` must return a new, compiled keras.Model. Received: "
            f"{model!r}. Return the model after `model.compile(…)`."
        )
    return model


def _clone(model: Any) -> Any:
    try:
        parts = [*model._flatten_layers(), *_held_objects(model)]
        with _known_classes(parts):
            new = type(model).from_config(model.get_config())
        given = dict(model._compile_config.config)
        given["optimizer"] = copy_optimizer(unwrap(model.optimizer))
        given["loss"] = tree.map_structure(_copy_loss, given["loss"])
        for name in ("metrics", "weighted_metrics"):
            given[name] = tree.map_structure(_copy_metric, given[name])
        new.compile(**given)
    except Exception as error:
        raise ValueError(
            f"The model {model.name!r} ({type(model).__name__}) cannot be cloned from "
            f"its configuration: {type(error).__name__}: {str(error)[:300]}. Pass "
            "`build_fn=`, a function that returns a new, compiled model."
        ) from error
    return new


def _copy_loss(loss: Any) -> Any:
    return copy.deepcopy(loss) if isinstance(loss, keras.losses.Loss) else loss


def _copy_metric(metric: Any) -> Any:
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    with _known_classes([metric]):
        return type(metric).from_config(metric.get_config())


def _held_objects(model: Any) -> Iterator[Any]:
    """Regularizers, initializers, constraints and schedules that layers hold."""
    for layer in model._flatten_layers():
        for value in vars(layer).values():
            if type(value).__module__.split(".")[0] not in ("builtins", "numpy"):
                yield value


@contextmanager
def _known_classes(objects: Any) -> Iterator[None]:
    """Keras finds the classes (and functions) of these objects by their names."""
    scope = {}
    for value in objects:
        if value is None or type(value).__module__.startswith("keras."):
            continue
        scope[type(value).__name__] = type(value)
        if callable(value) and hasattr(value, "__name__"):
            scope[value.__name__] = value
    with keras.saving.custom_object_scope(scope):
        yield
