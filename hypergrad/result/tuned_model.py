"""Tuned numbers in ordinary Keras models: a trained copy, or a model of the user."""

from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.bound import bind_values, seen_by_validation
from hypergrad.clone import build_on, check_like, copied, copy_optimizer
from hypergrad.problem import Problem
from hypergrad.result.tuned_schedule import TunedSchedule
from hypergrad.rules.keras_internals import iterations, unwrap
from hypergrad.targets import Target, discover
from hypergrad.targets.injection import place_of
from hypergrad.targets.loss_weights import set_weights

Numbers = Mapping[str, Any]

_OF_SCHEDULE = "optimizer.learning_rate."


def numbers_of(problem: Problem, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What each path of the model gets, after wildcards and binds.

    A number that changes during training has its value of the last step. Training data
    and their weights are no numbers of a model, and left out.
    """
    bound = bind_values(problem, values)
    tuned = problem.keras.tuned
    arrays = {
        path: value
        for path, value in seen_by_validation(bound).items()
        if path not in tuned.of_kind("data")
    }
    exact = {
        name: values[name]
        for name, paths in tuned.paths.items()
        if paths == [name] and name in bound.shared
    }
    return {
        path: a.item() if a.ndim == 0 else a
        for path, a in (
            (path, np.asarray(exact.get(path, value)))
            for path, value in backend.to_numpy(arrays).items()
        )
    }


def schedules_of(
    problem: Problem, values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Path → array (T, …) of what changes from step to step, but for training data."""
    data = problem.keras.tuned.of_kind("data")
    per_step = bind_values(problem, values).per_step
    return {path: rows for path, rows in per_step.items() if path not in data}


def data_of(problem: Problem) -> list[str]:
    """The paths of training data that are tuned."""
    return sorted(problem.keras.tuned.of_kind("data"))


def trained_copy(problem: Problem, numbers: Numbers, final: Any) -> Any:
    """A copy of the user's model with tuned numbers and the final state of a run.

    What a run starts from (``initial.…``, ``scale.…``) is in its final weights already.
    Of a rate for each variable the compiled one stays: Keras has a single one.

    Raises:
        ValueError: the model cannot be cloned.
        TypeError: ``build_fn`` does not return a compiled model.
    """
    parts = problem.keras
    model = copied(parts.model, parts.build_fn)
    optimizer_numbers, _, _ = _split(_single(numbers))
    set_optimizer_numbers(model, optimizer_numbers)
    data: Any = problem.data
    build_on(model, data["train"])
    check_like(model, parts.model)
    write(problem, model, numbers, final)
    return model


def write(problem: Problem, model: Any, numbers: Numbers, final: Any) -> None:
    """Writes a state of training into such a copy."""
    parts = problem.keras
    # Copies: on JAX a model gives up the memory of what it holds.
    final = tree.map_structure(
        lambda leaf: None if leaf is None else keras.ops.copy(leaf), final
    )
    # What `fit` leaves: with `use_ema`, the averages.
    weights = parts.rule.final_weights(final.weights, final.optimizer_state)
    for variable, value in zip(model.trainable_variables, weights):
        variable.assign(value)
    for variable, value in zip(model.non_trainable_variables, final.model_state):
        variable.assign(value)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with copies of its variables
    # After the state, which holds the constants as compiled.
    set_numbers(model, _split(_single(numbers))[2])
    _write_slots(parts.rule, model.optimizer, final.optimizer_state)


def apply(numbers: Numbers, schedules: Numbers, model: Any) -> None:
    """Writes tuned numbers into a compiled model of the same structure.

    Tuned starts are written as well, as long as the model has not been trained: those
    of ``initial.…`` replace weights, those of ``scale.…`` multiply the ones it has.

    Args:
        numbers: path → number, of what plain Keras `can hold <not_held>`.
        schedules: path → array (T,): a learning rate becomes a `TunedSchedule`.
        model: compiled ``keras.Model``.

    Raises:
        ValueError: a path the model does not have.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "compiled", False):
        raise ValueError(
            "`apply` writes into a compiled keras.Model. Received: "
            f"{type(model).__name__}. Compile it first."
        )
    plain = {path: v for path, v in numbers.items() if path not in schedules}
    optimizer_numbers, starts, others = _split(plain)
    places = _places(model, {**starts, **others})
    if starts and _steps(model) > 0:
        raise ValueError(
            f"{next(iter(starts))!r} is what training starts from, expected a model "
            f"that was not trained yet. Received: {model.name!r} after "
            f"{_steps(model)} steps, whose weights it would overwrite. Pass a model "
            "that was just built and compiled."
        )
    set_optimizer_numbers(model, optimizer_numbers)
    set_numbers(model, others)
    for path, value in starts.items():
        variable = places[path].owner
        new = np.broadcast_to(np.asarray(value), variable.shape)
        if places[path].kind == "scale":
            new = new * backend.to_numpy(variable.value)
        variable.assign(new.astype(variable.dtype))
    for rates in schedules.values():  # of the learning rate alone
        unwrap(model.optimizer).learning_rate = TunedSchedule(list(rates))
    # Functions that Keras compiled before have the old numbers inside.
    model.train_function = model.test_function = model.predict_function = None


def not_held(
    numbers: Numbers, schedules: Numbers, data: Collection[str]
) -> dict[str, str]:
    """Path → why a compiled Keras model cannot hold what was tuned."""
    reasons = dict.fromkeys(data, "is of the training data: pass it to `fit`")
    for path, rows in schedules.items():
        if path != "optimizer.learning_rate":
            reasons[path] = "changes from step to step"
        elif np.ndim(rows) > 1:
            reasons[path] = "is a schedule for each variable"
    for path, value in numbers.items():
        if path not in schedules and _of_each_variable(path, value):
            reasons[path] = "is one number for each variable"
    return reasons


def _split(numbers: Numbers) -> tuple[dict[str, float], dict, dict]:
    """(attribute → number of the optimizer, path → start, path → everything else)."""
    optimizer, starts, others = {}, {}, {}
    for path, value in numbers.items():
        if path.startswith(("initial.", "scale.")):
            starts[path] = value
        elif not path.startswith("optimizer.") or path.startswith(_OF_SCHEDULE):
            others[path] = value
        else:
            optimizer[path.removeprefix("optimizer.")] = float(value)
    return optimizer, starts, others


def _single(numbers: Numbers) -> dict[str, Any]:
    return {path: v for path, v in numbers.items() if not _of_each_variable(path, v)}


def _of_each_variable(path: str, value: Any) -> bool:
    of_optimizer = path.startswith("optimizer.") and not path.startswith(_OF_SCHEDULE)
    return of_optimizer and np.ndim(value) > 0


def _steps(model: Any) -> int:
    optimizer = unwrap(model.optimizer)
    if not optimizer.built:
        return 0
    return int(backend.to_numpy(iterations(optimizer).value))


def set_optimizer_numbers(model: Any, numbers: Mapping[str, float]) -> None:
    """Sets attributes of the model's optimizer, with slots where it now needs them."""
    optimizer = unwrap(model.optimizer)
    if not numbers:
        return
    for attribute, value in numbers.items():
        setattr(optimizer, attribute, value)
    if not optimizer.built:
        return
    fresh = copy_optimizer(optimizer)
    fresh.build(model.trainable_variables)
    if len(fresh.variables) == len(optimizer.variables):
        return
    if int(backend.to_numpy(iterations(optimizer).value)) > 0:
        raise ValueError(
            f"The model's {type(optimizer).__name__} has been trained and was built "
            f"without the slots that {sorted(numbers)} need. Compile the model again, "
            "then apply."
        )
    model.optimizer = fresh


def set_numbers(model: Any, numbers: Numbers) -> None:
    """Writes numbers into layers, regularizers, losses and constant variables."""
    for path, target in _places(model, numbers).items():
        value = numbers[path]
        if target.kind == "variable":
            target.owner.assign(np.broadcast_to(value, target.owner.shape))
            continue
        if target.form == "weight":
            set_weights(model, target.attribute, value)
            continue
        place = place_of(target.owner)
        place[target.attribute] = _like(place.get(target.attribute), value)
        if isinstance(target.owner, keras.layers.Normalization):
            _set_adapted(target.owner, target.attribute)


def _places(model: Any, numbers: Numbers) -> dict[str, Target]:
    """The target of each path.

    Raises:
        ValueError: the model does not have it.
    """
    places: dict[str, Target] = {}
    for target in discover(model) if numbers else []:
        places |= dict.fromkeys(target.paths, target)
    for path in numbers:
        if path not in places:
            raise ValueError(
                f"{path!r} names no number of the model {model.name!r}. Pass a model "
                "of the same structure, with the same names of its own; "
                "hg.tunables(model) lists its paths."
            )
    return {path: places[path] for path in numbers}


def _set_adapted(layer: Any, attribute: str) -> None:
    """Puts a mean or variance where the layer is saved from."""
    held = backend.to_numpy(getattr(layer, attribute))
    if layer.input_mean is None:
        variable = getattr(layer, f"adapt_{attribute}")
        variable.assign(held.reshape(variable.shape))
    else:
        given = getattr(layer, f"input_{attribute}")
        kept = held.reshape([n for n in held.shape if n > 1] or [])
        setattr(layer, f"input_{attribute}", kept if np.ndim(given) else held.tolist())


def _like(old: Any, value: Any) -> Any:
    """The number in the type that stood there: a float, or an array of the backend."""
    if isinstance(old, (list, tuple)):
        return [float(v) for v in value]
    if old is None or isinstance(old, (int, float)):
        return float(value) if np.ndim(value) == 0 else value
    if isinstance(old, np.ndarray):
        return np.broadcast_to(np.asarray(value, old.dtype), old.shape).copy()
    dtype = keras.backend.standardize_dtype(old.dtype)
    return backend.convert(np.broadcast_to(value, old.shape).astype(dtype), dtype)


def _write_slots(rule: Any, optimizer: Any, state: Mapping[str, Any]) -> None:
    try:
        rule.write(optimizer, state)
    except ValueError:
        # Tuned to exactly 0, a momentum has no slots in Keras, and needs none.
        iterations(unwrap(optimizer)).assign(state["iterations"])
