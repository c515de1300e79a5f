"""Every name of ``backend/contract.py``: the same NumPy answers on both backends."""

import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from hypergrad import backend
from hypergrad.backend import contract

X = np.array([0.5, -1.0, 2.0])


def numpy(tree):
    return backend.to_numpy(tree)


def leaf(value, dtype=None):
    return backend.convert(np.asarray(value, dtype))


def _leaves(tree):
    return keras.tree.map_structure(backend.convert, tree)


# The wall


def test_every_name_is_there_with_the_signature_of_the_other_backend():
    assert backend.name == keras.backend.backend()
    for name in contract.NAMES:
        assert callable(getattr(backend, name)), name
    arguments = {
        "jit": ["fn", "xla", "donate"],
        "vjp": ["fn", "primals"],
        "jvp": ["fn", "primals", "tangents"],
        "jvps": ["fn", "primals", "tangents"],
        "value_and_grad": ["fn", "has_aux"],
        "grad": ["fn", "has_aux"],
        "fori_loop": ["n", "body", "carry"],
        "scan": ["f", "carry", "xs"],
        "buffer": ["capacity", "like", "room"],
        "buffer_can_leave": ["xla"],
        "run_cost": ["name"],
        "buffer_write": ["buf", "i", "value"],
        "buffer_read": ["buf", "i", "like"],
        "buffer_stack": ["buf", "like"],
        "room": ["capacity", "like"],
        "convert": ["x", "dtype"],
    }
    for name, expected in arguments.items():
        found = list(inspect.signature(getattr(backend, name)).parameters)
        assert found == expected, name


def test_every_name_is_used_by_a_test_here():
    here = Path(__file__).parent
    source = "".join(p.read_text() for p in here.glob("test_backend*.py"))
    untested = [n for n in contract.NAMES if f"backend.{n}" not in source]
    assert not untested


# jit


def test_jit_traces_once_per_shape():
    double = backend.jit(lambda x: {"y": 2.0 * x["x"]})
    for value in (X, X + 1.0, leaf(X)):
        assert np.array_equal(numpy(double({"x": value}))["y"], 2.0 * numpy(value))
    assert double.traces == 1
    double({"x": np.ones(5)})
    assert double.traces == 2


def test_jit_takes_numbers_without_a_trace_for_each():
    add = backend.jit(lambda x, y: x + y)
    for number in (0.25, 0.5, 0.75):
        assert numpy(add(X, number)) == pytest.approx(X + number)
    assert add.traces == 1


def test_traces_count_all_functions():
    before = backend.Traces.total
    for _ in range(2):
        function = backend.jit(lambda x: x + 1.0)
        function(X)
        function(X)
    assert backend.Traces.total == before + 2


@pytest.mark.parametrize("xla", [None, False, True])
def test_jit_of_either_compiler(xla):
    loop = backend.jit(
        lambda x, n: backend.fori_loop(n, lambda i, c: c * 2.0, x), xla=xla
    )
    assert numpy(loop(X, np.int32(3))) == pytest.approx(8 * X)
    assert numpy(loop(X, np.int32(0))) == pytest.approx(X)
    assert loop.traces == 1


def test_donated_memory_may_go_and_the_answer_stays():
    move = backend.jit(lambda room, x: (room + x, x), donate=(0,))
    kept = leaf(X)
    room = leaf(np.zeros(3))
    for i in range(3):
        room, kept = move(room, kept)
        assert numpy(room) == pytest.approx((i + 1) * X)
    assert numpy(kept) == pytest.approx(X)


# tracing


def test_tracing_leaves_the_process_as_it_was():
    filtering = keras.config.is_traceback_filtering_enabled()
    before = _keras_functions()
    with backend.tracing():
        assert not keras.config.is_traceback_filtering_enabled()
        with backend.tracing():
            pass
        assert not keras.config.is_traceback_filtering_enabled()
        inside = _keras_functions()
    assert keras.config.is_traceback_filtering_enabled() == filtering
    assert _keras_functions() == before
    with pytest.raises(ZeroDivisionError), backend.tracing():
        1 / 0  # noqa: B018
    assert keras.config.is_traceback_filtering_enabled() == filtering
    assert _keras_functions() == before
    assert (inside != before) == (backend.name == "tensorflow")


def _keras_functions():
    """All names of the Keras module that takes the moments of normalisations."""
    if backend.name != "tensorflow":
        return {}
    from keras.src.backend.tensorflow import nn

    return dict(vars(nn))


def test_jit_vjp_and_grad_trace_inside_of_tracing():
    seen = []

    def function(x):
        seen.append(keras.config.is_traceback_filtering_enabled())
        return ops.sum(x)

    backend.jit(function)(X)
    backend.jit(lambda x: backend.grad(function)(x))(X)
    backend.jit(lambda x: backend.vjp(function, x).pullback(leaf(1.0))[0])(X)
    assert len(seen) == 3 and not any(seen)


def test_the_repair_of_moments_changes_no_value():
    x = np.random.default_rng(0).normal(size=(4, 3, 2)) + 5.0
    for axes in ((0,), (1,), (0, 2), (-1,)):
        for keepdims in (False, True):
            plain = numpy(ops.moments(leaf(x), axes, keepdims=keepdims))
            with backend.tracing():
                repaired = numpy(ops.moments(leaf(x), axes, keepdims=keepdims))
            for a, b in zip(plain, repaired):
                assert a.shape == b.shape
                assert np.max(np.abs(a - b)) <= 1e-15 * np.max(np.abs(a))


# Loops and buffers


def test_fori_loop_with_a_traced_number_of_steps():
    def f(n, x):
        def body(i, carry):
            total, count = carry
            return total + ops.cast(i, total.dtype) * x, count + 1

        return backend.fori_loop(n, body, (backend.zeros_like(x), leaf(0, "int32")))

    compiled = backend.jit(f)
    for n in (0, 1, 5):
        total, count = compiled(np.int32(n), X)
        assert numpy(total) == pytest.approx(X * sum(range(n)))
        assert int(count) == n
    assert compiled.traces == 1


def test_scan():
    def f(carry, x):
        new = carry + x["u"]
        return new, {"before": carry, "i": x["i"] * 2}

    xs = {"u": np.arange(4.0), "i": np.arange(4, dtype="int32")}
    last, ys = backend.jit(lambda c, xs: backend.scan(f, c, xs))(np.array(10.0), xs)
    assert float(last) == pytest.approx(16.0)
    assert numpy(ys["before"]) == pytest.approx([10.0, 10.0, 11.0, 13.0])
    assert np.array_equal(numpy(ys["i"]), [0, 2, 4, 6])


LIKE = {"w": np.zeros((2, 3)), "k": np.zeros((), "int32")}


@pytest.mark.parametrize("xla", [False, True])
def test_buffers(xla):
    def f(n, like):
        buf = backend.buffer(5, like)

        def body(i, buf):
            value = {
                "w": like["w"] + ops.cast(i, like["w"].dtype),
                "k": like["k"] + ops.cast(i * 10, "int32"),
            }
            return backend.buffer_write(buf, i, value)

        buf = backend.fori_loop(n, body, buf)

        def back(j, total):
            read = backend.buffer_read(buf, n - 1 - j, like)
            return total * 10.0 + read["w"]

        digits = backend.fori_loop(n, back, like["w"])
        return digits, backend.buffer_stack(buf, like)

    compiled = backend.jit(f, xla=xla)
    digits, stack = compiled(np.int32(4), LIKE)
    assert np.array_equal(numpy(digits), np.full((2, 3), 3210.0))
    expected = np.array([0, 1, 2, 3, 0])  # the last is not written: zeros
    assert np.array_equal(numpy(stack["w"])[:, 0, 0], expected)
    assert np.array_equal(numpy(stack["k"]), expected * 10)
    assert numpy(stack["k"]).dtype == np.int32
    compiled(np.int32(2), LIKE)
    assert compiled.traces == 1


def test_a_buffer_crosses_from_one_program_to_another():
    """In the same room, again and again: one call fills it, another reads it."""

    def total(buf, x, n):
        return backend.fori_loop(
            n, lambda i, c: c + backend.buffer_read(buf, i, x), backend.zeros_like(x)
        )

    def cast(i, x):
        return ops.cast(i, x.dtype)

    def fill(room, x, n):
        buf = backend.buffer(4, x, room)
        return backend.fori_loop(
            n, lambda i, b: backend.buffer_write(b, i, x * (1 + cast(i, x))), buf
        )

    fill_it, total_it = backend.jit(fill, donate=(0,)), backend.jit(total)
    room = backend.room(4, leaf(X))
    for factor in (1.0, 3.0):
        buf = fill_it(room, factor * X, np.int32(3))
        found = total_it(buf, X, np.int32(3))
        assert numpy(found) == pytest.approx(factor * 6 * X)
        room = backend.room_of(buf)
    assert fill_it.traces == total_it.traces == 1


def test_a_buffer_leaves_a_program_where_the_backend_says_so():
    if backend.name == "jax":
        assert backend.buffer_can_leave(True)
    else:
        assert not backend.buffer_can_leave(True)
    assert backend.buffer_can_leave(False)


def test_the_cost_of_a_method_is_more_than_a_run():
    assert 3.0 <= backend.run_cost("Reverse") <= 5.5
    assert backend.run_cost("Reversible") > backend.run_cost("Reverse")
    assert 1.0 <= backend.run_cost("Forward") <= 5.0


def test_free_memory_is_what_the_system_says():
    device, host = backend.free_memory()
    assert device is None or device > 0  # tests run on a CPU, but need not
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        assert host == np.inf
        return
    total = 1024 * int(meminfo.read_text().split("MemTotal:")[1].split()[0])
    assert 0 < host < total


def test_second_derivatives_are_taken_in_a_known_way():
    assert backend.second_order() in ("reverse", "mixed")


# Leaves


def test_runs_are_vectorised_on_accelerators_only():
    device, _ = backend.free_memory()
    assert backend.vectorises_runs() == (device is not None)


def test_vmap():
    shared = leaf([1.0, 2.0, 3.0])

    def fn(tree, count):
        state, nothing = tree
        total = ops.sum(state["a"] * shared)
        return {"total": total, "next": count + 1, "none": nothing}, shared[0]

    a = np.arange(6.0).reshape(2, 3)
    given = ({"a": leaf(a)}, None), leaf([4, 5], "int32")
    found, constant = numpy(backend.jit(backend.vmap(fn))(*given))
    np.testing.assert_allclose(found["total"], a @ numpy(shared))
    np.testing.assert_array_equal(found["next"], [5, 6])
    assert found["none"] is None
    np.testing.assert_array_equal(constant, [1.0, 1.0])


def test_wide_types_inside_of_a_program():
    """Integers of 64 bits beside numbers in ``floatx``, in and out of a loop."""

    @backend.wide()
    def on(z, x):
        wide = ops.cast(ops.round(ops.cast(x, "float64") * 2.0**40), "int64")
        return ops.where(ops.less(ops.abs(z), 2**61), z + wide, z)

    def run(z, x):
        return backend.fori_loop(3, lambda i, z: on(z, x), z), ops.ones(2) * x

    with backend.wide():
        z = backend.convert(np.array([2**50, 5]))
    floatx = keras.config.floatx()
    x = backend.convert(np.array([1.5, 2.0]), floatx)
    z, plain = backend.jit(run)(z, x)
    assert keras.backend.standardize_dtype(z.dtype) == "int64"
    np.testing.assert_array_equal(numpy(z), [2**50 + 9 * 2**39, 5 + 6 * 2**40])
    assert keras.backend.standardize_dtype(plain.dtype) == floatx
    after = keras.backend.standardize_dtype((x * 2 + ops.ones(2)).dtype)
    assert after == floatx


def test_derivatives_go_through_vmap():
    a = leaf(np.arange(6.0).reshape(2, 3))
    cubes = backend.vmap(lambda row: ops.sum(row**3))

    def total(a):
        return ops.sum(cubes(a))

    np.testing.assert_allclose(numpy(backend.grad(total)(a)), 3 * numpy(a) ** 2)
    _, pushed = backend.jvp(backend.grad(total), (a,), (backend.convert(2.0) * a,))
    np.testing.assert_allclose(numpy(pushed), 12 * numpy(a) ** 2)


def test_is_traced():
    seen = []

    def look(x):
        seen.append(backend.is_traced(x))
        return ops.sum(x**2)

    for plain in (leaf(X), X, 1.5, None, keras.Variable(X)):
        assert not backend.is_traced(plain)
    backend.jit(look)(leaf(X))
    backend.grad(look)(leaf(X))
    backend.jit(lambda: look(ops.ones(3)))()
    assert seen == [True] * 3
    look(leaf(X))
    assert seen[3:] == [False]


def test_is_inexact():
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        assert backend.is_inexact(backend.convert(np.zeros(2, "float32"), dtype)), dtype
    for dtype in ("int32", "int64", "uint32", "bool"):
        assert not backend.is_inexact(leaf(np.zeros(2, dtype))), dtype
    assert backend.is_inexact(1.5) and not backend.is_inexact(2)


def test_zeros_like_and_add():
    tree = _leaves({"w": X, "k": np.array([3, 4], "int32")})
    zeros = backend.zeros_like(tree)
    assert np.array_equal(numpy(zeros["w"]), np.zeros(3))
    assert numpy(zeros["k"]).dtype == np.int32
    total = backend.add(tree, tree)
    assert numpy(total["w"]) == pytest.approx(2 * X)
    assert np.array_equal(numpy(total["k"]), [3, 4])  # those of the first


def test_convert_and_to_numpy():
    for value, dtype in (
        (1.5, "float64"),
        (np.float32(1.5), "float32"),
        (X, "float64"),
        (np.arange(3, dtype="int32"), "int32"),
    ):
        array = backend.convert(value)
        assert keras.backend.standardize_dtype(array.dtype) == dtype
        assert np.array_equal(numpy(array), value)
    assert numpy(backend.convert(X, "float32")).dtype == np.float32
    assert numpy(backend.convert(backend.convert(X), "float32")).dtype == np.float32
    assert float(backend.convert(0.1)) == 0.1  # not through float32
    both = numpy({"a": leaf(X), "b": (leaf(1.0),)})
    assert isinstance(both["a"], np.ndarray) and isinstance(both["b"][0], np.ndarray)


def test_snapshot_is_a_copy():
    variable = keras.Variable(X)
    copy = backend.snapshot(variable)
    variable.assign(X + 1.0)
    assert numpy(copy) == pytest.approx(X)


def test_synchronize_takes_any_tree():
    backend.synchronize(
        {"a": backend.jit(lambda x: x + 1.0)(X), "b": (leaf(1, "int32"),)}
    )
