"""Sees every operation of Keras while a function runs, and the layer it runs in."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree
from keras.src import backend as keras_backend

from hypergrad import backend
from hypergrad.backend._patches import replaced

ROOMS = ("numpy", "nn", "math", "linalg", "image")
"""The modules of a Keras backend whose functions ``keras.ops`` calls."""


class Seen(NamedTuple):
    """One call: ``name`` of the operation, ``layer`` around it (None: none).

    ``args``: flat list of tensors; ``outputs``: what it returned.
    """

    name: str
    layer: str | None
    args: list
    outputs: Any


class Watch:
    """What `watching` tells: override what is needed."""

    def given(self, tensor: Any) -> Any:
        """Before a call, for each tensor; what it returns takes its place."""
        return tensor

    def operation(self, seen: Seen) -> Any:
        """After a call; what it returns takes the place of the outputs."""
        return seen.outputs

    def layer_ends(self, layer: str, outputs: Any) -> None:
        """After the call of a layer or a loss."""


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Tells ``watch`` of all calls until the end of the context.

    Seen are the functions behind ``keras.ops``. Those inside of another one are not,
    nor is what a user computes with operators or with JAX or TensorFlow themselves:
    there the layer alone is known.
    """
    stack: list[str] = []
    depth = [0]
    with contextlib.ExitStack() as undo:
        for room in ROOMS:
            module = getattr(keras_backend, room)
            for name, function in vars(module).copy().items():
                if _is_operation(name, function, module):
                    put = _watched(function, f"ops.{name}", watch, stack, depth)
                    undo.enter_context(replaced(module, name, put))
        for kind in (keras.layers.Layer, keras.losses.Loss):
            put = _named(kind.__call__, watch, stack)
            undo.enter_context(replaced(kind, "__call__", put))
        yield


def finite(value: Any) -> bool:
    """Whether all floating-point leaves are."""
    return all(np.isfinite(backend.to_numpy(v)).all() for v in _tensors(value))


def traced(value: Any) -> bool:
    """Whether a leaf is followed by a compiler or a derivative, without a value."""
    return any(backend.is_traced(v) for v in _tensors(value))


def is_float(value: Any) -> bool:
    """Whether it is a floating-point tensor."""
    return bool(keras.ops.is_tensor(value)) and backend.is_inexact(value)


def _tensors(value: Any) -> list:
    """The floating-point tensors in a tree, those of variables among them."""
    leaves = (
        leaf.value if isinstance(leaf, keras.Variable) else leaf
        for leaf in tree.flatten(value)
    )
    return [leaf for leaf in leaves if is_float(leaf)]


def _is_operation(name: str, function: Any, module: Any) -> bool:
    return (
        inspect.isfunction(function)
        and not name.startswith("_")
        and function.__module__ == module.__name__
    )


def _watched(
    function: Callable, name: str, watch: Watch, stack: list[str], depth: list[int]
) -> Callable:
    def passed(leaf: Any) -> Any:
        tensor = leaf.value if isinstance(leaf, keras.Variable) else leaf
        return watch.given(tensor) if is_float(tensor) else leaf

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if depth[0]:
            return function(*args, **kwargs)
        depth[0] += 1
        try:
            args, kwargs = tree.map_structure(passed, (args, kwargs))
            outputs = function(*args, **kwargs)
            given = _tensors((args, kwargs))
            layer = stack[-1] if stack else None
            return watch.operation(Seen(name, layer, given, outputs))
        finally:
            depth[0] -= 1

    return call


def _named(function: Callable, watch: Watch, stack: list[str]) -> Callable:
    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        stack.append(name_of(self))
        try:
            outputs = function(self, *args, **kwargs)
        finally:
            layer = stack.pop()
        watch.layer_ends(layer, outputs)
        return outputs

    return call


def name_of(thing: Any) -> str:
    """The path of a layer, or the name of a loss."""
    if isinstance(thing, keras.layers.Layer):
        return str(thing.path or thing.name)
    return f"loss {thing.name}"
