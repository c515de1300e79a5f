"""How the time of a hypergradient grows with weights, batch, steps and numbers.

    KERAS_BACKEND=jax python benchmarks/speed/scaling.py
    KERAS_BACKEND=tensorflow python benchmarks/speed/scaling.py --only numbers

The MLP of ``run.py`` with one of its sizes changed at a time. Plain training and
`Reverse()` take turns, medians are divided. Against the number of hyperparameters,
`Forward()` stands beside it, whose work grows with them.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import run as speed

import hypergrad as hg
from hypergrad import backend

RATE = "optimizer.learning_rate"


class Size(NamedTuple):
    """A training, by what is varied of it."""

    width: int = 256
    batch: int = 128
    steps: int = 200
    numbers: int = 3


AXES: dict[str, list[Size]] = {
    "width": [Size(width=w) for w in (32, 64, 128, 256, 512, 1024)],
    "batch": [Size(batch=b) for b in (16, 32, 64, 128, 256, 512)],
    "steps": [Size(steps=t) for t in (50, 100, 200, 400, 800)],
    "numbers": [Size(numbers=n) for n in (1, 3, 12, 120, 1200)],
}
FORWARD_UP_TO = 12
"""Numbers beyond which `Forward` is not timed: its tangents are copies of the state."""


def problem_of(case: speed.models.Case, size: Size) -> hg.Problem:
    """Beyond three numbers each of the six variables has a curve of learning rates."""
    tuned: list | dict = [RATE, "optimizer.beta_1", "optimizer.beta_2"][: size.numbers]
    if size.numbers > 3:
        rate = hg.Float(1e-5, 1.0, sampling="log", default=1e-3)
        tuned = {RATE: hg.Schedule(hg.PerVariable(rate), knots=size.numbers // 6)}
    return hg.Problem.from_model(
        case.model,
        case.x,
        case.y,
        validation_data=(case.x[:512], case.y[:512]),
        steps=size.steps,
        batch_size=size.batch,
        hyperparameters=tuned,
    )


def measured(axis: str, size: Size, repeats: int) -> dict:
    case = speed.models.mlp(width=size.width)
    problem = problem_of(case, size)
    methods = {"Reverse()": hg.Reverse()}
    if axis == "numbers" and size.numbers <= FORWARD_UP_TO:
        methods["Forward()"] = hg.Forward()

    def call(method: hg.methods.AbstractMethod) -> Callable[[], object]:
        return lambda: hg.hypergradient(problem, method=method, raise_on_failure=True)

    variants = {"plain": lambda: speed.plain(problem)}
    times = speed.timed(variants | {n: call(m) for n, m in methods.items()}, repeats)
    medians = {n: statistics.median(t["seconds"]) for n, t in times.items()}
    return {
        "axis": axis,
        "backend": backend.name,
        "value": getattr(size, axis),
        "weights": case.model.count_params(),
        "median_s": medians,
        "ratio": {n: medians[n] / medians["plain"] for n in methods},
        "compile_s": {n: times[n]["first"] - medians[n] for n in times},
    }


def exponent(rows: list[dict], name: str, base: str) -> float:
    """Slope of log seconds against the log of a column, over its larger half."""
    half = rows[len(rows) // 2 - 1 :]
    x = [math.log(row[base]) for row in half]
    y = [math.log(row["median_s"][name]) for row in half]
    return statistics.linear_regression(x, y).slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(AXES), choices=list(AXES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    found: list[dict] = []
    for axis in options.only:
        print(f"\n| {axis} | weights | plain s | Reverse() s | ratio | Forward() |")
        print("|---|---|---|---|---|---|")
        rows = []
        for size in AXES[axis]:
            row = measured(axis, size, options.repeats)
            rows.append(row)
            show(row)
        base = "weights" if axis == "width" else "value"
        slopes = {n: exponent(rows, n, base) for n in ("plain", "Reverse()")}
        print(f"exponents: {', '.join(f'{n} {s:.2f}' for n, s in slopes.items())}")
        found += rows
    if options.out:
        text = json.dumps({"machine": speed.machine(), "rows": found}, indent=1)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n")


def show(row: dict) -> None:
    seconds, ratio = row["median_s"], row["ratio"]
    forward = f"{ratio['Forward()']:.2f}" if "Forward()" in ratio else ""
    print(
        f"| {row['value']} | {row['weights']} | {seconds['plain']:.3f} "
        f"| {seconds['Reverse()']:.3f} | {ratio['Reverse()']:.2f} | {forward} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
