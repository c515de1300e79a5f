"""`check_gradient` says of a right derivative that it is right, of a wrong one not."""

import dataclasses

import numpy as np
import pytest
from keras import ops

import hypergrad as hg
from hypergrad.diagnostics.gradient_check import chosen, quotients


def make(val_loss=None, space=None, num_steps=5):
    """w ← w (1 − rate) + shift_i from 1; E = Σ w²."""
    return hg.Problem(
        init=lambda hparams: {"w": ops.ones(4)},
        step=lambda s, hparams, t: (
            {"w": s["w"] * (1.0 - hparams["rate"]) + hparams["shift"]},
            {},
        ),
        val_loss=val_loss or (lambda s, hparams: ops.sum(s["w"] ** 2)),
        num_steps=num_steps,
        space=space
        or {
            "rate": hg.Float(1e-3, 1.0, sampling="log", default=0.1),
            "shift": hg.Float(-1.0, 1.0, shape=(4,), default=0.3),
        },
    )


@dataclasses.dataclass(frozen=True)
class Wrong(hg.Reverse):
    """Off by one per cent in one entry of one hyperparameter."""

    def sweep(self, problem, tape):
        found = super().sweep(problem, tape)
        gradient = dict(found.gradient)
        gradient["shift"] = gradient["shift"] * np.array([1.0, 1.01, 1.0, 1.0])
        return found._replace(gradient=gradient)


@dataclasses.dataclass(frozen=True)
class Broken(hg.Reverse):
    def sweep(self, problem, tape):
        found = super().sweep(problem, tape)
        return found._replace(gradient=found.gradient | {"rate": np.array(np.nan)})


def test_an_exact_method_agrees_and_the_steps_are_shown():
    check = hg.check_gradient(make())
    assert check.ok and check.verdicts == {"rate": "agrees", "shift": "agrees"}
    assert [e.position for e in check.entries] == [(), (0,), (1,), (2,), (3,)]
    for entry in check.entries:
        assert len(entry.steps) == len(entry.slopes) >= 2
        nearest = entry.slopes[np.argmin(np.abs(entry.steps))]
        assert nearest == pytest.approx(entry.derivative, rel=1e-2)
        assert np.max(np.abs(entry.steps)) > np.min(np.abs(entry.steps)) > 0.0
    text = str(check)
    assert "shift[3]" in text and "agrees" in text and "Reverse()" in text


def test_one_wrong_entry_is_found():
    check = hg.check_gradient(make(), method=Wrong(), tolerance=1e-3)
    assert not check.ok and check.verdicts == {"rate": "agrees", "shift": "differs"}
    assert [e.label for e in check.entries if e.verdict == "differs"] == ["shift[1]"]


def test_of_several_samples_the_first_is_checked():
    problem = make()
    several = hg.Problem(
        **{n: getattr(problem, n) for n in ("init", "step", "val_loss", "num_steps")},
        space=problem.space,
        average=2,
        samples=lambda i: {"init": lambda hparams: {"w": 2.0 * ops.ones(4)}},
    )
    check = hg.check_gradient(several)
    assert check.ok and check.verdicts == {"rate": "agrees", "shift": "agrees"}
    assert check.loss == pytest.approx(hg.check_gradient(problem).loss)


def test_a_biased_method_is_found():
    check = hg.check_gradient(make(), method=hg.Truncated(1))
    assert check.verdicts["shift"] == "differs"


def test_what_is_not_finite_is_called_so():
    check = hg.check_gradient(make(), method=Broken())
    assert check.verdicts == {"rate": "not finite", "shift": "agrees"}
    assert not check.ok


def test_where_the_objective_is_rough_nothing_is_claimed():
    def rough(state, hparams):
        total = ops.sum(state["w"])
        return total + 3.0 * ops.sin(1e4 * total)

    check = hg.check_gradient(make(rough, num_steps=3))
    assert check.ok and set(check.verdicts.values()) == {"uncertain"}


def test_a_run_that_diverges_has_its_status():
    space = {
        "rate": hg.Float(0.0, 1e60, default=1e50),
        "shift": hg.Float(-1.0, 1.0, shape=(4,), default=0.3),
    }
    check = hg.check_gradient(make(space=space, num_steps=40))
    assert not check.ok and not check.entries
    assert "not finite from step" in str(check)


def test_of_a_large_array_the_largest_and_some_others_are_checked():
    gradient = np.zeros((10, 5))
    gradient[3, 2], gradient[7, 1], gradient[0, 4] = 5.0, -6.0, np.nan
    found = chosen(gradient, 6)
    assert {(3, 2), (7, 1), (0, 4)} < set(found) and len(found) == 6
    assert chosen(np.zeros(3), 6) == [(0,), (1,), (2,)]
    assert chosen(np.zeros(()), 1) == [()]
    check = hg.check_gradient(make(), entries=2)
    assert len([e for e in check.entries if e.name == "shift"]) == 2


def test_quotients_of_what_was_tried():
    steps, slopes = quotients([(2.5, 9.0), (1.5, 5.0), (3.0, 10.0)], 2.0, 6.0)
    np.testing.assert_allclose(steps, [0.5, 1.0])
    np.testing.assert_allclose(slopes, [4.0, 4.0])
    assert [len(part) for part in quotients([], 1.0, 1.0)] == [0, 0]


@pytest.mark.parametrize("entries", [0, 2.0, True])
def test_bad_entries(entries):
    with pytest.raises(ValueError, match="`entries` must be an integer of at least 1"):
        hg.check_gradient(make(), entries=entries)
