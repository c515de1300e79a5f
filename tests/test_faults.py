"""Nothing is lost: SIGKILL anywhere, damaged files, two processes at once."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hypergrad as hg
from hypergrad import files
from killed_tune import BUDGET, problem

TESTS = Path(__file__).resolve().parent
KILLS = ("prepare:1", "run:4", "replace:9", "sweep:2")


def child(directory: Path, *where: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join((str(TESTS.parent), os.environ.get("PYTHONPATH", "")))
    return subprocess.run(
        [sys.executable, str(TESTS / "killed_tune.py"), str(directory), *where],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def said(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """What a tune that nobody kills ends with."""
    return said(child(tmp_path_factory.mktemp("whole")))


def test_killed_again_and_again_it_ends_with_the_same_bits(whole, tmp_path):
    for where in KILLS:
        assert child(tmp_path, where).returncode == -signal.SIGKILL, where
    assert said(child(tmp_path)) == whole
    kinds = whole["history"]["kind"]
    assert {"screening", "step"} <= set(kinds)


@pytest.mark.slow
@pytest.mark.parametrize("where", [f"replace:{n}" for n in range(1, 40, 3)])
def test_between_any_write_and_its_rename(whole, tmp_path, where):
    assert child(tmp_path, where).returncode == -signal.SIGKILL
    assert said(child(tmp_path)) == whole


class Stop(hg.callbacks.Callback):
    def on_run_end(self, row, logs=None):
        if row == 20:
            raise RuntimeError("power cut")


@pytest.fixture
def half(tmp_path):
    """A directory of a tune that ended half way, and the whole result."""
    options = {"budget": BUDGET, "verbose": 0}
    with pytest.raises(RuntimeError, match="power cut"):
        hg.tune(problem(), directory=tmp_path, callbacks=[Stop()], **options)
    return tmp_path, hg.tune(problem(), **options)


def damage_json(directory):
    file = directory / "tune.json"
    file.write_bytes(file.read_bytes()[:-40])


def damage_a_digit(directory):
    file = directory / "tune.json"
    text, found = re.subn(r'"spent": \d', '"spent": 9', file.read_text("utf-8"))
    assert found == 1
    file.write_text(text, "utf-8")


def damage_arrays(directory):
    named = json.loads((directory / "tune.json").read_text("utf-8"))["arrays"]
    file = directory / named
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose_arrays(directory):
    named = json.loads((directory / "tune.json").read_text("utf-8"))["arrays"]
    (directory / named).unlink()


@pytest.mark.parametrize(
    "damage", [damage_json, damage_a_digit, damage_arrays, lose_arrays]
)
def test_of_a_damaged_file_the_one_before_it_is_taken(half, damage):
    directory, whole = half
    damage(directory)
    with pytest.warns(UserWarning, match="tune.json is damaged.*saved before it"):
        found = files.read(directory, "tune")
    assert files.read(directory, "tune")["history"] is not None  # mended: no warning
    assert found["spent"] < 40.0
    result = hg.tune(problem(), directory=directory, budget=BUDGET, verbose=0)
    for name in ("rate", "shift", "val_loss", "runs"):
        np.testing.assert_array_equal(result.history[name], whole.history[name])


def test_where_both_are_damaged_it_says_so(half):
    directory, _ = half
    for name in ("tune.json", "tune.previous.json"):
        (directory / name).write_text("{")
    with pytest.raises(ValueError, match="tune.json is not a file of hypergrad, or is"):
        hg.tune(problem(), directory=directory, budget=BUDGET, verbose=0)


def test_no_more_than_two_pairs_are_kept(half):
    directory, _ = half
    assert len(list(directory.glob("tune-*.npz"))) == 2
    assert {p.name for p in directory.glob("*.json")} == {
        "tune.json",
        "tune.previous.json",
    }


def test_a_second_process_is_refused(tmp_path):
    done = []

    class Second(hg.callbacks.Callback):
        def on_run_end(self, row, logs=None):
            if row == 1:
                done.append(child(tmp_path))

    hg.tune(problem(), budget=3, directory=tmp_path, callbacks=[Second()], verbose=0)
    (second,) = done
    assert second.returncode != 0
    assert f"is in use by another process (process {os.getpid()}" in second.stderr
    # Afterwards the directory is free: that of another tune, says its message.
    with pytest.raises(ValueError, match="budget"):
        hg.tune(problem(), budget=5, directory=tmp_path, verbose=0)


def test_a_full_disk_ends_the_tune_and_loses_no_file(half, monkeypatch):
    directory, whole = half
    before = (directory / "tune.json").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises((OSError, ValueError), match="No space left"):
            hg.tune(problem(), directory=directory, budget=BUDGET, verbose=0)
    assert (directory / "tune.json").read_bytes() == before
    result = hg.tune(problem(), directory=directory, budget=BUDGET, verbose=0)
    np.testing.assert_array_equal(result.history["val_loss"], whole.history["val_loss"])
