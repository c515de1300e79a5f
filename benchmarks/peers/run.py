"""Other libraries on the same training: are they right, how fast, how large.

    make bench-peers
    python benchmarks/peers/run.py --torch .venv-peers/bin/python

Every measurement is a process of its own. Correctness: float64, 20 steps, against
differences of a NumPy training, with and without a unit that is dead from the start.
Time and memory, float32: MLP 784-256-256-10, batch 128 ("large"), and MLP 64-32-10,
batch 32 ("small"); the libraries take turns, and medians over the rounds are divided by
hypergrad's.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from case import NAMES, Case  # noqa: E402
from judge import verdict  # noqa: E402
from reference import derivatives  # noqa: E402

OURS = "hypergrad (JAX)"
ABSENT = {
    "GDTUO": "on no package index (Chandra et al. 2022, arXiv:1909.13371)",
}


class Entry(NamedTuple):
    """A line of the tables."""

    module: str
    torch: bool = False
    backend: str = "jax"


ENTRIES = {
    OURS: Entry("with_hypergrad"),
    'hypergrad (JAX), Reverse("all")': Entry("with_hypergrad_stored"),
    "hypergrad (TensorFlow)": Entry("with_hypergrad", backend="tensorflow"),
    "higher": Entry("with_higher", torch=True),
    "TorchOpt": Entry("with_torchopt", torch=True),
    "PyTorch, unrolled as in hypertorch": Entry("with_torch", torch=True),
    "optax, inject_hyperparams": Entry("with_optax"),
}


def call(entry: Entry, torch_python: str, *words: str) -> dict:
    """What a child says; {"skipped" or "failed": reason} where it cannot."""
    python = torch_python if entry.torch else sys.executable
    if not Path(python).exists():
        return {"skipped": f"{python} is missing: make bench-peers makes it"}
    path = os.pathsep.join((str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")))
    environment = os.environ | {"KERAS_BACKEND": entry.backend}
    environment |= {} if entry.torch else {"PYTHONPATH": path}
    done = subprocess.run(
        [python, str(FOLDER / "child.py"), entry.module, *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [""]
        return {"failed": f"ended with {done.returncode}: {last[0]}"}
    return json.loads(done.stdout.splitlines()[-1])


def correctness(torch_python: str) -> dict[str, dict[str, list[str]]]:
    """Name → "alive" and "dead" → a verdict for each derivative, or one reason."""
    found: dict[str, dict[str, list[str]]] = {}
    for case in (Case(), Case(dead=True)):
        truth = {inside: derivatives(case, inside) for inside in (False, True)}
        for name, entry in ENTRIES.items():
            said = call(entry, torch_python, *(["--dead"] if case.dead else []))
            column = "dead" if case.dead else "alive"
            reason = said.get("skipped") or said.get("failed")
            found.setdefault(name, {})[column] = (
                [reason] * len(NAMES)
                if reason
                else [
                    verdict(slope, true)
                    for slope, true in zip(
                        said["slopes"], truth[said["epsilon_inside"]]
                    )
                ]
            )
    return found


def speed(torch_python: str, cases: list[str], rounds: int) -> dict[str, dict]:
    """Case → name → medians over rounds, or {"skipped" or "failed": reason}.

    A case is size and T, such as "large 200".
    """
    return {case: _timed(torch_python, case, rounds) for case in cases}


def _timed(torch_python: str, case: str, rounds: int) -> dict[str, dict]:
    size, steps = case.split()
    said: dict[str, list[dict]] = {name: [] for name in ENTRIES}
    for _ in range(rounds):
        for name, entry in ENTRIES.items():
            words = ("--size", size, "--time", steps)
            said[name].append(call(entry, torch_python, *words))
    return {
        name: {
            key: statistics.median(answer[key] for answer in answers)
            for key in answers[0]
        }
        if "seconds" in answers[0]
        else answers[0]
        for name, answers in said.items()
    }


def page(measured: dict) -> str:
    """The two tables in Markdown."""
    columns = [f"{name}{', dead unit' * dead}" for dead in (0, 1) for name in NAMES]
    lines = ["| library | " + " | ".join(columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, verdicts in measured["correctness"].items():
        cells = [*verdicts["alive"], *verdicts["dead"]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        f"| {name} | {reason} " + "| " * 5 + "|" for name, reason in ABSENT.items()
    ]
    lines += [
        "",
        "| case, T | library | seconds | over hypergrad (JAX) | first call s |",
    ]
    lines[-1] += " over its plain training | MB above plain training |"
    lines.append("|---" * 7 + "|")
    for case, by_name in measured["speed"].items():
        lines += [_line(case, name, by_name[name], by_name[OURS]) for name in by_name]
    return "\n".join(lines) + "\n"


def _line(case: str, name: str, said: dict, ours: dict) -> str:
    if "seconds" not in said:
        reason = said.get("skipped") or said.get("failed")
        return f"| {case} | {name} | {reason} | | | | |"
    return (
        f"| {case} | {name} | {said['seconds']:.3g} "
        f"| {said['seconds'] / ours['seconds']:.2f} | {said['first']:.1f} "
        f"| {said['seconds'] / said['plain']:.1f} | {said['bytes'] / 1e6:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", default=".venv-peers/bin/python")
    cases = ["large 200", "large 1000", "small 200", "small 1000"]
    parser.add_argument("--cases", nargs="*", default=cases)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=FOLDER / "results")
    given = parser.parse_args()
    measured = {
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
        "correctness": correctness(given.torch),
        "speed": speed(given.torch, given.cases, given.rounds),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(measured, indent=1)
    (given.out / "peers.json").write_text(text + "\n")
    (given.out / "peers.md").write_text(page(measured))
    print(page(measured))


if __name__ == "__main__":
    main()
