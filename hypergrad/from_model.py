"""`Problem.from_model`: a compiled Keras model as pure functions.

Keras enters through a stateless scope: variables are given their values for the time of
a trace, what the model would have assigned is read back, and nothing is mutated.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.data import Batches, num_rows, take
from hypergrad.data_checks import (
    check_batching,
    check_targets,
    checked_training_data,
    checked_validation_data,
)
from hypergrad.influence import unreached, warn_unreached
from hypergrad.keras_checks import (
    averages_over_rows,
    check_assigned,
    check_built,
    check_model,
    explained,
    fitting,
    has_own_loss,
)
from hypergrad.problem import Problem, TrainState, Validation
from hypergrad.rules import rule_for
from hypergrad.tunable_space import TunableSpace, tunable_space

VALIDATION_ROWS = 1024
"""Rows of validation data in one program: more are evaluated in several calls."""

PROBE_ROWS = 32
"""Rows that tell whether a number of a layer is used at all."""


@dataclasses.dataclass(frozen=True)
class KerasParts:
    """What a Problem knows of the Keras model it came from.

    ``model``: the user's model, only read. ``rule``: the twin of its optimizer.
    ``tuned``: how hyperparameters reach it. ``batches``: the order of the examples.
    ``build_fn``: function () → compiled model, or None.
    """

    model: Any
    rule: Any
    tuned: TunableSpace
    batches: Batches
    build_fn: Callable | None

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
) -> Problem:
    """Makes a `Problem` of a compiled Keras model; arguments as in ``fit``.

    Everything that ``compile`` holds is honoured in the inner loss L: losses and their
    weights, losses added by layers, regularisation, sample and class weights. The
    objective E is the data loss at the compiled loss in inference mode, without
    penalties and weights, so that tuning cannot move the measuring stick.

    Args:
        model: compiled ``keras.Model``; only read (built first, as ``fit`` would).
        x: array, or nested dict, tuple or list of arrays, a row for each example.
        y: the same, or None where the model computes its own loss.
        sample_weight: array or nested arrays, or None.
        validation_data: tuple (x, y) or (x, y, sample_weight).
        validation_split: float in (0, 1), the last fraction of the rows, instead.
        steps: int, T, or
        epochs: int, that many passes over the data; by default 1.
        batch_size: int; the last, partial batch of an epoch is trained as it is.
        shuffle: bool, a permutation for each epoch from (seed, epoch).
        drop_remainder: bool, leaves a partial batch out.
        class_weight: dict, class → weight.
        seed: int, sets the batch order. Initial weights and dropout states are the
            model's own.
        hyperparameters: dict, path → `Float` or `PerTarget`; or a list of paths, which
            get default ranges. `tunables` lists the paths.
        bind: function, dict of hparams → {path: value}, or None.
        objective: function (y, y_pred) → scalar or array, whose mean is E instead.
            A model with its own ``compute_loss`` has E = that function on validation
            data, in inference mode, its own numbers and penalties as compiled.
        build_fn: function () → compiled model, for models that cannot be cloned.

    Raises:
        ValueError, TypeError: what cannot be trained or tuned; the message says why,
            and what to use instead. Nothing is trained before.

    Warns:
        UserWarning: a number that reaches neither training nor E, or a model that
            computes in bfloat16.

    Example:
        >>> problem = hg.Problem.from_model(
        ...     model, x, y, validation_data=(x_val, y_val), epochs=3, batch_size=64,
        ...     hyperparameters=["optimizer.learning_rate", "optimizer.beta_1"])
    """
    check_model(model, objective)
    train, validation = checked_training_data(
        x, y, sample_weight, class_weight, validation_split, validation_data
    )
    validation = checked_validation_data(validation, train)
    check_targets(train, objective is None and not has_own_loss(model))
    batches = Batches(
        num_rows(train["x"]), batch_size, bool(shuffle), seed, bool(drop_remainder)
    )
    num_steps = check_batching(batches, steps, epochs)
    tuned = tunable_space(model, hyperparameters, bind)
    _build(model, train)
    check_built(model)
    # Once more: what is built knows which of its numbers are idle.
    tuned = tunable_space(model, hyperparameters, bind)
    rule = rule_for(
        model.optimizer, model.trainable_variables, tuned=tuned.optimizer_attributes
    )
    initial = initial_state(model, rule)
    few = {"train": _first_rows(train), "validation": _first_rows(validation)}
    untuned = _Functions(model, None, tuned, objective)
    if objective is not None or model.run_eagerly:  # nothing has traced it before
        backend.jit(lambda: untuned.probe(initial, {}, few))()
    tuned = tuned.settled(lambda: untuned.probe(initial, {}, few)[0])
    parts = KerasParts(model, rule, tuned, batches, build_fn)
    functions = _Functions(model, rule, tuned, objective)
    problem = Problem(
        init=lambda hparams, data: data["initial"],
        train_loss=functions.train_loss,
        update=functions.update,
        val_loss=functions.whole_validation_loss,
        num_steps=num_steps,
        space=tuned.space,
        batches=batches,
        data={"train": train, "validation": validation, "initial": initial},
        bind=tuned.bind,
    )
    problem.init_is_constant = True
    problem.xla = bool(model.jit_compile)
    problem.keras = parts
    rows = num_rows(validation["x"])
    chunks = _chunks(rows, averages_over_rows(model, objective))
    problem.validation = Validation(
        loss=functions.validation_loss,
        chunks=tuple(chunks),
        weights=tuple(len(chunk) / rows for chunk in chunks),
        metric_state=functions.empty_metrics,
        metrics=functions.metrics,
    )
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


def _build(model: Any, train: Mapping[str, Any]) -> None:
    """Builds model, loss, metrics and optimizer as ``fit`` would; no weight changes.

    Built inside a trace, the metrics of a multi-output loss would keep tracers.
    """
    two = {name: tree.map_structure(lambda a: a[:2], v) for name, v in train.items()}
    with backend.tracing(), explained(model), fitting(model, two):
        model._symbolic_build(
            data_batch=(two["x"], two.get("y"), two.get("sample_weight"))
        )


def _first_rows(data: Mapping[str, Any]) -> dict:
    return {
        name: tree.map_structure(lambda a: backend.convert(a[:PROBE_ROWS]), value)
        for name, value in data.items()
    }


def _chunks(rows: int, in_parts: bool) -> list[np.ndarray]:
    number = -(-rows // VALIDATION_ROWS) if in_parts else 1
    size = -(-rows // number)
    index = np.arange(rows, dtype="int32")
    return [index[start : start + size] for start in range(0, rows, size)]


def _without_influence(functions: "_Functions", initial: Any, few: dict) -> list[str]:
    """Paths of the model that reach neither a training step nor E."""
    targets = functions.tuned.model_targets
    if not targets:
        return []
    numbers = {p: np.where(t.value, t.value, 1e-3) for p, t in targets.items()}
    return unreached(lambda hparams: functions.probe(initial, hparams, few), numbers)


class _Functions:
    """The pure functions of a model; all of its numbers are arguments."""

    def __init__(
        self, model: Any, rule: Any, tuned: TunableSpace, objective: Callable | None
    ):
        self.model = model
        self.rule = rule
        self.tuned = tuned
        self.objective = objective
        self.empty_metrics = _empty_metrics(model)

    def train_loss(
        self, weights: Any, state: TrainState, hparams: dict, batch: Any, data: Any
    ) -> tuple[Any, Any]:
        return self._train_loss(
            weights, state.model_state, hparams, take(data["train"], batch)
        )

    def _train_loss(
        self, weights: Any, model_state: Any, hparams: dict, rows: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        model = self.model
        x, y, sample_weight = rows["x"], rows.get("y"), rows.get("sample_weight")
        with (
            explained(model),
            self.tuned.injected(hparams),
            _stateless(model, weights, model_state) as scope,
        ):
            y_pred = _call(model, x, training=True)
            loss = model._compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
            )
            model_state = [
                scope.get_current_value(v) for v in model.non_trainable_variables
            ]
            check_assigned(model, scope)
        return loss, model_state

    def update(
        self, grads: Any, state: TrainState, hparams: dict, aux: Any, data: Any
    ) -> tuple[TrainState, dict]:
        del data
        numbers = self.rule.hyperparameters | self.tuned.optimizer_values(hparams)
        weights, optimizer_state = self.rule.update(
            grads, state.optimizer_state, state.weights, numbers
        )
        return TrainState(weights, aux, optimizer_state), {}

    def validation_loss(
        self, state: TrainState, hparams: dict, chunk: Any, metric_state: Any, data: Any
    ) -> tuple[Any, Any]:
        model = self.model
        rows = take(data["validation"], chunk)
        x, y, sample_weight = rows["x"], rows.get("y"), rows.get("sample_weight")
        sums, metrics = metric_state
        with (
            explained(model),
            _stateless(
                model,
                state.weights,
                state.model_state,
                zip(model.metrics_variables, metrics),
            ) as scope,
        ):
            with self.tuned.injected(hparams):
                y_pred = _call(model, x, training=False)
                keras_loss = model._compute_loss(
                    x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False
                )
                size = chunk.shape[0]
                model._loss_tracker.update_state(keras_loss, sample_weight=size)
                model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
            metrics = [
                keras.ops.stop_gradient(scope.get_current_value(v))
                for v in model.metrics_variables
            ]
            loss = self._data_loss(hparams, x, y, y_pred)
        sums = sums + keras.ops.stack(
            [keras.ops.cast(keras_loss * size, sums.dtype), size]
        )
        return loss, (keras.ops.stop_gradient(sums), metrics)

    def _data_loss(self, hparams: dict, x: Any, y: Any, y_pred: Any) -> Any:
        """E: a tuned number inside the loss does not move it."""
        model = self.model
        if self.objective is not None:
            return keras.ops.mean(self.objective(y, y_pred))
        if not has_own_loss(model):
            return model._compile_loss(y, y_pred)
        # It may read the losses of layers, and numbers of the model itself.
        model._clear_losses()
        with self.tuned.injected(hparams, held=("loss", "regularizer")):
            y_pred = _call(model, x, training=False)
        with self.tuned.injected(hparams, held=("loss", "regularizer", "model")):
            return model._compute_loss(x=x, y=y, y_pred=y_pred, training=False)

    def whole_validation_loss(self, state: TrainState, hparams: dict, data: Any) -> Any:
        rows = num_rows(data["validation"]["x"])
        index = np.arange(rows, dtype="int32")
        return self.validation_loss(state, hparams, index, self.empty_metrics, data)[0]

    def probe(self, state: TrainState, hparams: dict, few: Mapping[str, Any]) -> list:
        """Training loss, what a step leaves in the model, and E, of a few rows."""
        loss, model_state = self._train_loss(
            state.weights, state.model_state, hparams, few["train"]
        )
        rows = np.arange(num_rows(few["validation"]["x"]), dtype="int32")
        value, _ = self.validation_loss(state, hparams, rows, self.empty_metrics, few)
        return [loss, value, *(v for v in model_state if backend.is_inexact(v))]

    def metrics(self, metric_state: tuple) -> dict[str, Any]:
        """Results of the compiled metrics, and Keras' own ``val_loss``."""
        model = self.model
        sums, values = backend.to_numpy(metric_state)
        mapping = [
            (v, keras.ops.convert_to_tensor(value))
            for v, value in zip(model.metrics_variables, values)
        ]
        with keras.StatelessScope(state_mapping=mapping):
            results = dict(_flat_results(model.get_metrics_result()))
        # A model with its own `metrics` may report another loss, or none.
        results["keras_val_loss"] = results.pop("loss", sums[0] / sums[1])
        return {name: _number(value) for name, value in results.items()}


def _empty_metrics(model: Any) -> tuple[np.ndarray, list]:
    """([sum of losses, rows], the variables of the metrics after a reset)."""
    with keras.StatelessScope() as scope:
        model.reset_metrics()
        values = [scope.get_current_value(v) for v in model.metrics_variables]
    return np.zeros(2, keras.config.floatx()), [
        np.asarray(v.value if value is None else value)
        for v, value in zip(model.metrics_variables, values)
    ]


def _number(value: Any) -> Any:
    value = np.asarray(value)
    return float(value) if value.ndim == 0 else value


def _flat_results(results: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _flat_results(value)
        else:
            yield name, value


def _call(model: Any, x: Any, training: bool) -> Any:
    return model(x, training=training) if model._call_has_training_arg else model(x)


@contextmanager
def _stateless(
    model: Any, weights: Any, model_state: Any, more: Any = ()
) -> Iterator[Any]:
    mapping = [
        *zip(model.trainable_variables, weights),
        *zip(model.non_trainable_variables, model_state),
        *more,
    ]
    try:
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            yield scope
    finally:
        model._clear_losses()
