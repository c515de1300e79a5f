"""The comparison in `benchmarks` through benchopt's own command."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest

from report.results import read

pytest.importorskip("benchopt", reason="needs benchopt: pip install '.[test]'")
if keras.backend.backend() != "jax":
    pytest.skip("the comparison runs on JAX", allow_module_level=True)

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("benchopt")
TIMEOUT = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The benchmark alone with the smallest problem, and a cache of its own."""
    copy = tmp_path_factory.mktemp("repository") / "benchmarks"
    parts = ("benchmark_utils", "solvers", "plots", "datasets")
    for part in parts:
        shutil.copytree(REPOSITORY / "benchmarks" / part, copy / part)
    for file in ("objective.py", "config.yml"):
        shutil.copy(REPOSITORY / "benchmarks" / file, copy / file)
    return copy


def started(folder: Path, *words: str, **environment: str) -> subprocess.Popen:
    command = [
        str(COMMAND), "run", str(folder), "-d", "digits-mlp",
        "-o", "hypergrad[budget=2]", "--no-timeout", "--no-plot", "--no-display",
        *words,
    ]  # fmt: skip
    path = os.pathsep.join((str(REPOSITORY), os.environ.get("PYTHONPATH", "")))
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path, "NO_COLOR": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output[-3000:]
    return output


def stored(folder: Path) -> int:
    return len(results(folder))


def results(folder: Path) -> dict[Path, int]:
    """What benchopt remembers of whole results, with the times of writing."""
    files = folder.glob("__cache__/**/run_one_to_cvg/*/output.pkl")
    return {file: file.stat().st_mtime_ns for file in files}


def test_a_killed_run_goes_on_with_what_was_done(folder):
    words = ("-s", "random", "-s", "default", "-s", "grid", "-r", "2")
    killed = started(folder, *words)
    begin = time.monotonic()
    while not stored(folder):
        assert killed.poll() is None and time.monotonic() - begin < TIMEOUT
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = results(folder)
    assert 0 < len(done) < 6
    ended(started(folder, *words, "--output", str(folder / "whole.parquet")))
    assert stored(folder) == 6
    assert done.items() <= results(folder).items()  # not run again
    rows = read([folder / "whole.parquet"])
    assert len(rows) == 6 and {row.status for row in rows} == {"done"}
    assert {row.method for row in rows} == {"random", "default", "grid"}
    for row in rows:
        assert row.runs <= row.budget == 2
        assert row.loss == row.curve["best"][-1]


def test_missing_data_are_no_result_but_named(folder, tmp_path):
    process = started(
        folder, "-d", "uci-energy", "-s", "default", "-r", "1",
        HYPERGRAD_DATA=str(tmp_path),
    )  # fmt: skip
    output = ended(process)
    assert "energy.npz is missing: looked for" in " ".join(output.split())
