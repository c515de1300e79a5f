"""The contract on JAX."""

import contextlib
import ctypes
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras import tree
from keras.src.backend.common import dtypes as _keras_dtypes
from keras.src.backend.jax import nn as _keras_nn

from hypergrad.backend._patches import (
    cudnn_off,
    keras_traceback_filtering_off,
    replaced,
    say_once,
)
from hypergrad.backend.contract import Compiled, CotangentPair, host_memory


def _attention(plain: Callable) -> Callable:
    """Keras' attention with the softmax of float64 arrays in float64 as well."""

    def attention(
        query: Any,
        key: Any,
        value: Any,
        bias: Any = None,
        mask: Any = None,
        scale: float | None = None,
        is_causal: bool = False,
        **more: Any,
    ) -> Any:
        query, key, value = map(keras.ops.convert_to_tensor, (query, key, value))
        if query.dtype != jnp.float64:
            return plain(query, key, value, bias, mask, scale, is_causal, **more)
        groups = query.shape[2] // key.shape[2]
        key, value = jnp.repeat(key, groups, 2), jnp.repeat(value, groups, 2)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        logits = scale * jnp.einsum("btnh,bsnh->bnts", query, key)
        if bias is not None:
            logits = logits + keras.ops.convert_to_tensor(bias)
        seen = jnp.ones(logits.shape, bool)
        if mask is not None:
            seen = seen & keras.ops.convert_to_tensor(mask, "bool")
        if is_causal:
            seen = seen & jnp.tril(jnp.ones(logits.shape[-2:], bool))
        logits = jnp.where(seen, logits, -0.7 * float(np.finfo("float32").max))
        return jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(logits), value)

    return attention


def _promote(kinds: dict[str, str]) -> None:
    """Sets what Keras makes of types of 64 bits when it promotes."""
    _keras_dtypes.BIT64_TO_BIT32_DTYPE.update(kinds)
    for function in vars(_keras_dtypes).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


if keras.config.floatx() == "float64":
    # Keras sets none of the three: without the first its variables only claim to be
    # float64, without the second `keras.ops.tanh` of a float64 array is float32, and
    # without the third the weights of an attention layer are.
    jax.config.update("jax_enable_x64", True)
    _promote({"float64": "float64"})
    _keras_nn.dot_product_attention = _attention(_keras_nn.dot_product_attention)


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    plain = _keras_nn.dot_product_attention

    def unfused(
        query: Any,
        key: Any,
        value: Any,
        bias: Any = None,
        *args: Any,
        flash_attention: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        wanted = flash_attention is True or (
            flash_attention is None
            and _keras_nn._can_use_flash_attention(query, key, value, bias)
        )
        if wanted:
            say_once("Attention layers run without flash attention")
        return plain(query, key, value, bias, *args, flash_attention=False, **kwargs)

    with (
        keras_traceback_filtering_off(),
        cudnn_off(),
        replaced(_keras_nn, "dot_product_attention", unfused),
    ):
        yield


@contextlib.contextmanager
def wide() -> Iterator[None]:
    before = dict(_keras_dtypes.BIT64_TO_BIT32_DTYPE)
    with jax.enable_x64(True):
        _promote({kind: kind for kind in before})
        try:
            yield
        finally:
            _promote(before)


@contextlib.contextmanager
def finite_roots() -> Iterator[None]:
    plain = jnp.sqrt

    def sqrt(x, /):
        x = jnp.asarray(x)
        if not is_inexact(x):
            return plain(x)
        one = (x == 0).astype(x.dtype)
        return plain(x + one) - one

    with replaced(jnp, "sqrt", sqrt):
        yield


def jit(fn: Callable, *, xla: bool | None = None, donate: tuple = ()) -> Compiled:
    del xla  # always

    def compiled_by(traced: Callable) -> Callable:
        compiled = jax.jit(traced, donate_argnums=donate)

        def call(*args: Any) -> Any:
            before = counted.traces
            out = compiled(*args)
            if counted.traces != before:
                _release_unused_memory()
            return out

        return call

    counted = Compiled(fn, tracing, compiled_by)
    return counted


def _release_unused_memory() -> None:
    """Gives back what a compilation has freed: about 100 MB that glibc would keep."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass  # not Linux with glibc


def _map(fn: Callable, *trees: Any) -> Any:
    """``fn`` of all leaves; None stays None."""
    return tree.map_structure(
        lambda leaf, *more: None if leaf is None else fn(leaf, *more), *trees
    )


_RUN_COSTS = {"Reverse": 5.0, "Forward": 1.6, "Reversible": 8.0}


def run_cost(name: str) -> float:
    return _RUN_COSTS[name]


def free_memory() -> tuple[float | None, float]:
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return None, host_memory()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return math.inf, host_memory()
    return float(stats["bytes_limit"] - stats["bytes_in_use"]), host_memory()


def second_order() -> str:
    return "mixed"


def is_inexact(leaf: Any) -> bool:
    return leaf is not None and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def is_traced(x: Any) -> bool:
    return isinstance(x, jax.core.Tracer)


def _split(value: Any) -> tuple[list, Callable[..., Any]]:
    """Splits off the inexact leaves; the second result puts others in their place."""
    leaves = tree.flatten(value)
    inexact = [is_inexact(leaf) for leaf in leaves]

    def merge(new: list, fixed: list | None = None) -> Any:
        new_leaves = iter(new)
        rest = leaves if fixed is None else fixed
        return tree.pack_sequence_as(
            value, [next(new_leaves) if d else r for d, r in zip(inexact, rest)]
        )

    return [leaf for leaf, d in zip(leaves, inexact) if d], merge


def _integer_zeros(value: Any) -> list:
    return [
        None if leaf is None or is_inexact(leaf) else jnp.zeros_like(leaf)
        for leaf in tree.flatten(value)
    ]


def vjp(fn: Callable, *primals: Any) -> CotangentPair:
    differentiated, merge = _split(primals)

    def inexact_part(leaves):
        out = fn(*merge(leaves))
        return _split(out)[0], out

    _, pull, out = jax.vjp(inexact_part, differentiated, has_aux=True)

    def pullback(cotangent):
        leaves = [
            jnp.asarray(c, o.dtype)
            for c, o in zip(tree.flatten(cotangent), tree.flatten(out))
            if is_inexact(o)
        ]
        return merge(pull(leaves)[0], _integer_zeros(primals))

    return CotangentPair(out, pullback)


def jvp(fn: Callable, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    differentiated, merge = _split(tuple(primals))
    flat_tangents = [
        t
        for p, t in zip(tree.flatten(tuple(primals)), tree.flatten(tuple(tangents)))
        if is_inexact(p)
    ]

    def inexact_part(leaves):
        out = fn(*merge(leaves))
        return _split(out)[0], out

    _, out_tangents, out = jax.jvp(
        inexact_part, (differentiated,), (flat_tangents,), has_aux=True
    )
    return out, _split(out)[1](out_tangents, _integer_zeros(out))


def jvps(fn: Callable, primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    differentiated, merge = _split(tuple(primals))
    directions = [
        t
        for p, t in zip(tree.flatten(tuple(primals)), tree.flatten(tuple(tangents)))
        if is_inexact(p)
    ]

    def inexact_part(leaves):
        out = fn(*merge(leaves))
        return _split(out)[0], out

    _, push, out = jax.linearize(inexact_part, differentiated, has_aux=True)
    out_tangents = jax.vmap(push)(directions)
    return out, _split(out)[1](out_tangents, _integer_zeros(out))


def vmap(fn: Callable) -> Callable:
    return jax.vmap(fn)


def vectorises_runs() -> bool:
    return jax.local_devices()[0].platform != "cpu"


def value_and_grad(fn: Callable, has_aux: bool = False) -> Callable:
    """Function ``(x, *args) -> (fn(x, *args), ∂fn/∂x)`` of a scalar ``fn``.

    With ``has_aux``, ``fn`` returns (scalar, anything), which stands for the value.
    ``x`` is a tree; leaves that are no floats have zeros for a derivative.
    """

    def call(first, *args):
        leaves, merge = _split(first)
        value, gradient = jax.value_and_grad(
            lambda leaves: fn(merge(leaves), *args), has_aux=has_aux
        )(leaves)
        return value, merge(gradient, _integer_zeros(first))

    return call


def grad(fn: Callable, has_aux: bool = False) -> Callable:
    """Function ``(x, *args) -> ∂fn/∂x``; with ``has_aux`` (∂fn/∂x, anything)."""

    def call(*args):
        value, gradient = value_and_grad(fn, has_aux)(*args)
        return (gradient, value[1]) if has_aux else gradient

    return call


def fori_loop(n: Any, body: Callable, carry: Any) -> Any:
    return jax.lax.fori_loop(0, n, body, carry)


def scan(f: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
    return jax.lax.scan(f, carry, xs)


checkpoint = jax.checkpoint


def room(capacity: int, like: Any) -> Any:
    leaves = [leaf for leaf in tree.flatten(like) if leaf is not None]
    forms = tuple(((capacity, *jnp.shape(v)), jnp.result_type(v)) for v in leaves)
    zeros = iter(_zeros(forms))
    return _map(lambda leaf: next(zeros), like)


@functools.partial(jax.jit, static_argnums=0)
def _zeros(forms: tuple) -> list:
    """All buffers of a segment at once: a dispatch each is slower than small steps."""
    return [jnp.zeros(shape, dtype) for shape, dtype in forms]


def room_of(buf: Any) -> Any:
    return buf


def buffer(capacity: int, like: Any, room: Any = ()) -> Any:
    if tree.flatten(room):
        return room
    return _map(
        lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), jnp.result_type(leaf)),
        like,
    )


def buffer_can_leave(xla: bool) -> bool:
    del xla
    return True


def buffer_write(buf: Any, i: Any, value: Any) -> Any:
    return _map(
        lambda b, leaf: jax.lax.dynamic_update_index_in_dim(b, leaf, i, 0), buf, value
    )


def buffer_read(buf: Any, i: Any, like: Any) -> Any:
    return _map(lambda b: jax.lax.dynamic_index_in_dim(b, i, 0, keepdims=False), buf)


def buffer_stack(buf: Any, like: Any) -> Any:
    return buf


def zeros_like(value: Any) -> Any:
    return _map(jnp.zeros_like, value)


def add(a: Any, b: Any) -> Any:
    return tree.map_structure(lambda x, y: x + y if is_inexact(x) else x, a, b)


def convert(x: Any, dtype: str | None = None) -> Any:
    if dtype is None and isinstance(x, float):
        dtype = keras.config.floatx()
    array = jnp.asarray(x, dtype)
    # A weak type would be traced once more where a strong one follows it.
    return jnp.asarray(array, array.dtype) if array.weak_type else array


def snapshot(variable: Any) -> Any:
    # A copy: a compiled `fit` donates the arrays of the variables it trains.
    return jnp.array(variable.value, copy=True)


def to_numpy(value: Any) -> Any:
    return _map(np.asarray, value)


def synchronize(value: Any) -> None:
    jax.block_until_ready(value)
