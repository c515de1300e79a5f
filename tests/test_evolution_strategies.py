"""`EvolutionStrategies`: unbiased for the smoothed objective, rough or not."""

import numpy as np
import pytest
from keras import ops

import hypergrad as hg
from nets import NETS, optimizer_of, problem_of
from problems import UNIT, constant_rate, on_quadratic, quadratic
from registry import RULES

D = 5
MATRIX = np.random.default_rng(7).normal(size=(D, D))
SLOPE = np.random.default_rng(8).normal(size=D)


def of_values(loss, **space: hg.Float) -> hg.Problem:
    """A problem whose E is a function of its hyperparameters alone."""
    return on_quadratic(
        quadratic(),
        num_steps=1,
        update=lambda grads, state, hparams, aux, data: (state, {}),
        val_loss=lambda state, hparams, data: loss(hparams),
        space=space,
    )


def linear(hparams):
    return ops.sum(SLOPE * hparams["v"])


def curved(hparams):
    return linear(hparams) + 0.5 * ops.sum(ops.matmul(MATRIX, hparams["v"]) ** 2)


POINT = np.linspace(-1.0, 1.0, D)
UNBOUNDED = hg.Float(shape=(D,))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("loss", [linear, curved])
def test_unbiased(loss, seed):
    """Of a quadratic the smoothed gradient is the gradient, whatever σ."""
    problem = of_values(loss, v=UNBOUNDED)
    method = hg.EvolutionStrategies(pairs=64, sigma=0.7, seed=seed)
    h = hg.hypergradient(problem, {"v": POINT}, method)
    exact = hg.hypergradient(problem, {"v": POINT}).gradient["v"]
    error = h.info["standard_error"]["v"]
    assert h.status.ok and error.shape == (D,)
    assert np.all(np.abs(h.gradient["v"] - exact) <= 4.0 * error)
    assert np.all(error <= 0.5 * np.linalg.norm(exact))


def test_the_smoothed_gradient_of_a_wave():
    """𝔼 sin(u + σε) = exp(−σ²/2) sin u."""
    sigma, u = 0.8, 0.3
    problem = of_values(lambda h: ops.sin(h["v"]), v=hg.Float())
    method = hg.EvolutionStrategies(pairs=400, sigma=sigma)
    h = hg.hypergradient(problem, {"v": u}, method)
    smoothed = np.exp(-(sigma**2) / 2.0) * np.cos(u)
    error = h.info["standard_error"]["v"]
    assert abs(h.gradient["v"] - smoothed) <= 4.0 * error
    assert abs(smoothed - np.cos(u)) > 4.0 * error  # not the gradient itself
    assert h.loss == pytest.approx(np.sin(u))


def test_the_standard_error_shrinks_like_the_root_of_pairs():
    """Its square, averaged over seeds, falls like one over the number of pairs."""
    problem = of_values(curved, v=UNBOUNDED)

    def variance(pairs):
        methods = (hg.EvolutionStrategies(pairs, seed=s) for s in range(12))
        found = [hg.hypergradient(problem, {"v": POINT}, m).info for m in methods]
        return np.mean([info["standard_error"]["v"] ** 2 for info in found])

    ratio = np.sqrt(variance(8) / variance(64))
    assert np.sqrt(8.0) / 1.3 <= ratio <= np.sqrt(8.0) * 1.3


def test_the_standard_error_is_that_of_the_mean():
    """The spread of estimates over seeds is what one estimate says of itself."""
    problem = of_values(curved, v=UNBOUNDED)
    found = [
        hg.hypergradient(problem, {"v": POINT}, hg.EvolutionStrategies(16, seed=s))
        for s in range(40)
    ]
    spread = np.std([h.gradient["v"] for h in found], axis=0, ddof=1)
    said = np.mean([h.info["standard_error"]["v"] for h in found], axis=0)
    assert np.all(np.abs(np.log(spread / said)) <= np.log(1.5))


@pytest.mark.parametrize("rough", [ops.round, lambda x: ops.where(x > 0.0, 1.0, 0.0)])
def test_a_piecewise_constant_objective(rough):
    """A staircase: its derivative is 0 almost everywhere, its slope is not."""
    problem = of_values(lambda h: rough(3.0 * h["v"]), v=hg.Float())
    assert hg.hypergradient(problem, {"v": 0.05}).gradient["v"] == 0.0
    method = hg.EvolutionStrategies(pairs=64, sigma=0.3)
    h = hg.hypergradient(problem, {"v": 0.05}, method)
    assert h.gradient["v"] > 4.0 * h.info["standard_error"]["v"]


def test_an_opaque_step_without_a_derivative():
    """Weights rounded in every step: as in quantized training."""

    def step(state, hparams, batch, data):
        grads = ops.matmul(data["H"], state.weights) - data["b"]
        weights = ops.round(64.0 * (state.weights - hparams["rate"] * grads)) / 64.0
        return state._replace(weights=weights), {}

    q = quadratic()
    problem = on_quadratic(q, num_steps=5, step=step)
    smooth = hg.hypergradient(on_quadratic(q, num_steps=5), {"rate": 0.1})
    assert hg.hypergradient(problem, {"rate": 0.1}).gradient["rate"] == 0.0
    h = hg.hypergradient(problem, {"rate": 0.1}, hg.EvolutionStrategies(32, 0.1))
    assert h.gradient["rate"] == pytest.approx(smooth.gradient["rate"], rel=0.25)


@pytest.mark.parametrize(
    "range_", [hg.Float(1e-3, 1.0, sampling="log"), UNIT, hg.Float(0.0, None)]
)
def test_perturbed_on_the_unconstrained_line(range_):
    """A function that is linear there, with any σ: the estimate has no error."""
    value = 0.2

    def loss(hparams):
        return 3.0 * range_.to_unconstrained(hparams["v"])

    problem = of_values(loss, v=range_)
    h = hg.hypergradient(problem, {"v": value}, hg.EvolutionStrategies(200, 0.3))
    error = h.info["standard_error"]["v"]
    slope = range_.to_unconstrained_gradient(value, 1.0)
    assert abs(h.unconstrained_gradient["v"] - 3.0) <= 4.0 * error * slope
    assert h.gradient["v"] * slope == pytest.approx(h.unconstrained_gradient["v"])


def test_the_seed_and_the_values_decide():
    problem = of_values(curved, v=UNBOUNDED)

    def gradient(seed, point=POINT):
        method = hg.EvolutionStrategies(2, seed=seed)
        return hg.hypergradient(problem, {"v": point}, method).gradient["v"]

    assert np.array_equal(gradient(0), gradient(0))
    assert not np.any(gradient(0) == gradient(1))
    # E is linear up to σ: in the same directions the estimate would hardly move.
    moved = gradient(0, POINT + 1e-6)
    assert np.max(np.abs(moved - gradient(0))) > 1e-2


def test_several_hyperparameters_on_a_keras_model():
    optimizer, tuned = optimizer_of(RULES["SGD"], "momentum", "bare")
    problem, values = problem_of(NETS["tanh"], optimizer, tuned)
    exact = hg.hypergradient(problem, values)
    h = hg.hypergradient(problem, values, hg.EvolutionStrategies(24, 0.05))
    assert h.loss == pytest.approx(exact.loss, rel=1e-12)
    for name, expected in exact.gradient.items():
        error = h.info["standard_error"][name]
        assert abs(h.gradient[name] - expected) <= 4.0 * error + 0.05 * abs(expected)
    assert h.info["runs"] == 49.0


def test_pairs_that_diverge_are_counted():
    problem = of_values(lambda h: ops.where(h["v"] > 0.4, np.inf, h["v"]), v=hg.Float())
    method = hg.EvolutionStrategies(pairs=20, sigma=0.4)
    h = hg.hypergradient(problem, {"v": 0.0}, method)
    failed = h.info["nonfinite_pairs"]
    assert 1 <= failed < 20
    assert not h.status.ok and np.isnan(h.gradient["v"]) and h.loss == 0.0
    assert f"{failed} of 20 pairs of perturbed runs are not finite" in h.status.reason
    assert "lower `sigma` (0.4)" in h.status.reason
    small = hg.hypergradient(problem, {"v": 0.0}, hg.EvolutionStrategies(20, 0.01))
    assert small.status.ok and small.info["nonfinite_pairs"] == 0


@pytest.mark.parametrize(
    "range_, value",
    [(UNIT, 0.0), (UNIT, 1.0), (hg.Float(1e-8, 0.1, sampling="log", default=0.0), 0.0)],
)
def test_a_value_on_a_bound(range_, value):
    problem = of_values(lambda h: h["v"] ** 2, v=range_)
    h = hg.hypergradient(problem, {"v": value}, hg.EvolutionStrategies(2))
    assert not h.status.ok and h.status.variable == "v"
    assert "`v` must lie strictly inside [" in h.status.reason
    assert f"Received: {value}. Start from `Float.interior(value)`" in h.status.reason


def test_values_with_a_constraint_are_projected():
    seen = []

    def capped(v):
        seen.append(v)
        return np.clip(v, 0.0, 0.5)

    range_ = hg.Float(0.0, 1.0, shape=(2,), constraint=capped)
    problem = of_values(lambda h: ops.sum(h["v"]), v=range_)
    method = hg.EvolutionStrategies(50, 0.1)
    h = hg.hypergradient(problem, {"v": np.array([0.25, 0.5])}, method)
    assert len(seen) > 100
    # In the middle the projection does nothing; on the cap half of the moves are lost.
    error = h.info["standard_error"]["v"]
    assert np.all(np.abs(h.gradient["v"] - [1.0, 0.5]) <= 4.0 * error)


def test_a_tune_over_a_staircase():
    problem = of_values(
        lambda h: ops.round(4.0 * (h["v"] - 2.0) ** 2), v=hg.Float(default=0.0)
    )
    method = hg.EvolutionStrategies(8, 0.2)
    result = hg.tune(problem, method=method, outer_steps=8, verbose=0)
    assert result.history["val_loss"][0] == 16.0
    assert result.loss <= 4.0


def test_one_pair_has_no_standard_error():
    form = constant_rate()
    h = hg.hypergradient(form.problem, form.values, hg.EvolutionStrategies(1))
    assert h.status.ok and np.isnan(h.info["standard_error"]["rate"])


@pytest.mark.parametrize(
    "given, text",
    [
        ({"pairs": 0}, "`pairs` of EvolutionStrategies must be an int of at least 1"),
        ({"pairs": 2.0}, "`pairs` of EvolutionStrategies must be an int of at least 1"),
        ({"sigma": 0.0}, "`sigma` of EvolutionStrategies must be a finite number abo"),
        ({"sigma": np.inf}, "`sigma` of EvolutionStrategies must be a finite number"),
        ({"sigma": None}, "`sigma` of EvolutionStrategies must be a finite number ab"),
        ({"seed": -1}, "`seed` of EvolutionStrategies must be an int of at least 0"),
        ({"seed": True}, "`seed` of EvolutionStrategies must be an int of at least 0"),
    ],
)
def test_settings_are_checked(given, text):
    with pytest.raises(ValueError, match=text):
        hg.EvolutionStrategies(**given)
