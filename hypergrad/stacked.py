"""All samples of a problem as one problem, with an axis of samples in front.

States, gradients, batches and hyperparameters of the N samples are stacked, and every
function is vectorised over them, so that one program trains all of them and any method
of the steps sweeps them. Each sample has its own copy λ_i of the values, E = Σ_i E_i,
and dE/dλ_i is the hypergradient of sample i.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.bound import curves_of, sorted_bind
from hypergrad.data import AbstractBatches, row_index
from hypergrad.parts import PerExample, PerStep, Validation
from hypergrad.problem import GRAPH_ONLY, Problem
from hypergrad.space import PerTarget


def stacked(problem: Problem) -> Problem:
    """One problem of all samples; its loss is their sum, its metrics say each one's.

    ``metrics`` of its validation are ``{"loss": array (N,), "metrics": list}``.
    """
    samples = [problem.sample(i) for i in range(problem.average)]
    parts = _Parts(problem, samples)
    new = copy.copy(problem)
    new.average, new.samples, new.rows = 1, None, ()
    number = len(samples)
    new.space = {n: PerTarget(f).expand(number) for n, f in problem.space.items()}
    new.data = parts.data
    new.batches = StackedBatches(samples)
    new.bind = parts.bind if problem.bind is not None or problem.rows else None
    new.init = parts.init
    if problem.step is not None:
        new.step = parts.step
    else:
        new.train_loss, new.update = parts.train_loss, parts.update
    new.validation = parts.validation()
    new._programs = problem.remember(("stacked", number, parts.own), dict)
    if GRAPH_ONLY in problem._programs:
        new._programs[GRAPH_ONLY] = True
    return new


def can_be_stacked(problem: Problem) -> bool:
    """Whether all samples take batches of the same shapes, in arrays that are known.

    A bind of a problem of functions may mark numbers of examples, whose rows only the
    function knows.
    """
    if problem.keras is not None:
        return True
    if problem.bind is not None:
        return False
    samples = [problem.sample(i) for i in range(problem.average)]
    return all(
        len({sample.form(t) for sample in samples}) == 1
        for t in range(problem.num_steps)
    )


def spread(problem: Problem, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same values for every sample."""
    number = problem.average
    return {n: np.broadcast_to(v, (number, *v.shape)) for n, v in values.items()}


class StackedBatches(AbstractBatches):
    """The batches of all samples, ``rows``; and ``index``, the numbers of their rows.

    Row r of sample i has the number ``i · num_examples + r`` of one sample, as the
    values of examples are laid out.
    """

    def __init__(self, samples: list[Problem]):
        self.samples = samples
        given = samples[0].batches
        self._rows = None
        if isinstance(given, AbstractBatches):
            self._rows = given.num_examples
        self.varies = isinstance(given, AbstractBatches) and given.varies

    @property
    def num_examples(self) -> int | None:  # type: ignore[override]
        return None if self._rows is None else len(self.samples) * self._rows

    def __call__(self, step: int) -> dict[str, Any]:
        batches = [sample.batch(step) for sample in self.samples]
        found = {"rows": tree.map_structure(lambda *x: np.stack(x), *batches)}
        if self._rows is not None:
            offset = self._rows * np.arange(len(batches), dtype="int32")
            index = np.stack([row_index(batch) for batch in batches])
            found["index"] = index + offset[:, None]
        return found

    def form(self, step: int) -> tuple:
        number = len(self.samples)
        rows = self.samples[0].form(step)
        return tuple(((number, *shape), kind) for shape, kind in rows)

    def longest_run(self, step: int) -> int | None:
        return self.samples[0].longest_run(step)

    def reordered(self, seed: int) -> "StackedBatches":
        raise NotImplementedError("The samples have orders of their own.")

    @property
    def fingerprint(self) -> str:
        return str([getattr(s.batches, "fingerprint", "") for s in self.samples])


class _Weighted(NamedTuple):
    """The parts of the validation data, each with its weight."""

    weights: tuple
    chunks: Any

    def __iter__(self) -> Iterator:
        dtype = keras.config.floatx()
        for weight, chunk in zip(self.weights, self.chunks):
            yield np.asarray(weight, dtype), chunk


class _Parts:
    """The functions of a problem, vectorised over its samples.

    ``own``: which leaves of the data differ between samples; they are stacked, the
    others stand once.
    """

    def __init__(self, problem: Problem, samples: list[Problem]):
        self.problem, self.number = problem, len(samples)
        first, *others = (tree.flatten(sample.data) for sample in samples)
        self.own = tuple(
            any(leaf is not other[k] for other in others)
            for k, leaf in enumerate(first)
        )
        columns = zip(self.own, first, *others)
        stacks = [keras.ops.stack(list(c)) for differs, *c in columns if differs]
        number = np.arange(self.number, dtype="int32")  # an axis where nothing differs
        shared = [leaf for differs, leaf in zip(self.own, first) if not differs]
        self.data = {"own": [number, *stacks], "shared": shared}

    def over_samples(self, function: Callable, data: Any, *arguments: Any) -> Any:
        """``function(*arguments, data)`` of each sample, stacked."""

        def of_one(own: list, *rest: Any) -> Any:
            leaves = iter(own[1:])
            shared = iter(data["shared"])
            whole = [next(leaves) if differs else next(shared) for differs in self.own]
            return function(*rest, tree.pack_sequence_as(self.problem.data, whole))

        return backend.vmap(of_one)(data["own"], *arguments)

    def init(self, hparams: dict, data: Any) -> Any:
        return self.over_samples(self.problem.call_init, data, hparams)

    def train_loss(
        self, weights: Any, state: Any, hparams: dict, batch: Any, data: Any
    ) -> tuple[Any, Any]:
        arguments = weights, state, hparams, batch["rows"]
        losses, aux = self.over_samples(self.problem.call_loss, data, *arguments)
        return keras.ops.sum(losses), aux

    def update(
        self, grads: Any, state: Any, hparams: dict, aux: Any, data: Any
    ) -> tuple[Any, dict]:
        arguments = grads, state, hparams, aux
        return self.over_samples(self.problem.call_update, data, *arguments), {}

    def step(
        self, state: Any, hparams: dict, batch: Any, data: Any
    ) -> tuple[Any, dict]:
        arguments = state, hparams, batch["rows"]
        state, losses = self.over_samples(self.problem.call_step, data, *arguments)
        return state, {"loss": keras.ops.sum(losses)}

    def bind(self, hparams: dict) -> dict:
        """Its shared numbers as they are; the axis of steps or examples in front."""
        problem = self.problem
        rows = {name: hparams[name] for name in problem.rows}
        others = {n: value for n, value in hparams.items() if n not in rows}
        if problem.bind is None:
            return {**others, **self._joined(rows)}
        bound = backend.vmap(sorted_bind(problem))(others)
        curves = curves_of(problem)
        per_step = {
            name: PerStep(
                keras.ops.swapaxes(value, 0, 1), curves.get(name, (None, None))[0]
            )
            for name, value in bound.per_step.items()
        }
        return {**bound.shared, **per_step, **self._joined(bound.per_example | rows)}

    def _joined(self, per_example: dict) -> dict:
        return {
            name: PerExample(keras.ops.reshape(value, (-1, *value.shape[2:])))
            for name, value in per_example.items()
        }

    def validation(self) -> Validation:
        given = self.problem.validation
        of_one = (
            Validation(self.problem.val_loss, [()], (1.0,)) if given is None else given
        )
        dtype = keras.config.floatx()
        states = [of_one.metric_state] * self.number
        stack = tree.map_structure(lambda *leaves: np.stack(leaves), *states)
        return Validation(
            self.validation_loss,
            _Weighted(tuple(of_one.weights), of_one.chunks),
            of_one.weights,
            (stack, np.zeros(self.number, dtype)),
            self.metrics,
        )

    def validation_loss(
        self, state: Any, hparams: dict, chunk: Any, metric_state: Any, data: Any
    ) -> tuple[Any, Any]:
        weight, rows = chunk
        metric_states, total = metric_state

        def of_one(state: Any, hparams: dict, metric_state: Any, data: Any) -> tuple:
            call = self.problem.call_validation
            return call(state, hparams, rows, metric_state, data)

        arguments = state, hparams, metric_states
        losses, metric_states = self.over_samples(of_one, data, *arguments)
        total = total + keras.ops.stop_gradient(weight * losses)
        return keras.ops.sum(losses), (metric_states, total)

    def metrics(self, metric_state: Any) -> dict[str, Any]:
        metric_states, losses = backend.to_numpy(metric_state)
        given = self.problem.validation
        found: list[dict] = [{} for _ in losses]
        if given is not None and given.metrics is not None:
            found = [given.metrics(row(metric_states, i)) for i in range(self.number)]
        return {"loss": losses, "metrics": found}


def row(value: Any, i: int) -> Any:
    """Of sample ``i`` from what is stacked."""
    return tree.map_structure(lambda leaf: None if leaf is None else leaf[i], value)
