"""What every backend must offer, with JAX's semantics.

``jax.py`` and ``tensorflow.py`` define exactly the functions in `NAMES`, with the
signatures and meanings written here; ``tests/contract/test_backend.py`` holds both to
it. A *tree* is anything that ``keras.tree`` flattens; a *leaf* is an array.

Inexact leaves (float16, bfloat16, float32, float64) are differentiated. All others
(integers, booleans, seeds, counters) are carried: as cotangent or tangent they have
zeros of their own dtype, and whatever is passed for them is ignored. None may stand in
the place of a leaf everywhere, and stays None.

===================  ==================================================================
``jit``              ``jit(fn, *, xla=None, donate=())``: compiles ``fn`` of trees of
                     arrays; one trace per combination of shapes and dtypes, counted in
                     ``.traces``. ``donate``: positions whose memory may be reused.
                     ``xla``: TensorFlow only, whether to compile with XLA; what it
                     cannot compile raises `XlaRefused` when called.
``tracing``          context manager: repairs and settings that hold while user code is
                     traced, and leaves the process as it was. `jit` enters it.
``finite_roots``     context manager: while it holds, the framework's square root has
                     the derivative ½ at 0 instead of an infinite one; same values.
``vjp``              ``vjp(fn, *primals) -> (out, pullback)``; ``pullback(cotangent)``
                     is a tuple of trees like ``primals``. May be called repeatedly.
``jvp``              ``jvp(fn, primals, tangents) -> (out, tangent)``.
``jvps``             ``jvps(fn, primals, tangents)``: the same for k directions at
                     once: inexact leaves of the tangents, given and returned, have a
                     leading axis (k, …).
``value_and_grad``   ``value_and_grad(fn, has_aux=False)``: with respect to the first
                     argument of a scalar ``fn``.
``grad``             the same without the value.
``fori_loop``        ``fori_loop(n, body, carry)``: ``carry = body(i, carry)`` for
                     ``i`` in ``0 … n-1``; ``n`` may be traced. Not differentiated.
``scan``             ``scan(f, carry, xs) -> (carry, ys)`` over the leading axis.
``checkpoint``       ``checkpoint(fn)``: recomputes ``fn`` when it is differentiated.
``buffer``           ``buffer(capacity, like, room=())``: place for ``capacity`` trees
                     like ``like``, carried through ``fori_loop``, in that room.
``room``             ``room(capacity, like)``: memory for a buffer, made outside of
                     `jit`, passed as a donated argument and returned, so that every
                     call writes to the same pages; () where that gains nothing.
``room_of``          ``room_of(buf)``: a filled buffer as room for the next; or ().
``buffer_can_leave`` ``buffer_can_leave(xla)``: whether a program compiled so (see
                     ``jit``) can return a buffer. TensorFlow's tensor lists stay
                     inside of what XLA compiles.
``buffer_write``     ``buffer_write(buf, i, tree) -> buf``.
``buffer_read``      ``buffer_read(buf, i, like) -> tree`` shaped like ``like``.
``buffer_stack``     ``buffer_stack(buf, like) -> tree`` of arrays (capacity, …); all
                     entries that were not written are zeros.
``free_memory``      ``free_memory() -> (device, host)``: bytes free for arrays; device
                     None where they are in the memory of the host; infinite where
                     nobody knows.
``run_cost``         ``run_cost(name)``: what a run and a sweep of that method cost, in
                     plain trainings: the committed ratio of the MLP row of
                     ``benchmarks/speed``, default memory.
``second_order``     how second derivatives of a training loss are taken unless asked
                     otherwise: "reverse" over reverse, or "mixed" (`methods/pull.py`);
                     what ``benchmarks/speed`` measured to be faster.
``is_inexact``       whether a leaf is differentiated.
``is_traced``        ``is_traced(x)``: whether jit, vmap, grad or a gradient tape of the
                     user follows an array, so that its number is unknown or leaving the
                     framework would cut its derivative.
``vectorises_runs``  ``vectorises_runs()``: whether several trainings are faster as one
                     vectorised program than one after the other: on accelerators.
``vmap``             ``vmap(fn)``: ``fn`` of trees, over the first axis of all leaves of
                     its arguments; results are stacked. What it closes over is shared.
``wide``             context manager, or decorator: while it holds, int64 and float64
                     that are asked for are given, whatever ``floatx`` is, and stay. For
                     arithmetic in them alone, not for code of the user.
``zeros_like``       ``zeros_like(tree)``: a tree of zeros.
``add``              ``add(tree, tree)``: leaf by leaf; non-inexact leaves of the first.
``convert``          ``convert(x, dtype=None)``: an array of this backend; a Python
                     float has ``floatx``.
``snapshot``         ``snapshot(variable)``: the value of a Keras variable, a copy.
``to_numpy``         ``to_numpy(tree)``: NumPy arrays, waits for them.
``synchronize``      waits until every leaf of a tree is computed.
===================  ==================================================================
"""

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

NAMES = (
    "add",
    "buffer",
    "buffer_can_leave",
    "buffer_read",
    "buffer_stack",
    "buffer_write",
    "checkpoint",
    "convert",
    "finite_roots",
    "fori_loop",
    "free_memory",
    "grad",
    "is_inexact",
    "is_traced",
    "jit",
    "jvp",
    "jvps",
    "room",
    "room_of",
    "run_cost",
    "scan",
    "second_order",
    "snapshot",
    "synchronize",
    "to_numpy",
    "tracing",
    "value_and_grad",
    "vectorises_runs",
    "vjp",
    "vmap",
    "wide",
    "zeros_like",
)


def host_memory() -> float:
    """Bytes free in the memory of the host: Linux says, elsewhere infinite."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return 1024.0 * int(line.split()[1])
    except (OSError, ValueError):
        return math.inf


class XlaRefused(RuntimeError):
    """XLA cannot compile a function; TensorFlow only. The text is XLA's."""


class Traces:
    """Counts how often compiled functions were traced.

    ``Traces.total`` is the count in this process; each jitted function has its own in
    ``.traces``. A trace is what a compilation starts with, so an unchanged total means
    that nothing was compiled.
    """

    total = 0


class Compiled:
    """A function that is compiled when called, and counts how often it was traced.

    Args:
        fn: function of trees of arrays.
        tracing: makes the context in which it is traced.
        compiled_by: function, function → compiled function.
    """

    def __init__(
        self,
        fn: Callable,
        tracing: Callable[[], AbstractContextManager[None]],
        compiled_by: Callable[[Callable], Callable],
    ):
        functools.update_wrapper(self, fn)
        self.traces = 0

        @functools.wraps(fn, assigned=("__name__",), updated=())
        def traced(*args: Any) -> Any:  # profiles show the name
            self.traces += 1
            Traces.total += 1
            with tracing():
                return fn(*args)

        self._call = compiled_by(traced)

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


class CotangentPair(NamedTuple):
    """An output and the function that pulls cotangents back through it."""

    out: Any
    pullback: Any
