"""Time and memory of every method on one problem, and how Reverse grows with T.

    KERAS_BACKEND=jax python benchmarks/speed/methods.py
    KERAS_BACKEND=tensorflow python benchmarks/speed/methods.py --only log disk
    KERAS_BACKEND=jax python benchmarks/speed/methods.py --growth

The MLP of ``run.py``. Each row is a process of its own: plain training and the method
in turns, medians divided. Memory is the growth of the largest resident size over that
after plain training; "warm" that of a call beyond what is resident before it, when all
is compiled, over that of a plain training.
"""

import argparse
import ctypes
import dataclasses
import gc
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import run as speed

import hypergrad as hg
from hypergrad import backend, unroll
from hypergrad.bound import bind_values
from hypergrad.methods import AbstractMethod


@dataclasses.dataclass(frozen=True)
class Row:
    """A method, how many steps, and what is asked of it.

    ``bars``: largest ratio to plain training on JAX and on TensorFlow; None: measured
    only. ``megabytes``: the same for memory above plain training. ``penalty``: the
    factor of an L2 penalty on each kernel, without which it has none.
    """

    make: Callable[[], AbstractMethod]
    num_steps: int
    bars: tuple[float | None, float | None]
    megabytes: float | None = None
    optimizer: str = "adam"
    repeats: int = 5
    penalty: float | None = None


ROWS = {
    "all": Row(lambda: hg.Reverse("all"), 200, (4.5, 3.9), 1207),
    "mixed": Row(lambda: hg.Reverse("all", second_order="mixed"), 200, (None, None)),
    "sqrt": Row(lambda: hg.Reverse("sqrt"), 2000, (5.0, 5.0), 400, repeats=3),
    "log": Row(lambda: hg.Reverse("log"), 10_000, (8.0, 8.0), 200, repeats=1),
    "host": Row(lambda: hg.Reverse(offload="host"), 2000, (5.5, 5.5), repeats=3),
    "disk": Row(lambda: hg.Reverse(offload="disk"), 2000, (5.5, 5.5), 300, repeats=3),
    "truncated": Row(lambda: hg.Truncated(50), 200, (None, None)),
    "forward": Row(hg.Forward, 200, (6.5, None)),
    "reversible": Row(
        hg.Reversible,
        2000,
        (8.0, 8.0),
        325,
        optimizer="sgd-l2",
        repeats=3,
        penalty=1e-3,
    ),
    # Weight decay is one multiplication of the weights more, to be undone.
    "reversible-decay": Row(
        hg.Reversible, 2000, (None, None), optimizer="sgd", repeats=1
    ),
    # 60 steps more than plain training; the second finds its scale by a power
    # iteration of up to 8 products more.
    "implicit": Row(
        lambda: hg.Implicit(hg.linear.Neumann(20, scale=0.01), batch=128),
        200,
        (1.3, 1.3),
        26,
        optimizer="adam-l2",
        penalty=1e-3,
    ),
    "implicit-scaled": Row(
        lambda: hg.Implicit(hg.linear.Neumann(20), batch=128),
        200,
        (None, None),
        optimizer="adam-l2",
        penalty=1e-3,
    ),
}
GROWTH = (100, 300, 1000, 3000, 10_000)


def problem_of(row: Row) -> hg.Problem:
    case = speed.models.mlp(row.penalty)._replace(num_steps=row.num_steps)
    speed.models.compiled(case.model, row.optimizer)
    return speed.problem_of(case, row.optimizer)


def measured(row: Row) -> dict:
    """Ratio to plain training, and memory above it, in this process."""
    problem, method = problem_of(row), row.make()
    speed.plain(problem)
    before = speed.peak_bytes()

    def call() -> None:
        hg.hypergradient(problem, method=method, raise_on_failure=True)

    variants = {"plain": lambda: speed.plain(problem), "method": call}
    times = speed.timed(variants, row.repeats)
    state = unroll.initial_state(problem, bind_values(problem, problem.values()))
    leaves = speed.keras.tree.flatten(state)
    medians = {n: statistics.median(t["seconds"]) for n, t in times.items()}
    peak = speed.peak_bytes() - before
    return {
        "num_steps": row.num_steps,
        "plain_s": medians["plain"],
        "method_s": medians["method"],
        "ratio": medians["method"] / medians["plain"],
        "first_call_s": times["method"]["first"],
        "peak_mb": peak / 1e6,
        "warm_mb": (warm_bytes(call) - warm_bytes(variants["plain"])) / 1e6,
        "state_mb": sum(backend.to_numpy(leaf).nbytes for leaf in leaves) / 1e6,
    }


def warm_bytes(call: Callable[[], object]) -> float:
    """Growth of the resident size while a call runs; NaN where Linux does not say."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed counts as free
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
    except OSError:
        return math.nan
    before = speed.peak_bytes()
    call()
    return speed.peak_bytes() - before


def in_a_child(*arguments: str) -> dict:
    command = [sys.executable, __file__, "--child", *arguments]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict = json.loads(out.stdout.splitlines()[-1])
    return found


def table(names: list[str]) -> list[dict]:
    place = 0 if backend.name == "jax" else 1
    print("| method | backend | T | ratio | bar | peak MB | bar | warm MB | first s |")
    print("|---|---|---|---|---|---|---|---|---|")
    found = []
    for name in names:
        row = ROWS[name]
        figures = in_a_child(name)
        found.append({"method": name, "backend": backend.name, **figures})
        print(
            f"| {name} | {backend.name} | {row.num_steps} | {figures['ratio']:.2f} "
            f"| {row.bars[place] or '–'} | {figures['peak_mb']:.0f} "
            f"| {row.megabytes or '–'} | {figures['warm_mb']:.0f} "
            f"| {figures['first_call_s']:.1f} |",
            flush=True,
        )
    return found


def growth() -> list[dict]:
    """Seconds of Reverse for each T, and the exponent of a fit of all but the first."""
    found = []
    print("| T | backend | Reverse s | first call less a later one s |")
    print("|---|---|---|---|")
    for num_steps in GROWTH:
        figures = in_a_child("sqrt", str(num_steps))
        compiling = figures["first_call_s"] - figures["method_s"]
        found.append({"backend": backend.name, **figures, "compile_s": compiling})
        print(
            f"| {num_steps} | {backend.name} | {figures['method_s']:.2f} "
            f"| {compiling:.1f} |",
            flush=True,
        )
    x = [math.log(f["num_steps"]) for f in found]
    y = [math.log(f["method_s"]) for f in found]
    slope = statistics.linear_regression(x, y).slope
    print(f"\nexponent of T: {slope:.3f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--growth", action="store_true", help="Reverse against T")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        row = ROWS[options.child[0]]
        for num_steps in options.child[1:]:
            row = dataclasses.replace(row, num_steps=int(num_steps), repeats=1)
        print(json.dumps(measured(row)))
        return
    found = growth() if options.growth else table(options.only)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        document = {"machine": speed.machine(), "rows": found}
        options.out.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
