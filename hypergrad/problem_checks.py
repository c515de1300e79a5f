"""What a `Problem` refuses, and the arrays it makes of what it is given."""

from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.arguments import checked_whole
from hypergrad.data import AbstractBatches, Batches, row_index
from hypergrad.space import Float, PerTarget, PerVariable, Schedule, layout


def as_array(leaf: Any) -> Any:
    """An array of the backend; floating NumPy arrays and numbers in ``floatx``."""
    if leaf is None:
        return None
    numeric = isinstance(leaf, (np.ndarray, np.generic, float))
    if not numeric or not np.issubdtype(np.asarray(leaf).dtype, np.floating):
        return backend.convert(leaf)
    array = backend.convert(leaf, keras.config.floatx())
    if keras.config.floatx() == "float64":
        _check_float64(array)
    return array


def as_batch(leaf: Any) -> Any:
    """A NumPy array for a step; floats in ``floatx``."""
    array = np.asarray(leaf)
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(keras.config.floatx(), copy=False)
    return array


def _check_float64(array: Any) -> None:
    if keras.backend.standardize_dtype(array.dtype) != "float64":
        raise ValueError(
            "`floatx` is float64 but arrays arrive as "
            f"{keras.backend.standardize_dtype(array.dtype)}: Keras sets a flag that "
            "JAX does not follow. Call `keras.config.set_floatx('float64')` before "
            "importing hypergrad, which then repairs both."
        )


def checked_num_steps(num_steps: Any) -> int:
    return checked_whole("num_steps", num_steps)


def checked_average(average: Any) -> int:
    return checked_whole("average", average, hint="It is the number of samples.")


RESAMPLE = ("fixed", "each_step")


def checked_resample(resample: Any) -> str:
    if resample not in RESAMPLE:
        raise ValueError(
            f"`resample` must be one of {', '.join(map(repr, RESAMPLE))}. Received: "
            f"{resample!r}."
        )
    return str(resample)


def check_samples(problem: Any) -> None:
    """Refuses a mean over samples that are all the same."""
    if problem.samples is not None and not callable(problem.samples):
        raise TypeError(
            "`samples` must be a function, i → dict of data or batches. Received: "
            f"{problem.samples!r}."
        )
    if problem.samples is not None:
        return
    if problem.average > 1 or problem.resample != "fixed":
        name = "average" if problem.average > 1 else "resample"
        raise ValueError(
            f"`{name}` needs samples that differ, and the functions of a Problem have "
            f"no seed. Received: {name}={getattr(problem, name)!r} without `samples`. "
            "Pass `samples=`, a function i → {'data': …, 'batches': …} of sample i "
            "(let `init` read its start or its seed from `data`), or use "
            "hg.Problem.from_model, which initialises a model anew."
        )


def check_sample(i: Any, average: int) -> None:
    if i not in range(average):
        raise ValueError(
            f"`sample` must be one of 0 … {average - 1}. Received: {i!r}. Pass "
            "`average=` to have more."
        )


def checked_sample(parts: Any, data: Any) -> dict[str, Any]:
    """What a sample of a functional problem has of its own."""
    known = {"data", "batches"}
    if not isinstance(parts, Mapping) or not parts or set(parts) - known:
        received = sorted(parts) if isinstance(parts, Mapping) else _kind(parts)
        raise ValueError(
            "`samples` must return a dict with 'data', 'batches' or both. Received: "
            f"{received}."
        )
    if "data" in parts:
        forms = [
            [(path, np.shape(leaf)) for path, leaf in tree.flatten_with_path(value)]
            for value in (data, parts["data"])
        ]
        if forms[0] != forms[1]:
            raise ValueError(
                "`samples` must return data of the form of `data`, which all samples "
                f"are compiled for: {forms[0]}. Received: {forms[1]}."
            )
    if "batches" in parts and not callable(parts["batches"]):
        raise TypeError(
            "`samples` must return `batches` that are a function of the step. "
            f"Received: {parts['batches']!r}."
        )
    return dict(parts)


def checked_space(space: Any) -> dict[str, Any]:
    if not isinstance(space, Mapping) or not space:
        raise ValueError(
            "`space` must be a dict, name → Float, with at least one entry. Received: "
            f"{space!r}."
        )
    for name, value in space.items():
        if not isinstance(value, Float) and not (
            isinstance(value, Schedule) and layout(value).per is None
        ):
            raise TypeError(
                f"`space[{name!r}]` must be a hypergrad.Float, or a Schedule of one. "
                f"Received: {value!r}. Write for instance "
                "`hg.Float(1e-5, 1.0, sampling='log')`."
            )
    return dict(space)


def check_knots(space: Any, num_steps: int) -> None:
    """Refuses schedules with more knots than steps, of what a user declares."""
    for name, given in space.items() if isinstance(space, Mapping) else ():
        groups = isinstance(given, (Schedule, PerTarget, PerVariable))
        schedule = layout(given).schedule if groups else None
        if schedule is not None and schedule.knots > num_steps:
            raise ValueError(_many_knots(name, num_steps, schedule.knots))


def _many_knots(name: str, num_steps: int, knots: int) -> str:
    return (
        f"The schedule of {name!r} must have at most as many knots as the run has "
        f"steps, {num_steps}. Received: {knots} knots. Use fewer knots, or train "
        "longer."
    )


def check_functions(parts: Mapping[str, Any]) -> None:
    """Refuses functions of a Problem that are missing, contradictory or none."""
    wanted = ["init", "val_loss"]
    given = {k: parts[k] for k in ("train_loss", "update")}
    if parts["step"] is None:
        if None in given.values():
            raise ValueError(
                "A Problem needs `step`, or `train_loss` and `update`. Received: "
                + ", ".join(f"{k}={v!r}" for k, v in given.items())
                + "."
            )
        wanted += given
    elif any(v is not None for v in given.values()):
        raise ValueError(
            "A Problem takes either `step`, or `train_loss` and `update`. Received "
            "both. The second form lets methods reuse gradients: prefer it, and pass "
            "`step=None`."
        )
    else:
        wanted.append("step")
    wanted += [k for k in ("batches", "bind") if parts[k] is not None]
    for name in wanted:
        if not callable(parts[name]):
            raise TypeError(
                f"`{name}` must be a function. Received: {parts[name]!r}. See the "
                "arguments of hg.Problem for what it is given and returns."
            )


def check_changes(
    changes: Collection[str], sharing: tuple, functions: tuple, of_a_model: bool
) -> None:
    """Refuses what `Problem.replace` cannot change."""
    unknown = sorted(set(changes) - {*sharing, *functions})
    if unknown:
        raise TypeError(
            "`replace` takes the parts of a Problem: "
            f"{sorted((*sharing, *functions))}. Received: {unknown}."
        )
    kept = sorted(set(changes) & set(functions))
    if of_a_model and kept:
        raise ValueError(
            "The functions of a Keras model's Problem come from the model, expected "
            f"one of {sorted(sharing)}. Received: {kept}. Make a new "
            "Problem.from_model, with `objective=` for another validation loss or "
            "`bind=` for another bind."
        )


def check_replaced_space(
    old: Mapping[str, Float],
    new: Mapping[str, Float],
    fixed: Mapping[str, tuple[float, float]] | None,
) -> None:
    """Refuses a space that the functions of a problem were not made for.

    Args:
        old, new: dict, name → `Float`.
        fixed: for a Keras model, name → (low, high) that its code was traced for;
            None for a problem of functions, where shapes are free.
    """
    if set(old) != set(new):
        raise ValueError(
            f"`replace(space=)` must keep the names {sorted(old)}. Received: "
            f"{sorted(new)}. Make a new Problem for other hyperparameters."
        )
    if fixed is None:
        return
    for name, float_ in new.items():
        if float_.shape != old[name].shape:
            raise ValueError(
                f"`replace(space=)` must keep the shape {old[name].shape} of {name!r}. "
                f"Received: {float_.shape}. Make a new Problem.from_model for another."
            )
        low, high = fixed.get(name, (-np.inf, np.inf))
        new_low = _end(float_.min_value, -np.inf)
        new_high = _end(float_.max_value, np.inf)
        if new_low < low or new_high > high:
            raise ValueError(
                f"The range of {name!r} decided an `if` in the code of the model or "
                f"its optimizer, expected one inside [{low:g}, {high:g}]. Received: "
                f"{float_.range_text()}. Make a new Problem.from_model for a wider one."
            )


def _end(value: float | None, open_: float) -> float:
    return open_ if value is None else float(value)


def check_rows_stay(changes: Collection[str], batches: Any) -> None:
    """Refuses other data where steps are sent their rows, and do not look there."""
    travel = isinstance(batches, AbstractBatches) and not isinstance(batches, Batches)
    if "data" in changes and travel:
        raise ValueError(
            "`replace(data=)` is for arrays that are an argument of the compiled "
            "steps. Received: a problem whose batches are rows of a dataset, or of "
            "arrays that stay on the host. Make a new Problem.from_model."
        )


def check_replaced_data(old: Any, new: Any) -> None:
    """Refuses arrays of another form for a Keras model: batches know the rows."""
    forms = [
        {".".join(map(str, path)): getattr(leaf, "shape", None) for path, leaf in flat}
        for flat in map(tree.flatten_with_path, (old, new))
    ]
    forms = [{k: v and tuple(v) for k, v in form.items()} for form in forms]
    if forms[0] != forms[1]:
        differing = {
            k: (forms[0].get(k), forms[1].get(k))
            for k in (*forms[0], *forms[1])
            if forms[0].get(k) != forms[1].get(k)
        }
        raise ValueError(
            "`replace(data=)` must keep the names and shapes of `problem.data`, whose "
            "number of rows the batches know. Received (expected, received): "
            f"{differing}. Make a new Problem.from_model for data of another size."
        )


def pair(name: str, wanted: str, value: Any) -> tuple[Any, Any]:
    """The two things that a function must return."""
    if type(value) not in (tuple, list) or len(value) != 2:
        raise TypeError(
            f"`{name}` must return a tuple {wanted}. Received: "
            f"{_kind(value)}. Return an empty dict or None for what there is not."
        )
    return value[0], value[1]


def scalar(name: str, value: Any) -> Any:
    """A loss, which must be one number."""
    if isinstance(value, (tuple, list, Mapping)) or value is None:
        raise TypeError(
            f"`{name}` must be a scalar. Received: {_kind(value)}. Return the loss "
            "alone."
        )
    value = keras.ops.convert_to_tensor(value)
    if tuple(value.shape) != ():
        raise ValueError(
            f"`{name}` must be a scalar. Received: shape {tuple(value.shape)}. Take "
            "`keras.ops.mean` or `keras.ops.sum` of it."
        )
    return value


def _kind(value: Any) -> str:
    size = f" of {len(value)}" if isinstance(value, (tuple, list, Mapping)) else ""
    return type(value).__name__ + size


def check_names(values: Any, space: Mapping[str, Float]) -> None:
    if not isinstance(values, Mapping):
        raise TypeError(
            "`values` must be a dict, name → number or array. Received: "
            f"{values!r}. Write for instance {{'optimizer.learning_rate': 0.01}}."
        )
    unknown = [name for name in values if name not in space]
    if unknown:
        raise ValueError(
            f"Unknown hyperparameter {unknown[0]!r}. This problem has: {sorted(space)}."
        )


def check_untraced(values: Mapping[str, Any]) -> None:
    """Refuses values whose derivative, or number, would be lost."""
    for name, value in values.items():
        for leaf in tree.flatten(value):
            leaf = leaf.value if isinstance(leaf, keras.Variable) else leaf
            if backend.is_traced(leaf):
                raise TypeError(_traced(f"a value of {name!r}"))
    # Inside of a compiled function even constants have no number.
    if backend.is_traced(keras.ops.add(1.0, 1.0)):
        raise TypeError(_traced("a call inside of a compiled function"))


def _traced(received: str) -> str:
    return (
        "hypergrad runs its compiled programs one after the other from the host, so "
        "that jit, vmap, grad and gradient tapes cannot follow what goes through them: "
        f"expected numbers. Received: {received} that is being traced. For derivatives "
        "of a hypergradient use `hg.second_derivatives(problem, values)`, differences "
        "of hypergradients; for several values a loop."
    )


def check_per_step(
    per_step: Mapping[str, Any], num_steps: int, curves: Collection[str]
) -> None:
    """``curves``: names whose values are knots."""
    for name, values in per_step.items():
        shape = tuple(values.shape)
        if name in curves:
            if shape[0] > num_steps:
                raise ValueError(_many_knots(name, num_steps, shape[0]))
            continue
        if not shape or shape[0] != num_steps:
            raise ValueError(
                f"`PerStep` of {name!r} must hold a value for each of the {num_steps} "
                f"steps. Received: shape {shape}. Return an array of shape "
                f"({num_steps}, …) from `bind`."
            )


def check_per_example(
    per_example: Mapping[str, Any], batch: Any, examples: int | None
) -> None:
    """``examples``: int, rows of the training data, where they are known."""
    index = row_index(batch)
    for name, values in per_example.items():
        shape = tuple(values.shape)
        if not isinstance(index, np.ndarray) or index.dtype.kind not in "iu":
            raise ValueError(
                f"`PerExample` of {name!r} needs batches that are an array of row "
                f"indices. Received: {_form(batch)}. Let `batches` return the indices, "
                "and gather rows of `data` in the step; of a dataset, pass its arrays."
            )
        if not shape or (examples is not None and shape[0] != examples):
            raise ValueError(
                f"`PerExample` of {name!r} must hold a value for each of the "
                f"{examples or ''} training examples. Received: shape {shape}. Return "
                "an array of shape (examples, …) from `bind`."
            )


def _form(batch: Any) -> str:
    if isinstance(batch, np.ndarray):
        return f"an array of {batch.dtype}"
    return type(batch).__name__
