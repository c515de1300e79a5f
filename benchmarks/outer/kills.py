"""SIGKILL at random moments: does a tune that is started again end with the same bits.

    KERAS_BACKEND=jax python benchmarks/outer/kills.py

Each trial starts `tests/killed_tune.py` in a new directory, kills it at a random moment
between its start and its end, and starts it again. What it prints, the
whole history, must be what a tune prints that nobody kills.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "killed_tune.py"


def started(directory: str) -> subprocess.Popen:
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), directory],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def ended(process: subprocess.Popen) -> str:
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(f"A tune ended with {process.returncode}.")
    return output.splitlines()[-1]


def trial(seconds: float, rng: random.Random) -> str:
    """What a tune prints in the end that was killed once."""
    with tempfile.TemporaryDirectory() as directory:
        process = started(directory)
        try:
            process.wait(rng.uniform(0.0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        return ended(started(directory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as directory:
        begin = time.monotonic()
        whole = ended(started(directory))
        seconds = time.monotonic() - begin
    same = 0
    for number in range(1, given.trials + 1):
        same += trial(seconds, rng) == whole
        print(f"{same} of {number} the same", flush=True)
    if same < given.trials:
        sys.exit("Not all ended with the same bits.")


if __name__ == "__main__":
    main()
