"""States on the host and on disk, and a run that goes on after it was interrupted."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import hypergrad as hg
from hypergrad.methods.storage import OnDisk

STEPS = 23


class Interrupted(Exception):
    """Stands for whatever ends a process."""


PLANNED = 2 * STEPS
"""Calls that ask for shapes before a first run: whether it fits, and to plan it."""

UNIT = 6
"""Steps that are run again at most."""


class Batches:
    """Batches that something may happen at: ``at`` is called before each one."""

    def __init__(self) -> None:
        self.calls = 0
        self.at: Any = lambda call: None

    def __call__(self, step: int) -> Any:
        self.at(self.calls)
        self.calls += 1
        return np.float64(step)

    @contextlib.contextmanager
    def interrupted(self, at: int) -> Iterator[None]:
        """At so many calls, after that it is as before."""

        def interrupt(call: int) -> None:
            if call == at:
                raise Interrupted

        self.calls, self.at = 0, interrupt
        try:
            yield
        finally:
            self.at = lambda call: None


BATCHES = Batches()


@pytest.fixture(scope="module")
def problem() -> hg.Problem:
    def step(state: dict, hparams: dict, batch: Any) -> tuple[dict, dict]:
        w = state["w"]
        rate = hparams["rate"] * keras.ops.cos(0.3 * batch) ** 2
        return {**state, "w": w - rate * keras.ops.tanh(w), "n": state["n"] + 1}, {}

    return hg.Problem(
        init=lambda hparams: {
            "w": hparams["start"] * np.array([1.0, -0.5, 0.25]),
            "n": np.int32(0),
            "flag": np.array([True, False]),
        },
        step=step,
        val_loss=lambda state, hparams: keras.ops.sum(state["w"] ** 2),
        num_steps=STEPS,
        space={
            "rate": hg.Schedule(hg.Float(0.0, 1.0, default=0.3), knots=4),
            "start": hg.Float(0.5, 2.0, default=1.5),
        },
        batches=BATCHES,
    )


@pytest.fixture(scope="module")
def expected(problem: hg.Problem) -> hg.Hypergradient:
    return hg.hypergradient(problem, method=hg.Reverse("sqrt"))


def check_equal(found: hg.Hypergradient, expected: hg.Hypergradient) -> None:
    assert found.loss == expected.loss
    for name, slope in expected.gradient.items():
        assert np.all(slope != 0)
        np.testing.assert_array_equal(found.gradient[name], slope)
    np.testing.assert_array_equal(
        found.info["train_losses"], expected.info["train_losses"]
    )


@pytest.mark.parametrize("offload", ["host", "disk"])
@pytest.mark.parametrize("checkpoints", [None, 6, "log"])
def test_the_same_numbers_bit_for_bit(problem, expected, offload, checkpoints) -> None:
    method = hg.Reverse(checkpoints, offload=offload)
    check_equal(hg.hypergradient(problem, method=method), expected)


@pytest.mark.parametrize("checkpoints", ["sqrt", "log"])
@pytest.mark.parametrize("stop", [2, STEPS - 1, STEPS + 3, 2 * STEPS - 4])
def test_an_interrupted_run_goes_on(
    problem, expected, tmp_path, checkpoints, stop
) -> None:
    method = hg.Reverse(checkpoints, resume_dir=str(tmp_path))
    with BATCHES.interrupted(PLANNED + stop), pytest.raises(Interrupted):
        hg.hypergradient(problem, method=method)
    assert list(tmp_path.glob("state-*")) or stop == 2
    BATCHES.calls = 0
    check_equal(hg.hypergradient(problem, method=method), expected)
    if checkpoints == "sqrt":
        # What was done is not done again, but for the unit that was interrupted.
        again = BATCHES.calls
        BATCHES.calls = 0
        hg.hypergradient(problem, method=method)
        assert again <= BATCHES.calls - stop + UNIT
    assert not list(tmp_path.iterdir())


def test_a_full_disk_loses_nothing_that_is_stored(problem, expected, tmp_path) -> None:
    method = hg.Reverse("sqrt", resume_dir=str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    BATCHES.calls = 0

    def fill(call: int) -> None:
        if call == PLANNED + 12:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))

    BATCHES.at = fill
    try:
        with pytest.raises(OSError, match="too large"):
            hg.hypergradient(problem, method=method)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        BATCHES.at = lambda call: None
    assert len(list(tmp_path.glob("state-*"))) >= 2
    BATCHES.calls = 0
    check_equal(hg.hypergradient(problem, method=method), expected)
    again, BATCHES.calls = BATCHES.calls, 0
    hg.hypergradient(problem, method=method)
    assert again < BATCHES.calls


def test_a_directory_of_another_run_is_refused(problem, tmp_path) -> None:
    method = hg.Reverse("sqrt", resume_dir=str(tmp_path))
    with BATCHES.interrupted(PLANNED + 12), pytest.raises(Interrupted):
        hg.hypergradient(problem, {"start": 1.0}, method)
    with pytest.raises(ValueError, match="holds a run that is not this one.*start"):
        hg.hypergradient(problem, {"start": 1.25}, method)


def test_folders_that_cannot_be_used(problem, tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    method = hg.Reverse(resume_dir=str(file / "folder"))
    with pytest.raises(ValueError, match="`resume_dir` must be a folder"):
        hg.hypergradient(problem, method=method)
    storage = OnDisk(Path(tmp_path), {"w": np.zeros(4)})
    with pytest.raises(ValueError, match='GB free.*checkpoints="log"'):
        storage.check_room(10**15)


def test_tune_resumes_by_itself(problem, tmp_path) -> None:
    method = hg.Reverse(resume_dir=str(tmp_path))
    with pytest.raises(ValueError, match="`resume_dir` holds one run and its sweep"):
        hg.tune(problem, outer_steps=1, method=method, verbose=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"offload": "tape"}, '`offload` must be None, "host" or "disk"'),
        ({"offload": "host", "resume_dir": "x"}, "`resume_dir` keeps states on disk"),
        ({"checkpoints": "all", "offload": "host"}, "move states at segment starts"),
        ({"second_order": "forward"}, '`second_order` must be None, "reverse"'),
        ({"checkpoints": "tree"}, '"sqrt", "log" or an int'),
    ],
)
def test_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        hg.Reverse(**arguments)
