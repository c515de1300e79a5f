"""Further samples of a training: other initial weights, random states, batch orders.

Everything that tells them apart is an argument of the compiled programs, so that all
samples share them.
"""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.utils.rng_utils import GLOBAL_RANDOM_SEED

from hypergrad import backend
from hypergrad.clone import build_on, check_like, copied
from hypergrad.data import FoldBatches, samples_of_folds
from hypergrad.parts import TrainState
from hypergrad.problem_checks import checked_average


class KerasSamples:
    """Samples of the training of a compiled model.

    Sample ``i > 0`` has the seed ``seed + i``: the trained variables of a copy that was
    initialised under it, a new optimizer, the batch order of that seed, and other
    states of the random layers. Variables that are not trained stay those of the model.

    Args:
        model: the user's model, only read.
        rule: the twin of its optimizer.
        build_fn: function () → compiled model, or None: the model is cloned.
        seed: int, of the batch order of sample 0.
    """

    def __init__(self, model: Any, rule: Any, build_fn: Callable | None, seed: int):
        self.model = model
        self.rule = rule
        self.build_fn = build_fn
        self.seed = seed
        self._lasting = 1
        self._weights: dict[int, list] = {}

    def prepare(self, problem: Any, average: Any, resample: str) -> None:
        """Gives a problem that many samples, which are initialised.

        Raises:
            ValueError: no number of samples, or a model that cannot be copied.
        """
        number = checked_average(average)
        if isinstance(problem.batches, FoldBatches):
            number = samples_of_folds(problem.batches.num_folds, number)
        self._lasting = number
        # Of what is drawn anew the first, to be refused before anything is trained.
        for i in range(1, number + (resample != "fixed")):
            self._initialised(problem.data, i)
        problem.average, problem.resample = number, resample

    def parts(self, problem: Any, i: int) -> dict[str, Any]:
        """What sample ``i`` has instead of the data and the batches of a problem."""
        weights = self._initialised(problem.data, i)
        own = reseeded(self.model, problem.data["initial"], i)
        state = TrainState(weights, own.model_state, self.rule.init(weights))
        data = {**problem.data, "initial": state}
        batches = problem.batches.reordered(self.seed + i)
        if isinstance(batches, FoldBatches):
            batches = batches.without(i)
            held = batches.validation(data["train"], data["validation"])
            data["validation"] = held
        return {"data": data, "batches": batches}

    def _initialised(self, data: Any, i: int) -> list:
        """The trained variables of a new copy of the model."""
        if i not in self._weights:
            with seeded(self.seed + i):
                copy = copied(self.model, self.build_fn)
                build_on(copy, data["train"])
            check_like(copy, self.model)
            weights = [backend.snapshot(v) for v in copy.trainable_variables]
            before = self._weights.get(i - 1, data["initial"].weights)
            if _equal(before, weights):
                self._warn_of_equal_weights(i)
            self._weights[i] = weights
            drawn = [k for k in self._weights if k >= self._lasting]
            for k in drawn[: -self._lasting - 1]:
                del self._weights[k]
        return self._weights[i]

    def _warn_of_equal_weights(self, i: int) -> None:
        warnings.warn(
            f"Samples {i - 1} and {i} of {self.model.name!r} start from the same "
            "weights, expected that `average=` initialises them anew: initializers "
            "with a `seed=` of their own, or a `build_fn` that sets one, draw the "
            "same. The samples differ in batch order and random layers only.",
            stacklevel=6,
        )


def reseeded(model: Any, state: TrainState, number: Any) -> TrainState:
    """The state with other seeds of the random layers; ``number`` 0 leaves them."""
    model_state = [
        value + keras.ops.cast(number, value.dtype)
        if variable.name == "seed_generator_state"
        else value
        for variable, value in zip(model.non_trainable_variables, state.model_state)
    ]
    return state._replace(model_state=model_state)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global seeds that initializers draw from; afterwards they are as before."""
    names = (GLOBAL_RANDOM_SEED, GLOBAL_SEED_GENERATOR)
    kept = {name: global_state.get_global_attribute(name) for name in names}
    python, arrays = random.getstate(), np.random.get_state()
    try:
        global_state.set_global_attribute(GLOBAL_RANDOM_SEED, seed)
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, None)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield
    finally:
        for name, value in kept.items():
            global_state.set_global_attribute(name, value)
        random.setstate(python)
        np.random.set_state(arrays)


def _equal(a: list, b: list) -> bool:
    pairs = zip(backend.to_numpy(a), backend.to_numpy(b))
    return all(np.array_equal(x, y) for x, y in pairs)
