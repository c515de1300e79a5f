"""`PersistentES`: truncated unrolls whose estimate is right over the whole run."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from keras import ops

import hypergrad as hg
from problems import UNIT, constant_rate, on_quadratic, opaque, quadratic

N = 23
SIGNS = np.array([1.0] * 10 + [-1.0] * 13)
DYNAMICS = 0.5 * np.eye(N) + 0.5 * np.eye(N, k=1)


class Carried(NamedTuple):
    """``s``: array (n,); ``total``: scalar, the sum of losses so far."""

    s: Any
    total: Any


def influence_balancing(num_steps: int, *, of_sum: bool = False) -> hg.Problem:
    """s ← A s + θ · signs, loss ½ (s₀ − 1)² (Vicol et al. 2021, section 5).

    What θ does early has the other sign than what it does late. ``of_sum``: E is the
    sum of the losses after each step instead of the last one.
    """

    def init(hparams, data):
        zero = 0.0 * hparams["theta"]
        return Carried(ops.zeros_like(data["signs"]) * zero, zero)

    def loss(s):
        return 0.5 * (s[0] - 1.0) ** 2

    def step(state, hparams, batch, data):
        s = ops.matmul(data["A"], state.s) + hparams["theta"] * data["signs"]
        return Carried(s, state.total + loss(s)), {"loss": loss(s)}

    return hg.Problem(
        init=init,
        step=step,
        val_loss=lambda state, h, data: state.total if of_sum else loss(state.s),
        num_steps=num_steps,
        space={"theta": hg.Float(default=0.5)},
        data={"A": DYNAMICS, "signs": SIGNS},
    )


def steady(num_steps: int) -> float:
    """ds₀/dθ after that many steps."""
    s = np.zeros(N)
    for _ in range(num_steps):
        s = DYNAMICS @ s + SIGNS
    return float(s[0])


def agrees(h: hg.Hypergradient, exact: hg.Hypergradient, known: float = 1.0) -> None:
    """Within 4 standard errors, which are below that part of the gradient."""
    assert h.status.ok, h.status
    for name, expected in exact.gradient.items():
        error = h.info["standard_error"][name]
        assert np.all(np.abs(h.gradient[name] - expected) <= 4.0 * error), name
        assert np.max(error) <= known * np.max(np.abs(expected)), name


@pytest.mark.parametrize(
    "num_steps, expected",
    [(1, 1.0), (5, 5.0), (10, 10.0), (20, 16.48), (25, 14.20), (50, -4.75)],
)
def test_the_influence_is_the_known_one(num_steps, expected):
    assert steady(num_steps) == pytest.approx(expected, abs=5e-3)
    exact = hg.hypergradient(influence_balancing(num_steps))
    s0 = 0.5 * steady(num_steps)
    assert exact.gradient["theta"] == pytest.approx((s0 - 1.0) * steady(num_steps))


def test_influence_balancing():
    problem = influence_balancing(60)
    exact = hg.hypergradient(problem)
    short = hg.hypergradient(problem, method=hg.Truncated(30))
    assert exact.gradient["theta"] > 10.0 > 0.0 > short.gradient["theta"]
    h = hg.hypergradient(problem, method=hg.PersistentES(250, 0.1, truncation=30))
    agrees(h, exact, known=1 / 3)
    assert h.gradient["theta"] > 2.0 * h.info["standard_error"]["theta"]
    assert h.loss == pytest.approx(exact.loss)


def test_whole_runs_know_more_of_the_end():
    """What the docstring says of the standard error."""
    problem = influence_balancing(60)
    whole = hg.hypergradient(problem, method=hg.EvolutionStrategies(100, 0.1))
    for truncation in (10, 30):
        method = hg.PersistentES(100, 0.1, truncation=truncation)
        h = hg.hypergradient(problem, method=method)
        errors = (x.info["standard_error"]["theta"] for x in (h, whole))
        assert 3.0 <= next(errors) / next(errors) <= 7.0


def test_influence_balancing_of_the_sum():
    exact = hg.hypergradient(influence_balancing(60, of_sum=True))
    problem = influence_balancing(60)
    method = hg.PersistentES(100, 0.1, truncation=10, objective="sum")
    h = hg.hypergradient(problem, method=method)
    agrees(h, exact, known=0.25)
    assert h.loss == pytest.approx(exact.loss)
    assert h.info["val_loss"] == pytest.approx(hg.hypergradient(problem).loss)


def accumulating(**parts: Any) -> dict[str, Any]:
    """A quadratic E at the end of linear dynamics: smoothing changes no gradient."""

    def init(hparams, data):
        start = hparams.get("start", data["start"])
        return Carried(start, ops.zeros_like(start[0]))

    def step(state, hparams, batch, data):
        s = ops.matmul(data["M"], state.s) + hparams["push"] * data["b"]
        return state._replace(s=s), {}

    draw = np.random.default_rng(1)
    given: dict[str, Any] = {
        "init": init,
        "step": step,
        "val_loss": lambda state, hparams, data: 0.5 * ops.sum(state.s**2),
        "num_steps": 7,
        "data": {
            "M": np.eye(3) + 0.2 * draw.normal(size=(3, 3)),
            "b": draw.normal(size=3),
            "start": draw.normal(size=3),
        },
    }
    return given | parts


@pytest.mark.parametrize("truncation", [1, 3, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_unbiased_through_the_initial_state_too(truncation, seed):
    space = {"push": hg.Float(default=0.4), "start": hg.Float(shape=(3,), default=0.5)}
    problem = hg.Problem(**accumulating(space=space))
    method = hg.PersistentES(100, 0.2, truncation=truncation, seed=seed)
    agrees(hg.hypergradient(problem, method=method), hg.hypergradient(problem), 0.5)


def test_numbers_per_step_see_the_perturbation_of_their_truncation():
    problem = hg.Problem(
        **accumulating(
            space={"push": hg.Float(shape=(7,), default=0.4)},
            bind=lambda h: {"push": hg.PerStep(h["push"])},
        )
    )
    method = hg.PersistentES(200, 0.2, truncation=3)
    agrees(hg.hypergradient(problem, method=method), hg.hypergradient(problem), 0.6)


def test_an_objective_that_sees_the_values_itself():
    """E of λ directly: at a truncation's end it is taken at the perturbed value."""
    parts = accumulating(
        space={"push": hg.Float(default=0.4)},
        val_loss=lambda state, h, data: ops.sum(state.s) * h["push"],
    )
    problem = hg.Problem(**parts)
    method = hg.PersistentES(100, 0.2, truncation=2)
    agrees(hg.hypergradient(problem, method=method), hg.hypergradient(problem), 0.5)


@pytest.mark.parametrize("objective", ["end", "sum"])
def test_one_truncation_is_evolution_strategies(objective):
    of_sum = objective == "sum"
    method = hg.PersistentES(5, 0.1, truncation=9, objective=objective, seed=3)
    h = hg.hypergradient(influence_balancing(9), method=method)
    es = hg.hypergradient(
        influence_balancing(9, of_sum=of_sum),
        method=hg.EvolutionStrategies(5, 0.1, seed=3),
    )
    assert h.loss == pytest.approx(es.loss, rel=1e-12)
    for a, b in ((h.gradient, es.gradient),) + (
        (h.info["standard_error"], es.info["standard_error"]),
    ):
        assert a["theta"] == pytest.approx(b["theta"], rel=1e-9)


def test_the_seed_decides():
    form = constant_rate()

    def gradient(seed):
        method = hg.PersistentES(2, truncation=2, seed=seed)
        return hg.hypergradient(form.problem, form.values, method).gradient["rate"]

    assert gradient(0) == gradient(0) != gradient(1)


def test_particles_that_diverge_are_counted():
    q = quadratic()
    problem = on_quadratic(
        q,
        num_steps=6,
        val_loss=lambda s, h, data: ops.where(h["rate"] > 0.6, np.nan, h["rate"]),
    )
    h = hg.hypergradient(problem, method=hg.PersistentES(8, 0.4, truncation=3))
    assert 1 <= h.info["nonfinite_pairs"] <= 8 and np.isnan(h.gradient["rate"])
    assert "of 8 pairs of perturbed runs are not finite: lower" in h.status.reason


def test_a_value_on_a_bound():
    form = constant_rate()
    h = hg.hypergradient(form.problem, {"rate": 1.0}, hg.PersistentES(2, truncation=2))
    assert "`rate` must lie strictly inside [0.0, 1.0]" in h.status.reason


def test_refusals():
    problem = constant_rate(num_steps=7).problem
    with pytest.raises(ValueError, match="must not exceed the 7 steps.*Received: 8. U"):
        hg.hypergradient(problem, method=hg.PersistentES(truncation=8))
    silent = on_quadratic(
        quadratic(),
        num_steps=3,
        step=opaque(lambda g, state, h, a, d: (state, {})),
        space={"rate": UNIT},
    )
    method = hg.PersistentES(truncation=1, objective="sum")
    with pytest.raises(ValueError, match="a `step` that reports none. Let it return"):
        hg.hypergradient(silent, method=method)
    assert hg.hypergradient(silent, method=hg.PersistentES(truncation=1)).status.ok


@pytest.mark.parametrize(
    "given, text",
    [
        ({"truncation": 0}, "`truncation` of PersistentES must be an int of at least"),
        ({"truncation": 2.0}, "`truncation` of PersistentES must be an int of at le"),
        ({"objective": "mean"}, '`objective` of PersistentES must be "end" or "sum"'),
        ({"pairs": 0}, "`pairs` of PersistentES must be an int of at least 1"),
        ({"sigma": -1.0}, "`sigma` of PersistentES must be a finite number above 0"),
        ({"seed": 0.5}, "`seed` of PersistentES must be an int of at least 0"),
    ],
)
def test_settings_are_checked(given, text):
    with pytest.raises(ValueError, match=text):
        hg.PersistentES(**{"truncation": 2, **given})
