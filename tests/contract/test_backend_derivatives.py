"""Derivatives of ``backend/contract.py``: the same NumPy answers on both backends.

Split by dtype, nested, in loops, and through the layers that TensorFlow and Keras get
wrong without our repairs.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

from finite_differences import central
from hypergrad import backend

X = np.array([0.5, -1.0, 2.0])


def numpy(tree):
    return backend.to_numpy(tree)


def leaf(value, dtype=None):
    return backend.convert(np.asarray(value, dtype))


def mixed(x, count):
    """Float and integer leaves in, float and integer leaves out."""
    return {"cube": ops.sum(x["w"] ** 3), "next": count + 1, "k": x["k"]}


MIXED = {"w": X, "k": np.array([3, 4], "int32")}


def test_vjp_carries_integer_leaves():
    out, pullback = backend.vjp(mixed, _leaves(MIXED), leaf(4, "int32"))
    assert numpy(out["cube"]) == pytest.approx(np.sum(X**3))
    assert int(out["next"]) == 5
    for scale in (1.0, -2.0):  # called repeatedly
        cotangent = {"cube": leaf(scale), "next": leaf(9, "int32"), "k": leaf([0, 0])}
        d_x, d_count = pullback(cotangent)
        assert numpy(d_x["w"]) == pytest.approx(scale * 3 * X**2)
        assert numpy(d_x["k"]).dtype == np.int32
        assert np.array_equal(numpy(d_x["k"]), [0, 0])
        assert int(d_count) == 0


def _leaves(tree):
    return keras.tree.map_structure(backend.convert, tree)


def test_jvp_carries_integer_leaves_and_ignores_their_tangents():
    direction = {"w": leaf([1.0, 0.0, 2.0]), "k": leaf([7, 7], "int32")}
    out, tangent = backend.jvp(
        mixed, (_leaves(MIXED), leaf(1, "int32")), (direction, leaf(5, "int32"))
    )
    assert int(out["next"]) == 2
    assert numpy(tangent["cube"]) == pytest.approx(3 * X[0] ** 2 + 6 * X[2] ** 2)
    assert int(tangent["next"]) == 0
    assert np.array_equal(numpy(tangent["k"]), [0, 0])


def test_jvps_are_the_jvps_of_each_direction():
    directions = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [-1.0, 3.0, 0.5]])
    primals = (_leaves(MIXED), leaf(1, "int32"))
    whole = ({"w": leaf(directions), "k": leaf([7, 7], "int32")}, leaf(5, "int32"))
    out, tangents = backend.jvps(mixed, primals, whole)
    assert int(out["next"]) == 2 and int(tangents["next"]) == 0
    assert np.array_equal(numpy(tangents["k"]), [0, 0])
    for k, direction in enumerate(directions):
        one = ({"w": leaf(direction), "k": leaf([7, 7], "int32")}, leaf(5, "int32"))
        expected = numpy(backend.jvp(mixed, primals, one)[1]["cube"])
        assert numpy(tangents["cube"])[k] == pytest.approx(expected)


def test_grad_differentiates_by_the_first_argument():
    def loss(x, y, flag):
        return ops.sum(x["w"] ** 2 * y), {"aux": x["k"] + flag}

    arguments = (_leaves(MIXED), leaf([1.0, 2.0, 3.0]), leaf(1, "int32"))
    (value, aux), gradient = backend.value_and_grad(loss, has_aux=True)(*arguments)
    assert numpy(value) == pytest.approx(np.sum(X**2 * [1, 2, 3]))
    assert np.array_equal(numpy(aux["aux"]), [4, 5])
    assert numpy(gradient["w"]) == pytest.approx(2 * X * [1, 2, 3])
    assert np.array_equal(numpy(gradient["k"]), [0, 0])
    again, aux = backend.grad(loss, has_aux=True)(*arguments)
    assert np.array_equal(numpy(again["w"]), numpy(gradient["w"]))
    value, _ = backend.value_and_grad(lambda x: ops.sum(x))(leaf(X))
    assert numpy(value) == pytest.approx(X.sum())


def test_what_is_not_reached_has_a_zero_derivative():
    gradient = backend.grad(lambda x: ops.sum(x["a"]))({"a": leaf(X), "b": leaf(X)})
    assert np.array_equal(numpy(gradient["b"]), np.zeros(3))
    _, tangent = backend.jvp(lambda x: leaf(X), (leaf(X),), (leaf(X),))
    assert np.array_equal(numpy(tangent), np.zeros(3))
    _, pullback = backend.vjp(lambda x: leaf(X), leaf(X))
    assert np.array_equal(numpy(pullback(leaf(X))[0]), np.zeros(3))


def test_one_array_in_two_places_has_two_derivatives():
    x = leaf(X)
    gradient = backend.grad(lambda t: ops.sum(t[0] * t[0] * t[1]))((x, x))
    assert numpy(gradient[0]) == pytest.approx(2 * X**2)
    assert numpy(gradient[1]) == pytest.approx(X**2)


def test_an_embedding_has_a_dense_gradient():
    table = leaf(np.arange(8.0).reshape(4, 2))
    rows = leaf([1, 3, 1], "int32")
    gradient = backend.grad(lambda t: ops.sum(ops.take(t, rows, axis=0)))(table)
    assert np.array_equal(numpy(gradient), [[0, 0], [2, 2], [0, 0], [1, 1]])


def test_derivatives_nest():
    def f(v):
        return ops.sum(v**4)

    v, d = leaf(X), leaf([1.0, -1.0, 0.5])
    hessian_times = 12 * X**2 * np.array([1.0, -1.0, 0.5])

    def reverse_over_reverse(v):
        return backend.grad(lambda v: ops.sum(backend.grad(f)(v) * d))(v)

    def forward_over_reverse(v):
        return backend.jvp(backend.grad(f), (v,), (d,))[1]

    def vjp_of_grad(v):
        return backend.vjp(backend.grad(f), v).pullback(d)[0]

    def reverse_over_forward(v):
        return backend.grad(lambda v: backend.jvp(f, (v,), (d,))[1])(v)

    for product in (
        reverse_over_reverse,
        forward_over_reverse,
        vjp_of_grad,
        reverse_over_forward,
    ):
        assert numpy(product(v)) == pytest.approx(hessian_times), product
        assert numpy(backend.jit(product)(v)) == pytest.approx(hessian_times), product
    third = backend.grad(backend.grad(backend.grad(lambda v: v**4)))
    assert float(third(leaf(2.0))) == pytest.approx(48.0)


def test_pullback_inside_of_a_loop():
    """What a sweep does: a vjp in each step of a loop over stored states."""

    def sweep(x, n):
        def body(i, adjoint):
            return backend.vjp(lambda x: ops.sin(x), x).pullback(adjoint)[0]

        return backend.fori_loop(n, body, backend.zeros_like(x) + 1.0)

    found = backend.jit(sweep)(X, np.int32(3))
    assert numpy(found) == pytest.approx(np.cos(X) ** 3)


def test_checkpoint_recomputes_and_changes_nothing():
    def f(x):
        return ops.sum(ops.sin(x) ** 2)

    plain = backend.grad(f)(leaf(X))
    again = backend.grad(backend.checkpoint(f))(leaf(X))
    assert numpy(again) == pytest.approx(numpy(plain), rel=1e-14)
    compiled = backend.jit(lambda x: backend.grad(backend.checkpoint(f))(x))(X)
    assert numpy(compiled) == pytest.approx(numpy(plain), rel=1e-14)


# Two silent wrong numbers of the frameworks


@pytest.mark.parametrize(
    "function, expected",
    [("tanh", np.tanh), ("sin", np.sin), ("arctan", np.arctan)],
)
def test_float64_is_float64(function, expected):
    found = numpy(getattr(ops, function)(leaf(X)))
    assert found.dtype == np.float64
    assert np.max(np.abs(found - expected(X))) <= 4e-16


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: layers.LayerNormalization(epsilon=0.01), (5, 4)),
        (lambda: layers.BatchNormalization(epsilon=0.01), (5, 4)),
        (lambda: layers.BatchNormalization(epsilon=0.01), (3, 2, 2, 3)),
        (lambda: layers.GroupNormalization(2, epsilon=0.01), (5, 4)),
        (lambda: layers.RMSNormalization(epsilon=0.01), (5, 4)),
        (lambda: layers.UnitNormalization(), (5, 4)),
    ],
    ids=["layer", "batch", "batch-image", "group", "rms", "unit"],
)
def test_hessian_vector_products_through_normalisations(layer, shape):
    """Reverse and forward over reverse against differences of gradients."""
    layer = layer()
    layer.build(shape)
    draw = np.random.default_rng(0)
    x, c, v = draw.normal(size=(3, *shape))

    def loss(x):
        with keras.StatelessScope():
            return ops.sum(ops.sin(layer(x, training=True)) * c)

    gradient = backend.jit(backend.grad(loss))
    forward = backend.jit(
        lambda x: backend.jvp(backend.grad(loss), (x,), (leaf(v),))[1]
    )
    reverse = backend.jit(
        lambda x: backend.vjp(backend.grad(loss), x).pullback(leaf(v))[0]
    )
    index = np.unravel_index(np.argmax(np.abs(numpy(reverse(x)))), shape)
    along = central(lambda t: float(numpy(gradient(x + t * v))[index]), 0.0, 0.05)
    assert along.relative_error <= 1e-6
    for product in (forward, reverse):
        found = numpy(product(x))[index]
        assert abs(found - along.value) <= 1e-6 * abs(along.value) + 3 * along.error
    assert np.max(np.abs(numpy(forward(x)) - numpy(reverse(x)))) <= 1e-12


def test_roots_have_a_finite_derivative_at_zero_while_asked_for():
    x = np.array([0.0, 4.0, 2.0])

    def total(x):
        with backend.finite_roots():
            return ops.sum(ops.sqrt(x))

    def slope(x):
        return ops.sum(ops.square(backend.grad(total)(x)))

    first = numpy(backend.jit(backend.grad(total))(leaf(x)))
    assert first == pytest.approx([0.5, 0.25, 0.5 / np.sqrt(2.0)])
    second = numpy(backend.jit(backend.grad(slope))(leaf(x)))
    assert np.isfinite(second).all()
    with backend.finite_roots():
        np.testing.assert_array_equal(numpy(ops.sqrt(leaf(x))), np.sqrt(x))
    assert numpy(backend.grad(lambda x: ops.sum(ops.sqrt(x)))(leaf(x)))[0] == np.inf
