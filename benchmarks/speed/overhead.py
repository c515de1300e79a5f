"""What the library adds to the same algorithm written by hand for one model.

    KERAS_BACKEND=jax python benchmarks/speed/overhead.py
    KERAS_BACKEND=tensorflow python benchmarks/speed/overhead.py

`by_hand_jax.py` and `by_hand_tensorflow.py` differentiate training of an MLP with Adam
and know nothing else. Both sides start from the same weights, take the same batches and
must agree after 5 steps (later, in float32 on random labels, sums in another order
lead to another training; in float64 `tests/test_by_hand.py` compares them). Their calls
alternate in one process, and their medians are divided.
"""

import argparse
import importlib
import json
import statistics
from pathlib import Path
from typing import NamedTuple

import keras
import models
import numpy as np
from run import machine, timed

import hypergrad as hg
from hypergrad import backend

HYPER = {
    "optimizer.learning_rate": 1e-3,
    "optimizer.beta_1": 0.9,
    "optimizer.beta_2": 0.999,
}


class Sides(NamedTuple):
    """The two hypergradients of one training; call each without arguments."""

    library: object
    by_hand: object


def sides(
    case: models.Case, second_order: str | None = None, rows_val: int = 512
) -> Sides:
    """Both ways to the same derivatives of a dense network with Adam."""
    rule = importlib.import_module(f"by_hand_{keras.backend.backend()}")
    held_out = case.x[:rows_val], case.y[:rows_val]
    problem = hg.Problem.from_model(
        case.model,
        case.x,
        case.y,
        validation_data=held_out,
        steps=case.num_steps,
        batch_size=case.batch_size,
        shuffle=False,
        hyperparameters=list(HYPER),
    )
    weights = [keras.ops.convert_to_numpy(w) for w in case.model.trainable_variables]
    whole = len(case.x) // case.batch_size  # batches of an epoch
    rows = np.arange(whole * case.batch_size).reshape(whole, case.batch_size)
    order = rows[np.arange(case.num_steps) % whole]
    written = rule.Hypergradient(weights, case.x, case.y, order, *held_out)
    method = hg.Reverse("all", second_order=second_order)

    def library() -> tuple[float, list[float]]:
        found = hg.hypergradient(problem, HYPER, method=method)
        return float(found.loss), [float(found.gradient[name]) for name in HYPER]

    return Sides(library, lambda: written(list(HYPER.values())))


def check_agreement(both: Sides, tolerance: float = 1e-3) -> None:
    """Raises where the two derivatives differ; float32 sums in other orders."""
    (loss, ours), (other, theirs) = both.library(), both.by_hand()
    np.testing.assert_allclose([loss, *ours], [other, *theirs], rtol=tolerance)


def measure(num_steps: int, repeats: int) -> dict:
    keras.utils.set_random_seed(0)
    case = models.mlp()
    check_agreement(sides(case._replace(num_steps=5)))
    both = sides(case._replace(num_steps=num_steps))
    times = timed({"hypergrad": both.library, "by hand": both.by_hand}, repeats)
    seconds = {name: t["seconds"] for name, t in times.items()}
    ratios = [a / b for a, b in zip(seconds["hypergrad"], seconds["by hand"])]
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    return {
        "model": "mlp",
        "backend": backend.name,
        "num_steps": num_steps,
        "median_s": medians,
        "ratio": medians["hypergrad"] / medians["by hand"],
        "smallest_ratio": min(ratios),
        "largest_ratio": max(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="*", default=[200])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, help="write the rows to this JSON file")
    options = parser.parse_args()
    print("| model | backend | T | hypergrad s | by hand s | ratio (of pairs) |")
    print("|---|---|---|---|---|---|")
    found = []
    for steps in options.steps:
        row = measure(steps, options.repeats)
        found.append(row)
        medians = row["median_s"]
        print(
            f"| {row['model']} | {row['backend']} | {steps} "
            f"| {medians['hypergrad']:.3f} | {medians['by hand']:.3f} "
            f"| {row['ratio']:.2f} ({row['smallest_ratio']:.2f}-"
            f"{row['largest_ratio']:.2f}) |",
            flush=True,
        )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(), "rows": found}
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
