"""The contract on TensorFlow."""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context
from tensorflow.python.ops import gradients_util

from hypergrad.backend._patches import (
    cudnn_off,
    keras_traceback_filtering_off,
    replaced,
)
from hypergrad.backend._tensorflow_ops import twice_differentiable
from hypergrad.backend.contract import (
    Compiled,
    CotangentPair,
    XlaRefused,
    host_memory,
)


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    with keras_traceback_filtering_off(), cudnn_off(), twice_differentiable():
        yield


@contextlib.contextmanager
def wide() -> Iterator[None]:
    yield  # they always are


@contextlib.contextmanager
def finite_roots() -> Iterator[None]:
    plain = tf.math.sqrt

    def sqrt(x, name=None):
        x = tf.convert_to_tensor(x)
        one = tf.cast(tf.equal(x, 0), x.dtype)
        return plain(x + one, name) - one

    with replaced(tf.math, "sqrt", sqrt), replaced(tf, "sqrt", sqrt):
        yield


def jit(fn: Callable, *, xla: bool | None = None, donate: tuple = ()) -> Compiled:
    del donate  # TensorFlow reuses memory by itself

    def compiled_by(traced: Callable) -> Callable:
        function = tf.function(traced, jit_compile=bool(xla), autograph=False)
        # TensorFlow tells functions apart by an id that is used again, and would warn
        # of retracing where none happens; `.traces` counts what does.
        function._omit_frequent_tracing_warning = True

        def call(*args: Any) -> Any:
            try:
                with _without_memory_pass():
                    return function(*tree.map_structure(_as_argument, args))
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as e:
                if xla and re.search("XLA|tf2xla|trying to compile", str(e)):
                    raise XlaRefused(str(e).strip().splitlines()[0]) from e
                raise

        return call

    return Compiled(fn, tracing, compiled_by)


@contextlib.contextmanager
def _without_memory_pass() -> Iterator[None]:
    """Leaves out a rewriting of graphs that breaks loops over large arrays.

    Beyond about 200 MB of arguments TensorFlow turns sums of gradients into temporary
    variables, of which a loop makes each twice ("AlreadyExistsError: tmp_var").
    """
    held = context.context()
    given = held.function_call_options
    held.function_call_options = _without_pass(
        given.config_proto_serialized, given.executor_type
    )
    try:
        yield
    finally:
        held.function_call_options = given


@functools.lru_cache(maxsize=8)
def _without_pass(config: bytes, executor_type: str | None) -> Any:
    proto = config_pb2.ConfigProto.FromString(config)
    rewriting = proto.graph_options.rewrite_options
    rewriting.memory_optimization = rewriting.NO_MEM_OPT
    return context.FunctionCallOptions(executor_type, proto)


def _as_argument(leaf: Any) -> Any:
    # A Python number would be baked in, and retraced for each new value.
    return leaf if isinstance(leaf, (tf.Tensor, type(None))) else convert(leaf)


def _map(fn: Callable, *trees: Any) -> Any:
    """``fn`` of all leaves; None stays None."""
    return tree.map_structure(
        lambda leaf, *more: None if leaf is None else fn(leaf, *more), *trees
    )


_RUN_COSTS = {"Reverse": 4.3, "Forward": 1.3, "Reversible": 7.5}


def run_cost(name: str) -> float:
    return _RUN_COSTS[name]


def free_memory() -> tuple[float | None, float]:
    # It says what is in use on an accelerator, but not how much there is.
    return (math.inf if tf.config.list_logical_devices("GPU") else None), host_memory()


def second_order() -> str:
    return "reverse"


def is_traced(x: Any) -> bool:
    if not tf.is_tensor(x) and not isinstance(x, tf.Variable):
        return False
    tensor = tf.convert_to_tensor(x)  # reading a variable is what a tape sees
    if tf.is_symbolic_tensor(tensor):
        return True
    return bool(gradients_util.PossibleTapeGradientTypes([tensor]))


def is_inexact(leaf: Any) -> bool:
    if leaf is None:
        return False
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return tf.as_dtype(dtype).is_floating


def _watched(value: Any) -> tuple[list, Callable[..., Any]]:
    """Splits off the inexact leaves, each as a tensor of its own identity.

    Two leaves that are the same tensor would otherwise both receive the sum.
    """
    leaves = tree.flatten(value)
    inexact = [is_inexact(leaf) for leaf in leaves]

    def merge(new: list, fixed: list | None = None) -> Any:
        new_leaves = iter(new)
        rest = leaves if fixed is None else fixed
        return tree.pack_sequence_as(
            value, [next(new_leaves) if d else r for d, r in zip(inexact, rest)]
        )

    return [tf.identity(leaf) for leaf, d in zip(leaves, inexact) if d], merge


def _integer_zeros(value: Any) -> list:
    return [
        None if leaf is None or is_inexact(leaf) else tf.zeros_like(leaf)
        for leaf in tree.flatten(value)
    ]


def _inexact_leaves(value: Any) -> list:
    return [leaf for leaf in tree.flatten(value) if is_inexact(leaf)]


def _gradient(tape: Any, outputs: list, sources: list, cotangents: list | None) -> list:
    if not outputs or not sources:
        return [_zeros(source) for source in sources]
    gradients = tape.gradient(outputs, sources, output_gradients=cotangents)
    # The gradient of an embedding lookup is a tf.IndexedSlices.
    return [
        _zeros(source) if g is None else tf.convert_to_tensor(g)
        for source, g in zip(sources, gradients)
    ]


def _zeros(source: Any) -> Any:
    """Zeros that `add` knows: where nothing depends, nothing is added."""
    zeros = tf.zeros_like(source)
    zeros._hypergrad_is_zero = True
    return zeros


def _is_zero(leaf: Any) -> bool:
    return getattr(leaf, "_hypergrad_is_zero", False)


def vjp(fn: Callable, *primals: Any) -> CotangentPair:
    sources, merge = _watched(primals)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(sources)
        with tracing():
            out = fn(*merge(sources))
        # An output that is no tensor yet (a constant) still has a place in the tree.
        out = _map(_tensor, out)
    outputs = _inexact_leaves(out)

    def pullback(cotangent):
        cotangents = [
            tf.cast(c, o.dtype)
            for c, o in zip(tree.flatten(cotangent), tree.flatten(out))
            if is_inexact(o)
        ]
        gradients = _gradient(tape, outputs, sources, cotangents)
        return merge(gradients, _integer_zeros(primals))

    return CotangentPair(out, pullback)


def _tensor(leaf: Any) -> Any:
    return tf.convert_to_tensor(leaf)


def jvp(fn: Callable, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    out, push = _linearized(fn, primals)
    return out, _packed_tangents(out, push(_inexact_parts(primals, tangents)))


def jvps(fn: Callable, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    out, push = _linearized(fn, primals)
    # A pullback for each direction: `tf.vectorized_map` refuses while loops.
    directions = zip(*(tf.unstack(t) for t in _inexact_parts(primals, tangents)))
    pushed = [push(list(direction)) for direction in directions]
    stacked = [tf.stack(leaves) for leaves in zip(*pushed)]
    return out, _packed_tangents(out, stacked)


def _inexact_parts(primals: tuple, tangents: tuple) -> list:
    flat = zip(tree.flatten(tuple(primals)), tree.flatten(tuple(tangents)))
    return [tf.cast(t, p.dtype) for p, t in flat if is_inexact(p)]


def _packed_tangents(out: Any, tangents: list) -> Any:
    iterator = iter(tangents)
    leaves = [
        next(iterator) if is_inexact(leaf) else zero
        for leaf, zero in zip(tree.flatten(out), _integer_zeros(out))
    ]
    return tree.pack_sequence_as(out, leaves)


def _linearized(fn: Callable, primals: tuple) -> tuple[Any, Callable[[list], list]]:
    """(fn(*primals), function: tangents of inexact leaves → those of the output)."""
    # Two vjps, since ForwardAccumulator fails over a while loop (LSTM, GRU): the
    # pullback is linear in its cotangent, and its own vjp is the jvp.
    sources, merge = _watched(tuple(primals))
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as outer:
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(sources)
            with tracing():
                out = _map(_tensor, fn(*merge(sources)))
        outputs = _inexact_leaves(out)
        dummies = [tf.zeros_like(o) for o in outputs]
        outer.watch(dummies)
        pulled = _gradient(inner, outputs, sources, dummies)

    def push(tangents: list) -> list:
        return _gradient(outer, pulled, dummies, tangents)

    return out, push


def vmap(fn: Callable) -> Callable:
    def call(*args: Any) -> Any:
        leaves = [_tensor(leaf) for leaf in tree.flatten(args) if leaf is not None]
        out: list = []

        def of_one(given: list) -> list:
            new = iter(given)
            one = fn(*_map(lambda _: next(new), args))
            out[:] = [_map(_tensor, one)]
            return [leaf for leaf in tree.flatten(out[0]) if leaf is not None]

        found = iter(tf.vectorized_map(of_one, leaves, fallback_to_while_loop=True))
        return _map(lambda _: next(found), out[0])

    return call


def vectorises_runs() -> bool:
    return bool(tf.config.list_logical_devices("GPU"))


def value_and_grad(fn: Callable, has_aux: bool = False) -> Callable:
    """Function ``(x, *args) -> (fn(x, *args), ∂fn/∂x)`` of a scalar ``fn``.

    With ``has_aux``, ``fn`` returns (scalar, anything), which stands for the value.
    ``x`` is a tree; leaves that are no floats have zeros for a derivative.
    """

    def call(first, *args):
        sources, merge = _watched(first)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            with tracing():
                value = fn(merge(sources), *args)
            scalar = value[0] if has_aux else value
        gradients = _gradient(tape, [scalar], sources, None)
        return value, merge(gradients, _integer_zeros(first))

    return call


def grad(fn: Callable, has_aux: bool = False) -> Callable:
    """Function ``(x, *args) -> ∂fn/∂x``; with ``has_aux`` (∂fn/∂x, anything)."""

    def call(*args):
        value, gradient = value_and_grad(fn, has_aux)(*args)
        return (gradient, value[1]) if has_aux else gradient

    return call


def fori_loop(n: Any, body: Callable, carry: Any) -> Any:
    given = tree.flatten(carry)
    leaves = [_tensor(leaf) for leaf in given if leaf is not None]

    def packed(flat: Iterable) -> Any:
        new = iter(flat)
        return tree.pack_sequence_as(
            carry, [None if leaf is None else next(new) for leaf in given]
        )

    def step(i, *flat):
        new = [leaf for leaf in tree.flatten(body(i, packed(flat))) if leaf is not None]
        return (i + 1, *[_like(leaf, old) for leaf, old in zip(new, flat, strict=True)])

    n = tf.cast(n, tf.int32)
    _, *leaves = tf.while_loop(
        lambda i, *_: i < n, step, (tf.constant(0), *leaves), parallel_iterations=1
    )
    return packed(leaves)


def _like(leaf: Any, old: Any) -> Any:
    if not isinstance(leaf, tf.Tensor):  # a Python number has no dtype of its own
        leaf = tf.convert_to_tensor(leaf, old.dtype)
    leaf.set_shape(old.shape)
    return leaf


def scan(f: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
    xs = tree.map_structure(tf.convert_to_tensor, xs)
    carry = tree.map_structure(tf.convert_to_tensor, carry)
    length = tree.flatten(xs)[0].shape[0]
    probe = tf.function(lambda c, x: f(c, x)[1], autograph=False)
    like = probe.get_concrete_function(
        tree.map_structure(_spec, carry),
        tree.map_structure(lambda x: tf.TensorSpec(x.shape[1:], x.dtype), xs),
    ).structured_outputs

    def body(i, state):
        carry, ys = state
        carry, y = f(carry, tree.map_structure(lambda x: x[i], xs))
        return carry, buffer_write(ys, i, y)

    carry, ys = fori_loop(length, body, (carry, buffer(length, like)))
    return carry, buffer_stack(ys, like)


def _spec(leaf: Any) -> Any:
    return tf.TensorSpec(leaf.shape, leaf.dtype)


checkpoint = tf.recompute_grad


def room(capacity: int, like: Any) -> Any:
    del capacity, like
    return ()


def room_of(buf: Any) -> Any:
    del buf
    return ()


def buffer(capacity: int, like: Any, room: Any = ()) -> Any:
    del room
    # A tensor list holds references: writing copies nothing, and it may leave one
    # compiled function (in graph mode) and enter another.
    return _map(
        lambda leaf: tf.raw_ops.TensorListReserve(
            element_shape=tf.constant(leaf.shape.as_list(), tf.int32),
            num_elements=capacity,
            element_dtype=leaf.dtype,
        ),
        like,
    )


def buffer_can_leave(xla: bool) -> bool:
    return not xla


def buffer_write(buf: Any, i: Any, value: Any) -> Any:
    return _map(
        lambda b, leaf: tf.raw_ops.TensorListSetItem(
            input_handle=b, index=i, item=leaf
        ),
        buf,
        value,
    )


def buffer_read(buf: Any, i: Any, like: Any) -> Any:
    return _map(
        lambda b, leaf: tf.raw_ops.TensorListGetItem(
            input_handle=b,
            index=i,
            element_shape=tf.constant(leaf.shape.as_list(), tf.int32),
            element_dtype=leaf.dtype,
        ),
        buf,
        like,
    )


def buffer_stack(buf: Any, like: Any) -> Any:
    return _map(
        lambda b, leaf: tf.raw_ops.TensorListStack(
            input_handle=b,
            element_shape=tf.constant(leaf.shape.as_list(), tf.int32),
            element_dtype=leaf.dtype,
        ),
        buf,
        like,
    )


def zeros_like(value: Any) -> Any:
    return _map(tf.zeros_like, value)


def add(a: Any, b: Any) -> Any:
    def leaf(x: Any, y: Any) -> Any:
        if not is_inexact(x) or _is_zero(y):
            return x
        return y if _is_zero(x) else x + y

    return tree.map_structure(leaf, a, b)


def convert(x: Any, dtype: str | None = None) -> Any:
    if isinstance(x, tf.Tensor):
        return x if dtype is None else tf.cast(x, dtype)
    if dtype is None and isinstance(x, float):
        dtype = keras.config.floatx()
    return tf.convert_to_tensor(np.asarray(x, dtype))


def snapshot(variable: Any) -> Any:
    return tf.identity(variable.value)


def to_numpy(value: Any) -> Any:
    return _map(np.asarray, value)


def synchronize(value: Any) -> None:
    for leaf in tree.flatten(value):
        if isinstance(leaf, tf.Tensor):
            leaf.numpy()
