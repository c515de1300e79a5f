"""A problem of the comparison: a model, its data, its length and its space."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

import hypergrad as hg
from benchmark_utils.data import Part, Split

MODEL_SEED = 0
"""Of the initial weights of sample 0, and of the batch orders."""


@dataclasses.dataclass(eq=False)
class Task:
    """One problem; everything that is compiled for it is kept and shared.

    Args:
        name: as in the tables.
        build: function () → compiled ``keras.Model``.
        data: `Split`.
        steps: int, T, the length of one run.
        batch_size: int.
        space: dict, as ``hyperparameters`` of `hg.Problem.from_model`.
        score: the metric of the table besides the loss, "accuracy" or "rmse".
    """

    name: str
    build: Callable[[], keras.Model]
    data: Split
    steps: int
    batch_size: int
    space: Mapping[str, Any]
    score: str = "accuracy"

    def __post_init__(self) -> None:
        self._problems: dict[Any, hg.Problem] = {}
        self._compiling: dict[str, float] = {}
        self._variants = {"tuned": self.space}

    def problem(self, seed: int = 0) -> hg.Problem:
        """Initial weights and batch orders of a seed; programs are shared."""
        return self._sample("tuned", self.space, self.data.validation, seed)

    def variant(self, key: str, space: Mapping[str, Any], seed: int) -> hg.Problem:
        """The same training, with other numbers declared as hyperparameters."""
        self._variants[key] = space
        return self._sample(key, space, self.data.validation, seed)

    def tested(self, key: str, values: Mapping[str, Any], seed: int) -> dict:
        """{"loss", "score"} on the test data after one run, which nobody pays.

        ``key`` says what the values are of: "tuned", or the key of a `variant`.
        """
        space = self._variants[key]
        held_out = self._sample(f"test of {key}", space, self.data.test, seed)
        found = hg.evaluate(held_out, values)
        score = found.metrics.get(self.score, np.nan)
        scale = self.data.scale if self.score == "rmse" else 1.0
        return {"loss": float(found.loss), "score": float(score) * scale}

    def compiled(self, key: str, run: Callable[[], Any]) -> float:
        """Seconds that compiling a program takes: the first call less the second.

        Measured once in a process; later calls return what was measured then.
        """
        if key not in self._compiling:
            first, second = _seconds(run), _seconds(run)
            self._compiling[key] = max(0.0, first - second)
        return self._compiling[key]

    @property
    def numbers(self) -> int:
        """How many hyperparameters there are; an array counts each entry."""
        return sum(int(np.prod(f.shape)) for f in self.problem().space.values())

    def _sample(
        self, key: str, space: Mapping[str, Any], held_out: Part, seed: int
    ) -> hg.Problem:
        if key not in self._problems:
            keras.utils.set_random_seed(MODEL_SEED)
            self._problems[key] = hg.Problem.from_model(
                self.build(),
                *self.data.train,
                validation_data=held_out,
                steps=self.steps,
                batch_size=self.batch_size,
                seed=MODEL_SEED,
                hyperparameters=space,
            )
        whole = self._problems[key]
        return whole.replace(average=seed + 1).sample(seed)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
