"""Hypergradient against grid and random search on the digits of scikit-learn.

    make demo
    KERAS_BACKEND=tensorflow make demo

Tunes Adam's learning rate and betas of a small Keras model. Every method has the same
budget in runs, the same compiled training and the same space (``settings.py``). Prints
one table and writes ``demo.png`` and ``demo.md`` to the folder given by ``--out``.
"""

import argparse
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import settings  # noqa: E402
from picture import draw  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

import hypergrad as hg  # noqa: E402

METHODS = (
    "Keras defaults", "grid search", "random search", "hypergradient", "hg.tune"
)  # fmt: skip
SCORES = {
    "validation loss": (min, "{:.4f}"),
    "test loss": (min, "{:.4f}"),
    "test accuracy": (max, "{:.4f}"),
    "seconds": (None, "{:.1f}"),
}


def digits(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training, validation and test part of the 1797 digits, shuffled by the seed."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype("float32")
    order = np.random.default_rng(seed).permutation(len(x))
    first = int(settings.SPLIT[0] * len(x))
    second = first + int(settings.SPLIT[1] * len(x))
    parts = order[:first], order[first:second], order[second:]
    return [(x[part], y[part]) for part in parts]


def build_model(seed: int) -> keras.Model:
    """An ordinary compiled Keras model, with Keras' default Adam."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(settings.HIDDEN, activation="relu"),
            keras.layers.Dense(settings.HIDDEN, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def compare(seed: int) -> dict[str, hg.Result]:
    """The result of each method on one split; the defaults are any result's start."""
    train, validation, test = digits(seed)
    problem = hg.Problem.from_model(
        build_model(seed),
        *train,
        validation_data=validation,
        steps=settings.STEPS,
        batch_size=settings.BATCH_SIZE,
        seed=seed,
        hyperparameters=settings.SPACE,
    )
    options = {"budget": settings.BUDGET, "seed": seed, "test_data": test}
    results = {}
    for name in METHODS[1:]:
        print(f"\nseed {seed}, {name}", flush=True)
        start = time.perf_counter()
        if name == "hg.tune":
            result = hg.tune(problem, verbose=1, **options)
        elif name == "hypergradient":
            # A few points, then steps alone; `hg.tune` would ask a model of E first.
            few = hg.outer.Screening(7)
            result = hg.tune(problem, verbose=1, screening=few, **options)
        else:
            result = hg.search(problem, name.split()[0], verbose=1, **options)
        results[name] = result
        print(f"  {result.loss:.4f} after {time.perf_counter() - start:.1f} s")
    return results


def scores(results: dict[str, hg.Result]) -> dict[str, dict[str, float]]:
    """One number for each method and column of the table."""
    rows = {}
    any_result = results["grid search"]  # the first: its seconds hold the compilation
    rows["Keras defaults"] = {
        "validation loss": any_result.start["loss"],
        **_test(any_result.test["start"]),
        "seconds": any_result.history["seconds"][0],
    }
    for name, result in results.items():
        rows[name] = {
            "validation loss": result.loss,
            **_test(result.test["tuned"]),
            "seconds": result.seconds,
        }
    return rows


def _test(test: dict) -> dict[str, float]:
    return {"test loss": test["loss"], "test accuracy": test["accuracy"]}


def table(all_scores: list[dict[str, dict[str, float]]]) -> str:
    """Mean ± standard deviation over the seeds, and on how many each method is best."""
    lines = ["| method | " + " | ".join(f"{s} | wins" for s in list(SCORES)[:3])]
    lines[0] += " | seconds |"
    lines.append("|---|" + "---|" * 7)
    for name in METHODS:
        cells = []
        for score, (best, form) in SCORES.items():
            column = [rows[name][score] for rows in all_scores]
            cells.append(
                f"{form.format(np.mean(column))} ± {form.format(np.std(column))}"
            )
            if best is not None:
                wins = [
                    rows[name][score] == best(r[score] for r in rows.values())
                    for rows in all_scores
                ]
                cells.append(f"{sum(wins)} of {len(wins)}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    options = parser.parse_args()
    start = time.perf_counter()
    all_results = {seed: compare(seed) for seed in settings.SEEDS}
    all_scores = [scores(results) for results in all_results.values()]
    report = (
        f"Digits, {settings.BUDGET} runs of {settings.STEPS} steps for each method, "
        f"{len(settings.SEEDS)} seeds, {keras.backend.backend()} on "
        f"{platform.machine()} CPU.\n\n{table(all_scores)}\n"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "demo.md").write_text(report)
    draw(all_results, settings.BUDGET, options.out / "demo.png")
    print("\n" + report)
    last = all_results[settings.SEEDS[-1]]["hypergradient"]
    print(f"The last hypergradient result in full:\n\n{last.summary()}\n")
    print(f"{options.out / 'demo.png'} written; {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
