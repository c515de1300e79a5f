"""Auto against the fastest exact method that fits, and estimates against the clock.

    KERAS_BACKEND=jax python benchmarks/speed/auto.py
    KERAS_BACKEND=tensorflow python benchmarks/speed/auto.py --only 0 4 9 --repeats 3

Twelve cells: T × how many numbers are tuned × memory. In each, `Auto` and all exact
methods that fit into the memory are timed in turns, in one process; a cell's ratio is
the median of Auto over the least median of the others, asked for are 1.5. *estimated*
is what `estimate` says of the method that Auto took, over its median. Beside each table
row, the JSON has the medians and estimates of all methods.
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

import keras
import models
import run as speed

import hypergrad as hg
from hypergrad import backend

BAR = 1.5
ADAM = models.OPTIMIZERS["adam"]
EXACT = (
    hg.Reverse("all"),
    hg.Reverse("sqrt"),
    hg.Reverse("log"),
    hg.Forward(),
    hg.Forward(chunk=1),
    hg.Reverse("sqrt", offload="disk"),
    hg.Reverse("log", offload="disk"),
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """``numbers``: how many are tuned. ``tight``: memory of a tenth of all records."""

    num_steps: int
    numbers: int
    tight: bool = False

    def __str__(self) -> str:
        memory = "tight" if self.tight else "free"
        return f"{self.num_steps} | {self.numbers} | {memory}"


CELLS = (
    Cell(20, 1),
    Cell(20, 3),
    Cell(20, 50),
    Cell(20, 3, tight=True),
    Cell(200, 1),
    Cell(200, 3),
    Cell(200, 50),
    Cell(200, 1, tight=True),
    Cell(200, 50, tight=True),
    Cell(2000, 1),
    Cell(2000, 3, tight=True),
    Cell(2000, 50, tight=True),
)


def tuned(numbers: int) -> dict[str, object]:
    """A rate; with Adam's betas; with a rate for each of 6 variables at 8 knots."""
    rate = hg.Float(1e-4, 1e-1, sampling="log", default=1e-3)
    betas = hg.Float(0.0, 0.9999, sampling="reverse_log", default=0.9)
    one, *others = ADAM.tuned
    found: dict[str, object] = {} if numbers == 1 else dict.fromkeys(others, betas)
    if numbers == 50:
        return {one: hg.Schedule(hg.PerVariable(rate), knots=8), **found}
    return {one: rate, **found}


def problem_of(cell: Cell) -> hg.Problem:
    """An MLP 32-32-32-10, batch 64."""
    case = models.mlp()
    model = keras.Sequential(
        [
            keras.Input((32,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    models.compiled(model)
    x = case.x[:, :32]
    return hg.Problem.from_model(
        model,
        x,
        case.y,
        validation_data=(x[:512], case.y[:512]),
        steps=cell.num_steps,
        batch_size=64,
        hyperparameters=tuned(cell.numbers),
    )


def measured(cell: Cell, repeats: int) -> dict:
    problem = problem_of(cell)
    estimates = {method: hg.estimate(problem, method) for method in EXACT}
    memory = None
    if cell.tight:
        memory = 0.1 * estimates[hg.Reverse("all")].bytes
    auto = hg.Auto(memory)
    fitting = [m for m, e in estimates.items() if memory is None or e.bytes <= memory]
    times = speed.timed(
        {
            str(method): lambda method=method: hg.hypergradient(problem, method=method)
            for method in (auto, *fitting)
        },
        repeats,
    )
    medians = {name: statistics.median(t["seconds"]) for name, t in times.items()}
    chosen = hg.hypergradient(problem, method=auto).info
    least = min(fitting, key=lambda m: medians[str(m)])
    of_chosen = medians[str(chosen["method"])]
    return {
        "backend": backend.name,
        "num_steps": cell.num_steps,
        "numbers": cell.numbers,
        "memory_bytes": memory,
        "auto_s": medians[str(auto)],
        "chosen": str(chosen["method"]),
        "why": chosen["why"],
        "fastest": str(least),
        "fastest_s": medians[str(least)],
        "ratio": medians[str(auto)] / medians[str(least)],
        "estimated": estimates[chosen["method"]].seconds / of_chosen,
        "first_call_s": times[str(auto)]["first"],
        "medians_s": medians,
        "estimates_s": {str(m): e.seconds for m, e in estimates.items()},
    }


def brief(method: str) -> str:
    """A method's text without the settings that are None."""
    name, _, rest = method.partition("(")
    given = [part for part in rest[:-1].split(", ") if not part.endswith("=None")]
    return f"`{name}({', '.join(given)})`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", type=int, default=range(len(CELLS)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    lines = [
        f"| T | numbers | memory | {backend.name}: Auto took | fastest | ratio | "
        "estimated |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    found = []
    for cell in (CELLS[k] for k in options.only):
        row = measured(cell, options.repeats)
        found.append(row)
        lines.append(
            f"| {cell} | {brief(row['chosen'])} | {brief(row['fastest'])} "
            f"| {row['ratio']:.2f} | {row['estimated']:.2f} |"
        )
        print(lines[-1], flush=True)
    worst = max(row["ratio"] for row in found)
    lines.append(f"\nLargest ratio {worst:.2f}, asked for are {BAR}.")
    print(lines[-1])
    options.out.mkdir(parents=True, exist_ok=True)
    document = {"machine": speed.machine(), "rows": found}
    name = f"speed-auto-{backend.name}"
    (options.out / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / f"{name}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
