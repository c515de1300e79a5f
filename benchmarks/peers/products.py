"""The products of matrices alone: what of a hypergradient no library can leave out.

    .venv/bin/python benchmarks/peers/products.py jax
    .venv-peers/bin/python benchmarks/peers/products.py torch

A step of training takes three products for each layer but the first, which takes two.
Its derivative takes twice as many again: a gradient anew, and the tangents of its
products. 784-256-256-10 with a batch of 128, 200 steps.
"""

import argparse
import statistics
import sys
import time

import numpy as np
from case import TIMED

REPEATS, STEPS, PER_TRAINING = 7, 200, 3


def products() -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The shapes of the products of one step of training."""
    case, found = TIMED["large"], []
    for i, (n, m) in enumerate(zip(case.sizes, case.sizes[1:])):
        found.append(((case.batch, n), (n, m)))  # outputs
        found.append(((n, case.batch), (case.batch, m)))  # of the kernel
        if i:
            found.append(((case.batch, m), (m, n)))  # of the inputs
    return found


def jax_call(pairs: list) -> object:
    import jax

    given = [(jax.numpy.asarray(a), jax.numpy.asarray(b)) for a, b in pairs]

    @jax.jit
    def call(given, outputs):
        def step(_, outputs):
            # Each step's products depend on those before: none is hoisted or dropped.
            return [(a + 0.0 * c[0, 0]) @ b for (a, b), c in zip(given, outputs)]

        return jax.lax.fori_loop(0, STEPS, step, outputs)

    zeros = [jax.numpy.zeros((a.shape[0], b.shape[1]), "float32") for a, b in given]
    return lambda: jax.block_until_ready(call(given, zeros))


def torch_call(pairs: list) -> object:
    import torch

    given = [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in pairs]

    def call() -> None:
        for _ in range(STEPS):
            for a, b in given:
                torch.mm(a, b)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=["jax", "torch"])
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    pairs = [
        (rng.random(a).astype("float32"), rng.random(b).astype("float32"))
        for a, b in products()
    ]
    call = {"jax": jax_call, "torch": torch_call}[given.library](pairs)
    call()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    work = STEPS * sum(2.0 * a[0] * a[1] * b[1] for a, b in products())
    middle = statistics.median(seconds)
    print(
        f"{given.library}: {middle:.3f} s a training, {work / middle / 1e9:.0f} GFLOP/s"
    )
    print(f"a hypergradient, {PER_TRAINING} trainings' worth: {3 * middle:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
