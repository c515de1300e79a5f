"""How far hypergradients in float32 are from those in float64, at T = 200.

    KERAS_BACKEND=jax python benchmarks/precision/run.py

``mlp`` and ``cnn`` are those of ``benchmarks/speed``, on random images and labels; the
others are trained on the digits, where many rows become certain and some pixels are
almost always blank. Both precisions train with the same values, which float32 holds
exactly, from the same initial weights on the same batches, each in a process of its
own. A third run, in float64, starts from weights that
are moved by a rounding of float32, relatively 6e-8, and rounds nothing afterwards: what
it is off by is the sensitivity of the run to its start.

Compared is every entry of the hypergradient: a schedule of the learning rate with 20
knots, a weight decay for each weight tensor, both betas.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

STEPS, BATCH, SEEDS = 200, 128, 3
MODELS = ("mlp", "cnn", "digits-mlp", "digits-mlp-tanh", "digits-cnn")


def child(name: str, seed: int, kind: str, file: str) -> None:
    """Writes E and the hypergradient of one run to a file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.config.set_floatx("float32" if kind == "float32" else "float64")
    import numpy as np

    import hypergrad as hg

    problem = _problem(name, seed, 6e-8 if kind == "moved" else 0.0)
    # 1 - 0.999 is off by 1e-5 after beta_2 has been rounded: the same for both.
    values = {n: np.asarray(v, "float32") for n, v in problem.values().items()}
    h = hg.hypergradient(problem, values)
    assert h.status.ok, h.status
    np.savez(
        file,
        loss=np.float64(h.loss),
        **{
            path.replace(".", "/"): np.asarray(g, "float64")
            for path, g in h.gradient.items()
        },
    )


def _problem(name: str, seed: int, moved: float):
    import keras
    import numpy as np

    import hypergrad as hg

    model, x, y, batch_size = _digits(name, seed) if "-" in name else _random(name)
    # Drawn by NumPy, so that both precisions start from the same numbers.
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            limit = np.sqrt(6.0 / (np.prod(variable.shape) / variable.shape[-1]))
            drawn = rng.uniform(-limit, limit, variable.shape).astype("float32")
            variable.assign(drawn * (1.0 + moved * rng.normal(size=drawn.shape)))
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return hg.Problem.from_model(
        model,
        x[:1280],
        y[:1280],
        validation_data=(x[1280:], y[1280:]),
        steps=STEPS,
        batch_size=batch_size,
        seed=seed,
        hyperparameters={
            "optimizer.learning_rate": hg.Schedule(
                hg.Float(1e-5, 1e-1, sampling="log"), knots=20
            ),
            "optimizer.weight_decay": hg.PerVariable(
                hg.Float(1e-5, 1.0, sampling="log")
            ),
            "optimizer.beta_1": hg.Float(0.0, 0.9999, sampling="reverse_log"),
            "optimizer.beta_2": hg.Float(0.0, 0.9999, sampling="reverse_log"),
        },
    )


def _random(name: str):
    """A model of ``benchmarks/speed``, on more rows of its random data."""
    import keras
    import numpy as np

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))
    import models

    case = models.MODELS[name]()
    rng = np.random.RandomState(2)
    x = rng.rand(1792, *case.x.shape[1:]).astype("float32")
    y = rng.randint(0, 10, 1792).astype("int32")
    return case.model, x.astype(keras.config.floatx()), y, case.batch_size


def _digits(name: str, seed: int):
    import keras
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    x = (digits.images[order, ..., None] / 16.0).astype(keras.config.floatx())
    layers = keras.layers

    def dense(activation):
        hidden = [layers.Dense(128, activation=activation) for _ in range(2)]
        return [layers.Flatten(), *hidden]

    bodies = {
        "digits-mlp": dense("relu"),
        "digits-mlp-tanh": dense("tanh"),
        "digits-cnn": [
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
        ],
    }
    model = keras.Sequential([keras.Input((8, 8, 1)), *bodies[name], layers.Dense(10)])
    return model, x, digits.target[order].astype("int32"), BATCH


def compared(name: str, seed: int, folder: Path) -> list[dict]:
    """Relative differences of all entries to float64, of one model and seed."""
    import numpy as np

    found = {}
    for kind in ("float64", "float32", "moved"):
        file = folder / f"{name}-{seed}-{kind}.npz"
        command = [sys.executable, __file__, "--child", name, str(seed), kind]
        subprocess.run([*command, str(file)], check=True)
        found[kind] = dict(np.load(file))
    exact = found.pop("float64")
    loss = exact.pop("loss")
    return [
        {
            "model": name,
            "seed": seed,
            "run": kind,
            "loss": float(loss),
            "loss_difference": float(abs(other["loss"] - loss) / abs(loss)),
            "differences": {
                path: (np.abs(other[path] - g) / np.maximum(np.abs(g), 1e-12))
                .ravel()
                .tolist()
                for path, g in exact.items()
            },
        }
        for kind, other in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/precision"))
    parser.add_argument("--models", nargs="*", default=MODELS, choices=MODELS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, seed, floatx, file = options.child
        child(name, int(seed), floatx, file)
        return
    import numpy as np

    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [
        run
        for name in options.models
        for seed in range(options.seeds)
        for run in compared(name, seed, options.out)
    ]
    print("| model | run | backend | entries | median | 90 % | largest | E |")
    print("|---|---|---|---|---|---|---|---|")
    for name, kind in itertools.product(options.models, ("float32", "moved")):
        mine = [r for r in runs if (r["model"], r["run"]) == (name, kind)]
        all_ = np.concatenate([d for r in mine for d in r["differences"].values()])
        losses = max(r["loss_difference"] for r in mine)
        print(
            f"| {name} | {kind} | {backend} | {len(all_)} | {np.median(all_):.1e} | "
            f"{np.quantile(all_, 0.9):.1e} | {np.max(all_):.1e} | {losses:.1e} |"
        )
    (options.out / f"{backend}.json").write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
