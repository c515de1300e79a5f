"""What a tune costs, that it is counted, and what it does where slopes fail."""

import math

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad import backend
from hypergrad.outer import Screening, TakeBack

SWEEP = backend.run_cost("Reverse") - 1.0


def make(space, val_loss):
    return hg.Problem(
        init=dict,
        step=lambda state, hparams, t: (state, {}),
        val_loss=val_loss,
        num_steps=2,
        space=space,
    )


@pytest.fixture(scope="module")
def problem():
    space = {"rate": hg.Float(1e-5, 1.0, sampling="log", default=1e-4)}
    return make(space, lambda s, h: (keras.ops.log(s["rate"]) + 4.0) ** 2)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"budget": hg.Budget(outer_steps=0)}, 1),
        ({"budget": hg.Budget(outer_steps=21)}, 22),
        ({"budget": math.inf, "outer_steps": 1}, 2),
        ({"outer_steps": 0}, 1),
    ],
)
def test_limits_that_are_nothing_or_everything(problem, options, rows):
    safeguard = TakeBack(smallest=1e-12, fade=1.0)
    options = {"screening": None, "verbose": 0, "safeguard": safeguard} | options
    assert len(hg.tune(problem, **options).history["kind"]) == rows


class Counted(hg.Reverse):
    def __post_init__(self):
        object.__setattr__(self, "calls", {"prepare": 0, "run": 0, "sweep": 0})

    def prepare(self, problem, values):
        self.calls["prepare"] += 1
        super().prepare(problem, values)

    def run(self, problem, values):
        self.calls["run"] += 1
        return super().run(problem, values)

    def sweep(self, problem, tape):
        self.calls["sweep"] += 1
        return super().sweep(problem, tape)


def check_account(result, method):
    """What was computed is what was counted."""
    calls = method.calls
    assert result.runs == pytest.approx(calls["run"] + calls["sweep"] * SWEEP)
    assert result.history["runs"][-1] <= result.runs


@pytest.mark.parametrize("start", [0.0, 0.3])
def test_every_training_is_counted_once(start):
    # E is lowest at the start, on a bound or not.
    space = {
        "rate": hg.Float(0.0, 1.0, default=start),
        "shift": hg.Float(0.0, 1.0, default=0.5),
    }
    problem = make(space, lambda s, h: (s["rate"] - start) ** 2 + h["shift"] ** 2)
    method = Counted()
    result = hg.tune(problem, outer_steps=4, method=method, verbose=0)
    check_account(result, method)
    assert method.calls["run"] == len(result.history["kind"])
    assert method.calls["prepare"] == 1


def test_no_sweep_is_prepared_where_none_is_wanted(problem):
    for options in (
        {"outer_steps": 0},
        {"budget": 3},
        {"budget": hg.Budget(seconds=0.0)},
    ):
        method = Counted()
        hg.tune(problem, method=method, verbose=0, **options)
        assert method.calls["prepare"] == method.calls["sweep"] == 0


# Hypergradients that are not finite


def blinding(w):
    """Next to nothing above ½, with a slope of NaN."""
    return 1e-30 * keras.ops.sqrt(keras.ops.where(w > 0.5, 0.0 * w, 1.0))


def blind(size=None):
    """E is a bowl around 0.2, and starts where its slope is NaN."""
    shape = () if size is None else (size,)
    space = {"w": hg.Float(0.0, 1.0, shape=shape, default=np.full(shape, 0.52))}

    def val_loss(state, hparams):
        w = state["w"]
        return keras.ops.sum((w - 0.2) ** 2 + blinding(w))

    return make(space, val_loss)


def test_a_hypergradient_that_is_not_finite_is_left_by_random_steps():
    method = Counted()
    result = hg.tune(blind(), screening=None, method=method, verbose=0)
    assert result.loss < 0.09 and result.status.ok
    assert np.isfinite(result.history["gradient_norm.w"]).any()
    assert "hypergradient is not finite at row 0" in result.summary()
    check_account(result, method)


def test_without_random_steps_the_next_best_run_is_descended_from():
    # E is lowest where its slope is NaN.
    def val_loss(state, hparams):
        w = state["w"]
        return keras.ops.where(w > 0.5, 0.0, (w - 0.2) ** 2 + 1.0) + blinding(w)

    space = {"w": hg.Float(0.0, 1.0, default=0.9)}
    method = Counted()
    result = hg.tune(
        make(space, val_loss),
        outer_steps=3,
        screening=Screening(2),
        safeguard=TakeBack(probe=0.0),
        method=method,
        verbose=0,
    )
    assert "hypergradient is not finite at row" in result.summary()
    assert len(result.history["kind"]) == 6
    assert np.isfinite(result.history["gradient_norm.w"]).any()
    check_account(result, method)


def test_nowhere_a_finite_hypergradient_is_the_end_and_no_exception():
    result = hg.tune(blind(size=40), verbose=0)
    assert result.loss == result.start["loss"] and result.status.ok
    assert "Stopped: the hypergradient is not finite" in result.summary()
