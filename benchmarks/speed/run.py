"""Time and memory of a hypergradient, as ratios to plain training in one process.

    KERAS_BACKEND=jax python benchmarks/speed/run.py
    KERAS_BACKEND=tensorflow python benchmarks/speed/run.py --models mlp --fit
    KERAS_BACKEND=jax python benchmarks/speed/run.py --models --data

Timings of the variants are interleaved and their medians divided, so that a busy
machine slows all of them alike. Memory is the growth of a child process' largest
resident size over that of the same process after plain training.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import models  # noqa: E402

import hypergrad as hg  # noqa: E402
from hypergrad import backend, unroll  # noqa: E402
from hypergrad.bound import bind_values  # noqa: E402


def problem_of(case: models.Case, optimizer: str = "adam") -> hg.Problem:
    return hg.Problem.from_model(
        case.model,
        case.x,
        case.y,
        validation_data=(case.x[:512], case.y[:512]),
        steps=case.num_steps,
        batch_size=case.batch_size,
        hyperparameters=models.OPTIMIZERS[optimizer].tuned,
    )


def plain(problem: hg.Problem) -> None:
    """T steps of compiled training in one program, and nothing else."""
    bound, state = unroll.start(problem, problem.values())
    segments = unroll.plan(problem, problem.num_steps)
    *_, (_, end, _) = unroll.forward(problem, state, bound, segments)
    backend.synchronize(end)


def timed(variants: dict[str, Callable[[], object]], repeats: int) -> dict:
    """Seconds of each variant: first call, and all of the interleaved later ones."""
    first, rest = {}, {name: [] for name in variants}
    for name, variant in variants.items():
        first[name] = _seconds(variant)
    for _ in range(repeats):
        for name, variant in variants.items():
            rest[name].append(_seconds(variant))
    return {n: {"first": first[n], "seconds": rest[n]} for n in variants}


def _seconds(variant: Callable[[], object]) -> float:
    start = time.perf_counter()
    variant()
    return time.perf_counter() - start


def fit_variants(case: models.Case) -> dict[str, Callable[[], object]]:
    """``model.fit`` over the same number of steps, and with 20 steps an execution."""
    epochs = case.num_steps * case.batch_size // len(case.x)

    def fit(model):
        model.fit(case.x, case.y, batch_size=case.batch_size, epochs=epochs, verbose=0)

    clone = keras.models.clone_model(case.model)
    models.compiled(clone)
    several = keras.models.clone_model(case.model)
    models.compiled(several, steps_per_execution=20)
    return {
        "model.fit": lambda: fit(clone),
        "model.fit, steps_per_execution=20": lambda: fit(several),
    }


def measure(
    name: str,
    optimizer: str,
    repeats: int,
    fit: bool,
    num_steps: int | None,
    second_order: str | None,
) -> dict:
    default = hg.Reverse(second_order=second_order)
    stored = hg.Reverse("all", second_order=second_order)
    case = models.MODELS[name]()
    models.compiled(case.model, optimizer)
    if num_steps:
        case = case._replace(num_steps=num_steps)
    problem = problem_of(case, optimizer)
    variants = {
        "plain": lambda: plain(problem),
        "Reverse()": lambda: hg.hypergradient(problem, method=default),
        'Reverse("all")': lambda: hg.hypergradient(problem, method=stored),
    }
    if fit:
        variants |= fit_variants(case)
    return timed(variants, repeats)


def data_rows(repeats: int, num_steps: int | None) -> list[dict]:
    """Hypergradients of 60,000 weights and of 60,000 images, beside one number's."""
    case = models.mlp_on_many()
    rows = case.x[:512], case.y[:512]
    problems = {
        path: hg.Problem.from_model(
            case.model,
            case.x,
            case.y,
            validation_data=rows,
            steps=num_steps or case.num_steps,
            batch_size=case.batch_size,
            hyperparameters=[path],
        )
        for path in ("optimizer.learning_rate", "data.sample_weight", "data.x")
    }
    times = timed(
        {
            path: lambda problem=problem: hg.hypergradient(problem)
            for path, problem in problems.items()
        },
        repeats,
    )
    base = statistics.median(times["optimizer.learning_rate"]["seconds"])
    return [
        {
            "model": "mlp, 60,000 rows",
            "optimizer": "adam",
            "backend": backend.name,
            "variant": path,
            "median_s": statistics.median(t["seconds"]),
            "min_s": min(t["seconds"]),
            "max_s": max(t["seconds"]),
            "ratio": statistics.median(t["seconds"]) / base,
            "first_call_s": t["first"],
        }
        for path, t in times.items()
    ]


def peak_bytes() -> int:
    """Largest resident size of this process so far.

    Linux hands ``ru_maxrss`` down from the parent, ``VmHWM`` starts with the process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child_memory(name: str, checkpoints: str | None, num_steps: int) -> dict:
    """Growth of the largest resident size over plain training, in this process."""
    case = models.MODELS[name]()._replace(num_steps=num_steps)
    problem = problem_of(case)
    plain(problem)
    plain(problem)
    before = peak_bytes()
    hg.hypergradient(problem, method=hg.Reverse(checkpoints))
    after_first = peak_bytes()
    hg.hypergradient(problem, method=hg.Reverse(checkpoints))
    state = unroll.initial_state(problem, bind_values(problem, problem.values()))
    leaves = keras.tree.flatten(state)
    size = sum(int(backend.to_numpy(leaf).nbytes) for leaf in leaves)
    gradient = sum(int(backend.to_numpy(w).nbytes) for w in state.weights)
    return {
        "peak": peak_bytes() - before,
        "peak_first": after_first - before,
        "state": size,
        "gradient": gradient,
    }


def memory(name: str, checkpoints: str | None, num_steps: int) -> dict:
    command = [sys.executable, __file__, "--child", name, str(checkpoints)]
    out = subprocess.run(
        [*command, "--steps", str(num_steps)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(out.stdout.splitlines()[-1])


def rows(name: str, optimizer: str, times: dict) -> list[dict]:
    """A row for each variant: median, spread and ratio to plain training."""
    plain_median = statistics.median(times["plain"]["seconds"])
    return [
        {
            "model": name,
            "optimizer": optimizer,
            "backend": backend.name,
            "variant": variant,
            "median_s": statistics.median(t["seconds"]),
            "min_s": min(t["seconds"]),
            "max_s": max(t["seconds"]),
            "ratio": statistics.median(t["seconds"]) / plain_median,
            "first_call_s": t["first"],
        }
        for variant, t in times.items()
    ]


def show(row: dict) -> None:
    print(
        f"| {row['model']} | {row['optimizer']} | {row['backend']} "
        f"| {row['variant']} | "
        f"{row['median_s']:.3f} | {row['min_s']:.3f}-{row['max_s']:.3f} | "
        f"{row['ratio']:.2f} | {row['first_call_s']:.1f} |",
        flush=True,
    )


def memory_rows(num_steps: int) -> list[dict]:
    found = []
    for checkpoints in (None, "all"):
        m = memory("mlp", checkpoints, num_steps)
        records = num_steps * (m["state"] + m["gradient"])
        row = {
            "model": "mlp",
            "backend": backend.name,
            "method": f"Reverse({checkpoints!r})",
            "num_steps": num_steps,
            "peak_mb": m["peak"] / 1e6,
            "all_records_mb": records / 1e6,
        }
        print("| " + " | ".join(_text(v) for v in row.values()) + " |", flush=True)
        found.append(row)
    return found


def _text(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def machine() -> dict:
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend.name: importlib.metadata.version(
            {"jax": "jax", "tensorflow": "tensorflow-cpu"}[backend.name]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(models.MODELS))
    parser.add_argument(
        "--optimizers", nargs="*", default=["adam"], choices=list(models.OPTIMIZERS)
    )
    parser.add_argument(
        "--second-order", choices=("reverse", "mixed"), help="of both; else the default"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--fit", action="store_true", help="also time model.fit")
    parser.add_argument(
        "--data", action="store_true", help="also numbers for each training example"
    )
    parser.add_argument("--memory", action="store_true", help="also measure memory")
    parser.add_argument("--out", type=Path, help="write the rows to this JSON file")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, checkpoints = options.child
        given = None if checkpoints == "None" else checkpoints
        print(json.dumps(child_memory(name, given, options.steps)))
        return
    measured: dict = {"machine": machine(), "times": [], "memory": [], "data": []}
    print(
        "| model | optimizer | backend | variant | median s | min-max s | ratio "
        "| first call s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, optimizer in itertools.product(options.models, options.optimizers):
        fit = options.fit and name == "mlp" and optimizer == "adam"
        times = measure(
            name, optimizer, options.repeats, fit, options.steps, options.second_order
        )
        for row in rows(name, optimizer, times):
            show(row)
            measured["times"].append(row)
    if options.data:
        print("\n| ratio here: to the hypergradient of one learning rate")
        measured["data"] = data_rows(options.repeats, options.steps)
        for row in measured["data"]:
            show(row)
    if options.memory:
        print(
            "\n| model | backend | method | T | peak MB above plain | all records MB |"
        )
        print("|---|---|---|---|---|---|")
        measured["memory"] = memory_rows(options.steps or 200)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
