"""The pure functions of a compiled Keras model.

Keras enters through a stateless scope: variables are given their values for the time of
a trace, what the model would have assigned is read back, and nothing is mutated.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.backend import get_keras_mask

from hypergrad import backend
from hypergrad.data import num_rows, rows_of
from hypergrad.keras_checks import (
    check_assigned,
    check_constant,
    explained,
    has_own_loss,
    training,
)
from hypergrad.parts import TrainState
from hypergrad.targets.in_data import tuned_rows
from hypergrad.tunable_space import TunableSpace


class KerasFunctions:
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
            weights, state.model_state, hparams, rows_of(data["train"], batch)
        )

    def _train_loss(
        self, weights: Any, model_state: Any, hparams: dict, rows: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        model = self.model
        rows = tuned_rows(rows, hparams)
        x, y, sample_weight = rows["x"], rows.get("y"), rows.get("sample_weight")
        constants = self.tuned.variables(hparams)
        with (
            explained(training(model)),
            self.tuned.injected(hparams),
            _stateless(model, weights, model_state, constants) as scope,
        ):
            given = [scope.get_current_value(variable) for variable, _ in constants]
            y_pred = _call(model, x, training=True)
            loss = model._compute_loss(
                x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
            )
            new_state = [
                scope.get_current_value(v) for v in model.non_trainable_variables
            ]
            check_assigned(model, scope)
            for (variable, _), value in zip(constants, given):
                check_constant(variable, value is scope.get_current_value(variable))
        return loss, self._without_constants(new_state, model_state, constants)

    def _without_constants(self, new: list, old: Any, constants: list) -> list:
        """The state after a step, in which tuned constants are not carried along."""
        held = {id(variable) for variable, _ in constants}
        variables = self.model.non_trainable_variables
        return [
            before if id(variable) in held else after
            for variable, before, after in zip(variables, old, new)
        ]

    def init(self, hparams: dict, data: Any) -> TrainState:
        """The state of the model as compiled, with the starts that are tuned."""
        state, model = data["initial"], self.model
        return state._replace(
            weights=self.tuned.started(
                hparams, model.trainable_variables, state.weights
            ),
            model_state=self.tuned.started(
                hparams, model.non_trainable_variables, state.model_state
            ),
        )

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
        rows = rows_of(data["validation"], chunk)
        x, y, sample_weight = rows["x"], rows.get("y"), rows.get("sample_weight")
        sums, metrics = metric_state
        with (
            explained(training(model)),
            _stateless(
                model,
                state.weights,
                state.model_state,
                [
                    *zip(model.metrics_variables, metrics),
                    *self.tuned.variables(hparams),
                ],
            ) as scope,
        ):
            with self.tuned.injected(hparams):
                y_pred = _call(model, x, training=False)
                keras_loss = model._compute_loss(
                    x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=False
                )
                size = num_rows(x)
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
        """E over all rows at once."""
        rows = num_rows(data["validation"]["x"])
        index = np.arange(rows, dtype="int32")
        return self.validation_loss(state, hparams, index, self.empty_metrics, data)[0]

    def outputs_are_rows(self, state: TrainState, rows: Mapping[str, Any]) -> bool:
        """Whether outputs have a row for each example, with features and no mask."""
        kinds: list[bool] = []

        def forward(weights: Any, model_state: Any, x: Any) -> list:
            with _stateless(self.model, weights, model_state):
                outputs = tree.flatten(_call(self.model, x, training=False))
            kinds.extend(
                len(y.shape) > 1 and get_keras_mask(y) is None for y in outputs
            )
            return outputs

        backend.jit(forward)(state.weights, state.model_state, rows["x"])
        return all(kinds)

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
            # Inside: a metric may return its variable, which knows its value here.
            found = _flat_results(model.get_metrics_result())
            results = {name: _number(value) for name, value in found}
        # A model with its own `metrics` may report another loss, or none.
        mean = float(sums[0] / sums[1])
        results["keras_val_loss"] = results.pop("loss", mean)
        return results


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
    value = np.asarray(getattr(value, "value", value))
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
