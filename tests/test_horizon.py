"""How far a hypergradient carries: closed forms, and a chaotic map."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import hypergrad as hg


def decay(num_steps=32):
    """w ← (1 − r) w from 1, E = w²."""
    return hg.Problem(
        init=lambda hparams: {"w": ops.ones(())},
        step=lambda s, hparams, t: ({"w": s["w"] * (1.0 - hparams["r"])}, {}),
        val_loss=lambda s, hparams: ops.square(s["w"]),
        num_steps=num_steps,
        space={"r": hg.Float(1e-4, 0.5, sampling="log", default=0.01)},
    )


def logistic(num_steps=64):
    """w ← r w (1 − w): chaotic at r = 3.9, still at r = 2.5."""
    return hg.Problem(
        init=lambda hparams: {"w": 0.3 * ops.ones(())},
        step=lambda s, hparams, t: ({"w": hparams["r"] * s["w"] * (1.0 - s["w"])}, {}),
        val_loss=lambda s, hparams: s["w"],
        num_steps=num_steps,
        space={"r": hg.Float(2.0, 3.99, default=3.9)},
    )


def test_norms_are_those_of_the_closed_form():
    problem = decay()
    report = hg.horizon(problem)
    assert [row.steps for row in report.rows] == [1, 2, 4, 8, 16, 32]
    for row in report.rows:
        t = row.steps
        slope = -2.0 * t * 0.99 ** (2 * t - 1)
        u = float(problem.space["r"].to_unconstrained_gradient(np.array(0.01), slope))
        assert row.norm == pytest.approx(abs(u), rel=1e-4)
        assert row.loss == pytest.approx(0.99 ** (2 * t), rel=1e-5)
        assert row.smoothness == pytest.approx(1.0) and row.usable
    assert (report.recommended, report.chaotic_from) == (32, None)
    assert "Recommended: 32 steps." in str(report)


def test_chaos_is_seen_and_warned_of():
    with pytest.warns(UserWarning, match="the dynamics are chaotic"):
        report = hg.horizon(logistic())
    assert report.chaotic_from is not None and report.chaotic_from <= 32
    norms = [row.norm for row in report.rows]
    assert norms[-1] > 1e6 * norms[2]
    assert report.recommended is None or report.recommended < 64


def test_the_same_map_where_it_is_not_chaotic():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = hg.horizon(logistic(), {"r": 2.5})
    assert report.chaotic_from is None and report.recommended == 64


def test_samples_of_a_model_agree_or_do_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=False)
    problem = hg.Problem.from_model(
        model, x, x[:, :1], validation_data=(x, x[:, :1]),
        steps=8, batch_size=20, hyperparameters=["optimizer.learning_rate"],
    )  # fmt: skip
    report = hg.horizon(problem, lengths=[2, 8])
    assert report.samples == 3 and [row.steps for row in report.rows] == [2, 8]
    assert report.rows[-1].agreement == 1.0 and report.rows[-1].same_sign == 1.0
    assert 0.0 < report.rows[-1].variance < 1.0
    assert report.recommended == 8
    assert report.runs > 0


def test_a_divergent_length_is_not_usable():
    wide = decay(64).replace(space={"r": hg.Float(1e-4, 1e8, default=0.01)})
    with pytest.warns(UserWarning, match="No length is usable|chaotic"):
        report = hg.horizon(wide, {"r": 1e7}, lengths=[2, 64])
    assert not report.rows[-1].finite and report.recommended != 64


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lengths": [0]}, "`lengths` must be integers from 1 to the 32 steps"),
        ({"lengths": [64]}, "`lengths` must be integers from 1 to the 32 steps"),
        ({"lengths": []}, "`lengths` must be integers from 1 to the 32 steps"),
        ({"samples": 0}, "`samples` must be an integer of at least 1"),
    ],
)
def test_bad_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        hg.horizon(decay(), **options)
