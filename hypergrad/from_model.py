"""`Problem.from_model`: a compiled Keras model as pure functions.

Keras enters through a stateless scope: variables are given their values for the time of
a trace, what the model would have assigned is read back, and nothing is mutated.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.cut_gradients import refuse_cut_gradients
from hypergrad.data import AbstractBatches
from hypergrad.data_checks import (
    Passes,
    check_rows_are_known,
    check_targets,
    checked_training_data,
    checked_validation_data,
)
from hypergrad.influence import unreached, warn_unreached
from hypergrad.keras_checks import (
    check_built,
    check_model,
    explained,
    fitting,
    has_own_loss,
    loss_is_row_mean,
    training,
)
from hypergrad.keras_functions import KerasFunctions
from hypergrad.parts import TrainState, Validation
from hypergrad.problem import Problem
from hypergrad.problem_checks import check_knots, checked_average, checked_resample
from hypergrad.rules import rule_for
from hypergrad.rules.from_keras import FromKeras
from hypergrad.samples import KerasSamples, reseeded
from hypergrad.tunable_space import TunableSpace, tunable_space

PROBE_ROWS = 32
"""Rows that tell whether a number of a layer is used at all."""


@dataclasses.dataclass(frozen=True)
class KerasParts:
    """What a Problem knows of the Keras model it came from.

    ``model``: the user's model, only read. ``rule``: the twin of its optimizer.
    ``tuned``: how hyperparameters reach it. ``batches``: the order of the examples.
    ``build_fn``: function () → compiled model, or None. ``samples``: further trainings
    of it, from other starts.
    """

    model: Any
    rule: Any
    tuned: TunableSpace
    batches: AbstractBatches
    build_fn: Callable | None
    samples: KerasSamples

    @property
    def fixed_ranges(self) -> dict[str, tuple[float, float]]:
        """The ranges that decided an ``if`` in the code of model or optimizer."""
        return self.tuned.fixed_ranges(isinstance(self.rule, FromKeras))

    def leaf_names(self, state: Any) -> list[str]:
        """A path for each inexact leaf of a `TrainState`."""
        weights = [v.path for v in self.model.trainable_variables]
        names = [*weights, *(v.path for v in self.model.non_trainable_variables)]
        for path, _ in tree.flatten_with_path(state.optimizer_state):
            slot, *position = path
            if position and len(state.optimizer_state[slot]) == len(weights):
                names.append(f"optimizer {slot} of {weights[position[0]]}")
            else:
                names.append(".".join(map(str, ("optimizer", slot, *position))))
        leaves = tree.flatten(state)
        return [n for n, leaf in zip(names, leaves) if backend.is_inexact(leaf)]


def from_model(
    model: Any,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    validation_data: Any = None,
    validation_split: float = 0.0,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 32,
    shuffle: bool = True,
    drop_remainder: bool = False,
    class_weight: Mapping[int, float] | None = None,
    seed: int = 0,
    hyperparameters: Mapping[str, Any] | Sequence[str],
    bind: Callable | None = None,
    objective: Callable | None = None,
    build_fn: Callable | None = None,
    average: int = 1,
    folds: int | None = None,
    resample: str = "fixed",
) -> Problem:
    """`Problem.from_model`, where it is described."""
    check_model(model, objective)
    checked_average(average)
    checked_resample(resample)
    passes = Passes(
        steps, epochs, batch_size, bool(shuffle), bool(drop_remainder), seed, folds
    )
    given, validation_data = checked_training_data(
        x, y, sample_weight, class_weight, validation_split, validation_data, passes
    )
    held_out = checked_validation_data(validation_data, given.arrays, given.batches)
    check_targets(given.arrays, objective is None and not has_own_loss(model))
    check_rows_are_known(hyperparameters, given)
    check_knots(hyperparameters, given.num_steps)
    space_of = functools.partial(
        tunable_space, model, hyperparameters, bind, class_weight=class_weight
    )
    if class_weight and "data.class_weight" in space_of(train=given.named).targets:
        given = given.without_weights()  # made of the weights that are tuned
    train, validation = given.arrays, held_out.arrays
    _build(model, train)
    check_built(model)
    refuse_cut_gradients(model)
    # Once more: what is built knows which of its numbers are idle.
    tuned = space_of(train=given.named)
    rule = rule_for(
        model.optimizer, model.trainable_variables, tuned=tuned.optimizer_attributes
    )
    initial = initial_state(model, rule)
    few = {"train": _first_rows(train), "validation": _first_rows(validation)}
    untuned = KerasFunctions(model, None, tuned, objective)
    if objective is not None or model.run_eagerly:  # nothing has traced it before
        backend.jit(lambda: untuned.probe(initial, {}, few))()
    tuned = tuned.settled(
        lambda seed: untuned.probe(reseeded(model, initial, seed), {}, few)[0]
    )
    samples = KerasSamples(model, rule, build_fn, seed)
    parts = KerasParts(model, rule, tuned, given.batches, build_fn, samples)
    functions = KerasFunctions(model, rule, tuned, objective)
    problem = Problem(
        init=functions.init,
        train_loss=functions.train_loss,
        update=functions.update,
        val_loss=functions.whole_validation_loss if held_out.host is None else _parts,
        num_steps=given.num_steps,
        space=tuned.space,
        batches=given.batches,
        data={"train": train, "validation": validation, "initial": initial},
        bind=tuned.bind,
    )
    samples.prepare(problem, average, resample)
    problem.init_is_constant = not tuned.moves_the_start
    problem.rows = tuned.rows
    problem.xla = bool(model.jit_compile)
    problem.keras = parts
    problem.validation = Validation(
        loss=functions.validation_loss,
        metric_state=functions.empty_metrics,
        metrics=functions.metrics,
        is_row_mean=functools.cache(
            lambda: (
                loss_is_row_mean(model, objective)
                and functions.outputs_are_rows(initial, few["validation"])
            )
        ),
    ).over(held_out.rows, held_out.host)
    for path in _without_influence(functions, initial, few):
        warn_unreached(problem, path, stacklevel=4)
    return problem


def initial_state(model: Any, rule: Any) -> TrainState:
    """The state that ``fit`` would start from, as copies."""
    return TrainState(
        [backend.snapshot(v) for v in model.trainable_variables],
        [backend.snapshot(v) for v in model.non_trainable_variables],
        rule.read(model.optimizer),
    )


def _parts(state: Any, hparams: dict, data: Any) -> Any:
    raise ValueError(
        "The validation data are not one argument of the compiled steps, expected "
        "that E is measured part by part. Received a call of `val_loss`, which takes "
        "all rows at once. Use hypergrad.evaluate(problem).loss."
    )


def _build(model: Any, train: Mapping[str, Any]) -> None:
    """Builds model, loss, metrics and optimizer as ``fit`` would; no weight changes.

    Built inside a trace, the metrics of a multi-output loss would keep tracers.
    """
    two = {name: tree.map_structure(lambda a: a[:2], v) for name, v in train.items()}
    with backend.tracing(), explained(training(model)), fitting(model, two):
        model._symbolic_build(
            data_batch=(two["x"], two.get("y"), two.get("sample_weight"))
        )


def _first_rows(data: Mapping[str, Any]) -> dict:
    return {
        name: tree.map_structure(lambda a: backend.convert(a[:PROBE_ROWS]), value)
        for name, value in data.items()
    }


def _without_influence(functions: KerasFunctions, initial: Any, few: dict) -> list[str]:
    """Paths of the model that reach neither a training step nor E."""
    tuned = functions.tuned
    targets = tuned.model_targets | tuned.of_kind("variable", "data")
    if not targets:
        return []
    held = {
        path: target.value[:PROBE_ROWS] if target.per_example else target.value
        for path, target in targets.items()
    }
    numbers = {path: np.where(value, value, 1e-3) for path, value in held.items()}
    return unreached(lambda hparams: functions.probe(initial, hparams, few), numbers)
