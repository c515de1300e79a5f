"""The comparison with other libraries: its truth, its judge, and what is not there."""

import importlib
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "peers"


@pytest.fixture(scope="module")
def peers():
    """Imports a module of the folder, whose names are as plain as `case`."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))
    for name in ("case", "reference", "judge", "peer", "with_hypergrad", "run"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("dead", [False, True], ids=["alive", "dead unit"])
def test_the_library_agrees_with_a_numpy_training(peers, dead):
    case = peers("case").Case(dead=dead, dtype=keras.config.floatx())
    loss, slopes = peers("with_hypergrad").Peer(case).hypergradient()
    reference = peers("reference")
    hyper = peers("case").HYPER
    np.testing.assert_allclose(loss, reference.validation_loss(case, hyper), rtol=1e-9)
    truth = reference.derivatives(case)
    judge = peers("judge")
    assert [judge.verdict(*pair) for pair in zip(slopes, truth)] == ["right"] * 3


def test_only_the_dead_case_has_a_unit_that_never_learns(peers):
    case, reference = peers("case").Case, peers("reference")
    for dead in (False, True):
        made = case(dead=dead)
        x, y = made.data()
        of_bias = reference._gradient(made.weights(), x, y)[1]
        assert (of_bias[0] == 0.0) is np.bool_(dead)
        assert np.all(of_bias[1:] != 0.0)


def test_where_epsilon_stands_makes_another_training(peers):
    case, reference = peers("case").Case(), peers("reference")
    outside, inside = (reference.derivatives(case, side) for side in (False, True))
    assert 1e-7 < abs(outside[2] / inside[2] - 1.0) < 0.1


def test_verdicts(peers):
    verdict = peers("judge").verdict
    assert verdict(1.00001, 1.0) == "right"
    assert verdict(None, 1.0) == "none"
    assert verdict(float("nan"), 1.0) == "NaN"
    assert verdict(float("inf"), 1.0) == "NaN"
    assert verdict(1.01, 1.0) == "wrong (1.01, true 1)"
    assert verdict(-78.6, 0.0119) == "wrong sign (-78.6, true 0.0119)"


def test_a_library_that_is_not_there_is_listed_with_the_reason(peers, tmp_path):
    run = peers("run")
    said = run.call(run.ENTRIES["higher"], str(tmp_path / "python"))
    assert "is missing: make bench-peers" in said["skipped"]
    said = run.call(run.Entry("with_higher", torch=True), sys.executable)
    assert said == {"skipped": "higher is not installed"}
    measured = {
        "correctness": {
            "higher": {"alive": [said["skipped"]] * 3, "dead": ["NaN"] * 3}
        },
        "speed": {
            "small 20": {
                run.OURS: {"seconds": 2.0, "plain": 1.0, "first": 3.0, "bytes": 1e6},
                "higher": said,
            },
        },
    }
    lines = run.page(measured).splitlines()
    assert "| small 20 | higher | higher is not installed | | | | |" in lines
    assert f"| small 20 | {run.OURS} | 2 | 1.00 | 3.0 | 2.0 | 1 |" in lines
    assert any(line.startswith("| GDTUO | on no package index") for line in lines)
