"""Samples in one vectorised program: the numbers of one after the other."""

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad import backend
from hypergrad.at_once import AtOnce, Together, over_samples
from hypergrad.averaged import Averaged
from hypergrad.backend import Traces
from nets import NETS, optimizer_of, problem_of
from registry import RULES
from test_average import RATE, build, data, of_functions
from test_average import problem_of as noisy_problem


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Samples run as one program, as they do on a GPU."""
    monkeypatch.setattr(backend, "vectorises_runs", lambda: True)


def check(problem, method, rtol=1e-10):
    """Both strategies agree in all that a hypergradient says."""
    one = hg.hypergradient(problem, method=method)
    values = problem.values()
    over = AtOnce(method)
    assert over_samples(problem, method) == over
    tape = over.run(problem, values)
    assert isinstance(tape.extra, Together)
    assert tape.loss == one.loss
    other = Averaged(method)
    tape = other.run(problem, values)
    swept = other.sweep(problem, tape)
    assert one.loss == pytest.approx(tape.loss, rel=1e-12)
    assert one.metrics == pytest.approx(tape.metrics, rel=1e-12)
    np.testing.assert_allclose(one.info["train_losses"], tape.train_losses, rtol=1e-12)
    assert len(set(one.info["samples"]["loss"])) == problem.average
    for name, gradient in swept.gradient.items():
        scale = np.abs(gradient).max()
        assert scale > 0.0
        options = {"rtol": rtol, "atol": rtol * scale}
        np.testing.assert_allclose(one.gradient[name], gradient, **options)
        found = one.info["samples"]["gradient"][name]
        expected = swept.info["samples"]["gradient"][name]
        np.testing.assert_allclose(found, expected, **options)
    for found, expected in zip(one.info["final_state"].weights, tape.final.weights):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    assert one.info["runs"] == pytest.approx(swept.info["runs"])
    return one


@pytest.fixture(scope="module")
def noisy():
    keras.utils.set_random_seed(0)
    return noisy_problem(build(), average=3)


@pytest.mark.parametrize(
    "method", [hg.Reverse(), hg.Reverse("log"), hg.Truncated(2)], ids=str
)
def test_noise_and_momentum(noisy, method):
    check(noisy, method)


def test_batch_normalization_and_adam():
    optimizer, tuned = optimizer_of(RULES["Adam"], "plain", "decay")
    problem, _ = problem_of(NETS["cnn-batchnorm"], optimizer, tuned, average=2)
    check(problem, hg.Reverse(), rtol=1e-7)


def test_a_recurrent_layer():
    model = keras.Sequential(
        [keras.layers.Input((3, 1)), keras.layers.GRU(2), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse", jit_compile=False)
    check(noisy_problem(model, hyperparameters=[RATE], average=2), hg.Reverse())


def test_schedules_and_a_number_for_each_example():
    x, _, _ = data()
    space = {
        RATE: hg.Schedule(hg.PerVariable(hg.Float(0.01, 0.2)), knots=3),
        "data.sample_weight": hg.Float(0.0, 2.0, shape=(len(x),), default=1.0),
    }
    check(noisy_problem(build(), hyperparameters=space, average=2), hg.Reverse())


def test_a_partial_batch():
    check(noisy_problem(build(), batch_size=5, average=2), hg.Reverse())


def test_a_learned_start_is_one_for_all():
    space = {"initial.dense.bias": hg.Float(-1.0, 1.0, shape=(3,), default=0.1)}
    check(noisy_problem(build(), hyperparameters=space, average=2), hg.Reverse())


def test_functions():
    check(of_functions(True), hg.Reverse())
    check(of_functions(False), hg.Reverse())


def test_functions_with_a_bind_run_one_after_the_other():
    form = of_functions(True)
    bound = form.replace(bind=lambda hparams: dict(hparams))
    assert isinstance(over_samples(bound, hg.Reverse()), Averaged)
    assert hg.hypergradient(bound).loss == pytest.approx(hg.hypergradient(form).loss)


def test_batches_of_other_shapes_run_one_after_the_other():
    problem = hg.Problem(
        init=lambda hparams: {"w": keras.ops.ones((), "float64")},
        step=lambda s, hparams, batch: (
            {"w": s["w"] - hparams["rate"] * keras.ops.mean(s["w"] - batch)},
            {},
        ),
        val_loss=lambda s, hparams: s["w"] ** 2,
        num_steps=3,
        space={"rate": hg.Float(0.0, 1.0, default=0.1)},
        batches=lambda t: np.ones(2),
        average=2,
        samples=lambda i: {"batches": lambda t: np.full(2 + t % 2, 0.5)},
    )
    assert isinstance(over_samples(problem, hg.Reverse()), Averaged)
    assert hg.hypergradient(problem).status.ok


def test_other_methods_run_one_after_the_other():
    problem = noisy_problem(build(), average=2)
    assert isinstance(over_samples(problem, hg.Forward()), Averaged)


def test_a_cpu_runs_one_after_the_other(monkeypatch):
    monkeypatch.undo()
    assert not backend.vectorises_runs()
    problem = noisy_problem(build(), average=2)
    assert isinstance(over_samples(problem, hg.Reverse()), Averaged)


def test_nothing_is_compiled_twice():
    problem = noisy_problem(build(), average=2)
    hg.hypergradient(problem)
    before = Traces.total
    hg.hypergradient(problem, {RATE: 0.1})
    hg.hypergradient(problem.replace(num_steps=6))
    assert Traces.total == before


def test_a_sample_that_diverges_is_named():
    space = {RATE: hg.Float(1e-3, 1e200)}
    problem = noisy_problem(build(), hyperparameters=space, average=2, steps=8)
    h = hg.hypergradient(problem, {RATE: 1e190})
    assert not h.status.ok
    assert h.status.reason.startswith("Sample 0: ")
    assert np.isnan(h.gradient[RATE])


def test_estimates_and_descents():
    problem = noisy_problem(build(), average=2)
    single = noisy_problem(build())
    estimate, one = hg.estimate(problem), hg.estimate(single)
    assert 1.9 * one.bytes < estimate.bytes < 2.6 * one.bytes
    result = hg.tune(problem, outer_steps=2, screening=None)
    assert result.history["val_loss"][-1] <= result.history["val_loss"][0]
