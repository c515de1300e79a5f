"""Solvers of A v = b on matrices that are written down."""

import math
import re

import numpy as np
import pytest
from keras import ops

from hypergrad import backend
from hypergrad.backend import Traces
from hypergrad.linear import CG, FixedPoint, Identity, Neumann, Nystrom, Operator
from registry import SOLVERS

SIZE = 7
BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(SIZE, SIZE)))[0]
RIGHT = np.random.default_rng(1).normal(size=SIZE)
DEFINITE = np.array([0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0])
INDEFINITE = np.array([-0.2, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0])


def matrix(eigenvalues) -> np.ndarray:
    return (BASIS * np.asarray(eigenvalues, float)) @ BASIS.T


def as_tree(flat) -> dict:
    """Seven numbers as two arrays and a scalar, beside a counter that is no number."""
    return {
        "a": backend.convert(np.reshape(flat[:4], (2, 2))),
        "b": [backend.convert(flat[4:6]), backend.convert(np.asarray(flat[6]))],
        "count": backend.convert(np.int32(3)),
    }


def as_flat(value) -> np.ndarray:
    a, b, c = backend.to_numpy([value["a"], *value["b"]])
    return np.concatenate([a.ravel(), b, c[None]])


class Counted:
    """The operator of a matrix, which counts its products."""

    def __init__(self, array):
        self.products = 0
        self._array = backend.convert(array)
        self._programs = {}
        self.operator = Operator(self.product, self.program)

    def product(self, v):
        self.products += 1

        def multiplied(array, v):
            flat = ops.concatenate(
                [ops.reshape(leaf, (-1,)) for leaf in (v["a"], *v["b"])]
            )
            out = ops.matmul(array, flat)
            return {
                "a": ops.reshape(out[:4], (2, 2)),
                "b": [out[4:6], out[6]],
                "count": v["count"],
            }

        return self.program("product", lambda: multiplied)(self._array, v)

    def program(self, key, build):
        if key not in self._programs:
            self._programs[key] = backend.jit(build())
        return self._programs[key]


def solve(solver, array, right=RIGHT):
    """(solution with a flat x, relative residual computed here)."""
    counted = Counted(np.eye(SIZE) - array if solver.of_step else array)
    found = solver.solve(counted.operator, as_tree(right))
    assert found.products == counted.products <= solver.products
    flat = as_flat(found.x)
    residual = np.linalg.norm(array @ flat - right) / np.linalg.norm(right)
    return found._replace(x=flat), residual


@pytest.mark.parametrize("name", SOLVERS)
def test_solution_and_residual(name):
    solver = SOLVERS[name].make()
    array = matrix(DEFINITE / 2 if solver.of_step else DEFINITE)
    found, residual = solve(solver, array)
    assert found.status.ok
    assert found.residual == pytest.approx(residual, rel=1e-8, abs=1e-14)
    error = np.max(np.abs(found.x - np.linalg.solve(array, RIGHT)))
    assert (error < 1e-10) == SOLVERS[name].solves
    assert (residual < 1e-10) == SOLVERS[name].solves


@pytest.mark.parametrize("name", SOLVERS)
def test_nothing_to_solve(name):
    solver = SOLVERS[name].make()
    counted = Counted(matrix(DEFINITE))
    found = solver.solve(counted.operator, as_tree(np.zeros(SIZE)))
    assert found.residual == 0.0 or solver.of_step
    assert not np.any(as_flat(found.x))


@pytest.mark.parametrize("name", SOLVERS)
def test_another_matrix_compiles_nothing(name):
    solver = SOLVERS[name].make()
    counted = Counted(matrix(DEFINITE / 2))
    solver.solve(counted.operator, as_tree(RIGHT))
    before = Traces.total
    counted._array = backend.convert(matrix(DEFINITE[::-1] / 3))
    solver.solve(counted.operator, as_tree(2.0 * RIGHT))
    assert Traces.total == before


@pytest.mark.parametrize("num_terms", [1, 2, 6])
def test_neumann_is_its_series(num_terms):
    array, scale = matrix(DEFINITE), 0.3
    step = np.eye(SIZE) - scale * array
    powers = [np.linalg.matrix_power(step, k) for k in range(num_terms)]
    found, residual = solve(Neumann(num_terms, scale), array)
    assert found.x == pytest.approx(scale * sum(powers) @ RIGHT, rel=1e-12)
    left = np.linalg.matrix_power(step, num_terms) @ RIGHT
    expected = np.linalg.norm(left) / np.linalg.norm(RIGHT)
    assert residual == pytest.approx(expected, rel=1e-12)


def test_neumann_scales_by_the_largest_eigenvalue():
    found, _ = solve(Neumann(1), matrix(DEFINITE))
    scale = found.x[0] / RIGHT[0]
    assert found.x == pytest.approx(scale * RIGHT)
    assert 1.0 / 3.0 <= scale <= 1.3 / 3.0
    assert 1 + 2 <= found.products <= 1 + 8


@pytest.mark.parametrize(
    "eigenvalues, scale, text",
    [
        (DEFINITE, 0.8, "term 2 is 1.2. times term 1, at scale 0.8"),
        (INDEFINITE, 0.3, "term"),
        (INDEFINITE, None, "term"),
        (0.0 * DEFINITE, 0.3, "the residual is 1, that of v = 0 is 1"),
        (math.nan * DEFINITE, 0.3, "term 1 is nan times"),
    ],
)
def test_neumann_says_that_it_diverges(eigenvalues, scale, text):
    found, _ = solve(Neumann(100, scale), matrix(eigenvalues))
    assert not found.status.ok
    assert found.status.variable == "hypergradient"
    assert "The Neumann series diverges" in found.status.reason
    assert "`CG(damping=…)`" in found.status.reason
    assert re.search(text, found.status.reason)


def test_neumann_without_curvature():
    found, _ = solve(Neumann(100), 0.0 * matrix(DEFINITE))
    assert "found no curvature to scale its terms by" in found.status.reason


def test_cg_meets_negative_curvature():
    found, _ = solve(CG(), matrix(INDEFINITE))
    assert not found.status.ok
    assert "met a direction p with p'Ap = -" in found.status.reason
    assert "`CG(damping=…)`, here 0" in found.status.reason


def test_cg_with_damping():
    array = matrix(INDEFINITE)
    found, residual = solve(CG(1e-13, damping=0.5), array)
    assert found.status.ok
    expected = np.linalg.solve(array + 0.5 * np.eye(SIZE), RIGHT)
    assert found.x == pytest.approx(expected, rel=1e-10)
    assert found.residual == pytest.approx(residual) and residual > 0.1


def test_cg_that_does_not_converge():
    found, _ = solve(CG(1e-8, max_iterations=2), matrix(DEFINITE))
    assert not found.status.ok
    assert "in 2 iterations, expected 1e-08" in found.status.reason
    found, residual = solve(CG(None, max_iterations=2), matrix(DEFINITE))
    assert found.status.ok and found.products == 3
    assert found.residual == pytest.approx(residual) and 1e-8 < residual < 1.0


def test_cg_stops_where_it_is_exact():
    found, residual = solve(CG(None), np.eye(SIZE))
    assert found.status.ok and found.products == 2 and residual == 0.0


@pytest.mark.parametrize("rank", [3, 5, 7, 50])
def test_nystrom_of_a_matrix_of_low_rank(rank):
    array = matrix([0, 0, 0, 0, 1.0, 2.0, 3.0])
    found, residual = solve(Nystrom(rank, rho=0.1), array)
    expected = np.linalg.solve(array + 0.1 * np.eye(SIZE), RIGHT)
    assert found.x == pytest.approx(expected, rel=1e-9)
    assert found.residual == pytest.approx(residual)
    assert found.products == min(rank, SIZE) + 1


def test_nystrom_of_some_columns():
    array = matrix(DEFINITE)
    seeds = [solve(Nystrom(3, rho=0.2, seed=seed), array)[0].x for seed in (0, 0, 1)]
    columns = np.sort(np.random.default_rng(0).choice(SIZE, 3, replace=False))
    c = array[:, columns]
    low_rank = c @ np.linalg.solve(c[columns], c.T)
    expected = np.linalg.solve(low_rank + 0.2 * np.eye(SIZE), RIGHT)
    assert seeds[0] == pytest.approx(expected, rel=1e-9)
    assert np.array_equal(seeds[0], seeds[1])
    assert not np.allclose(seeds[0], seeds[2])


def test_nystrom_of_an_indefinite_matrix():
    found, _ = solve(Nystrom(7, rho=0.1), matrix(INDEFINITE))
    assert not found.status.ok
    assert "found an eigenvalue of at most -0.2, below -rho = -0.1" in (
        found.status.reason
    )


def test_fixed_point_is_its_sum():
    step = np.eye(SIZE) - matrix(DEFINITE / 2)
    found, residual = solve(FixedPoint(3), matrix(DEFINITE / 2))
    assert found.x == pytest.approx(RIGHT + step @ RIGHT + step @ step @ RIGHT)
    left = np.linalg.matrix_power(step, 3) @ RIGHT
    assert residual == pytest.approx(np.linalg.norm(left) / np.linalg.norm(RIGHT))


@pytest.mark.parametrize("eigenvalues", [3 * DEFINITE, 0 * DEFINITE])
def test_fixed_point_says_that_the_step_does_not_contract(eigenvalues):
    found, _ = solve(FixedPoint(50), matrix(eigenvalues))
    assert not found.status.ok
    assert "does not contract at the last state: after 50" in found.status.reason


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: CG(tolerance=0.0), "`tolerance` of CG must be a finite number above"),
        (lambda: CG(tolerance="small"), "or None to take `max_iterations` products"),
        (lambda: CG(max_iterations=0), "`max_iterations` of CG must be an int of at"),
        (lambda: CG(damping=-1.0), "`damping` of CG must be a finite number at least"),
        (lambda: CG(damping=None), "`damping` of CG must be a finite number at least"),
        (lambda: Neumann(0), "`num_terms` of Neumann must be an int of at least 1"),
        (lambda: Neumann(2.0), "Received: 2.0"),
        (lambda: Neumann(True), "Received: True"),
        (lambda: Neumann(3, 0.0), "or None for an estimate of 1/λ_max. Received: 0.0"),
        (lambda: Neumann(3, math.inf), "`scale` of Neumann must be a finite number"),
        (lambda: Nystrom(0), "`rank` of Nystrom must be an int of at least 1"),
        (lambda: Nystrom(3, rho=0.0), "`rho` of Nystrom must be a finite number above"),
        (lambda: Nystrom(3, seed=-1), "`seed` of Nystrom must be an int of at least 0"),
        (lambda: FixedPoint(0), "`num_iterations` of FixedPoint must be an int of at"),
    ],
)
def test_arguments(make, text):
    with pytest.raises(ValueError) as error:
        make()
    assert text in str(error.value)


def test_identity_takes_b():
    found, residual = solve(Identity(), matrix(DEFINITE))
    assert np.array_equal(found.x, RIGHT)
    assert found.residual == pytest.approx(residual) and found.products == 1
