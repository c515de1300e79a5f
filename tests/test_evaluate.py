"""`hg.evaluate`: E alone, the number of every other verb."""

import numpy as np
import pytest

import hypergrad as hg
from problems import constant_rate
from test_average import RATE, build, problem_of


@pytest.fixture(scope="module")
def problem():
    return problem_of(build(), average=2)


def test_the_loss_of_a_hypergradient(problem):
    found = hg.evaluate(problem, {RATE: 0.08})
    h = hg.hypergradient(problem, {RATE: 0.08})
    assert found.status.ok
    assert found.loss == pytest.approx(h.loss, rel=1e-14)
    assert found.metrics == pytest.approx(h.metrics, rel=1e-14)
    assert found.info["runs"] == 2.0
    np.testing.assert_allclose(found.info["train_losses"], h.info["train_losses"])
    samples = found.info["samples"]["loss"]
    np.testing.assert_allclose(samples, h.info["samples"]["loss"])


def test_functions():
    form = constant_rate()
    found = hg.evaluate(form.problem)
    assert found.loss == pytest.approx(hg.hypergradient(form.problem).loss)
    assert found.info["runs"] == 1.0


def test_what_diverges_says_so():
    problem = problem_of(build(), hyperparameters={RATE: hg.Float(1e-3, 1e200)})
    found = hg.evaluate(problem, {RATE: 1e190})
    assert not found.status.ok
    assert not np.isfinite(found.loss)
    with pytest.raises(hg.NonFiniteError, match="not finite"):
        hg.evaluate(problem, {RATE: 1e190}, raise_on_failure=True)


def test_bad_input(problem):
    with pytest.raises(TypeError, match="needs a hypergrad.Problem"):
        hg.evaluate(build())
    with pytest.raises(ValueError, match="must lie in"):
        hg.evaluate(problem, {RATE: 0.9})
