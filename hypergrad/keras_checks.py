"""What `Problem.from_model` refuses of a model, before anything is trained."""

import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

_HALF = ("float16", "bfloat16")

# How the frameworks say that a value was asked for while the code was traced.
_ASKED_FOR_AN_ARRAY = ("TracerArrayConversionError", "Cannot convert a symbolic")
_ASKED_FOR_A_VALUE = (
    "TracerBoolConversionError",
    "TracerIntegerConversionError",
    "ConcretizationTypeError",
    "OperatorNotAllowedInGraphError",
    "has no attribute 'numpy'",
    "'numpy'. Did you mean",
)
# Losses of Keras with a value for each row, of the features of this row alone.
_OF_EACH_ROW = frozenset(
    getattr(keras.losses, name)
    for name in (
        "binary_crossentropy",
        "binary_focal_crossentropy",
        "categorical_crossentropy",
        "categorical_focal_crossentropy",
        "categorical_hinge",
        "cosine_similarity",
        "huber",
        "kl_divergence",
        "log_cosh",
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_error",
        "mean_squared_logarithmic_error",
        "poisson",
        "sparse_categorical_crossentropy",
    )
)

_LIBRARIES = ("keras", "jax", "jaxlib", "tensorflow", "numpy", "optree", "hypergrad")


def check_model(model: Any, objective: Any = None) -> None:
    """Refuses what is no compiled Keras model that ``fit`` would train by itself."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a compiled keras.Model. Received: "
            f"{type(model).__name__}. Pass the model itself, after `model.compile(…)`."
        )
    if not getattr(model, "compiled", False) or model.optimizer is None:
        raise ValueError(
            f"The model {model.name!r} is not compiled, so it has neither loss nor "
            "optimizer. Call `model.compile(optimizer=…, loss=…)` first."
        )
    if type(model).train_step is not keras.Model.train_step:
        raise ValueError(
            f"{type(model).__name__} overrides `train_step`, which assigns variables "
            "and cannot be unrolled. `call` and `compute_loss` are honoured: move the "
            "loss into `compute_loss(x, y, y_pred, sample_weight, training)`, or write "
            "an `hg.Problem` with your own step."
        )
    if objective is not None and not callable(objective):
        raise TypeError(
            "`objective` must be a function (y, y_pred) → scalar or array, written in "
            f"`keras.ops`. Received: {objective!r}. For a loss of Keras pass "
            "`keras.losses.get(name)`; the sum of training losses ('sum') is not "
            "supported yet."
        )
    if objective is None and not has_own_loss(model) and model._compile_loss is None:
        raise ValueError(
            f"The model {model.name!r} is compiled without a loss: what its layers add "
            "is trained, but the validation loss E has nothing to measure. Pass "
            "`objective=`, a function (y, y_pred) → scalar, or compile with `loss=…`."
        )


def check_built(model: Any) -> None:
    """Refuses models whose variables cannot be trained as arrays of their dtype."""
    if not model.trainable_variables:
        raise ValueError(
            f"The model {model.name!r} has no trainable variables. Nothing is trained. "
            "Set `trainable = True` where it should be, and compile again."
        )
    _check_optimizer(model)
    for variable in model.variables:
        held = keras.backend.standardize_dtype(variable.value.dtype)
        if held != keras.backend.standardize_dtype(variable.dtype):
            raise ValueError(
                f"The variable {variable.path!r} says {variable.dtype} and holds "
                f"{held}: Keras' float64 setting does not reach JAX by itself. Call "
                "`keras.config.set_floatx('float64')` before importing hypergrad, and "
                "build the model after."
            )
        if "float" in held and not np.isfinite(np.asarray(variable.value)).all():
            raise ValueError(
                f"The variable {variable.path!r} must be finite to train from. "
                "Received NaN or infinite entries. Build the model afresh."
            )
    _check_precision(model)


def _check_optimizer(model: Any) -> None:
    optimizer = model.optimizer
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    held = [v.path for v in optimizer._trainable_variables]
    wanted = [v.path for v in model.trainable_variables]
    if held != wanted:
        differing = sorted(set(held) ^ set(wanted))[:3]
        raise ValueError(
            "The optimizer must be built on the trainable variables of the model. "
            f"Received {len(held)} variables of the optimizer and {len(wanted)} of the "
            f"model, differing in {differing}: `trainable` changed after `compile`. "
            "Call `model.compile(…)` again, with a new optimizer."
        )


def _check_precision(model: Any) -> None:
    for variable in model.trainable_variables:
        if keras.backend.standardize_dtype(variable.dtype) in _HALF:
            raise ValueError(
                f"The variable {variable.path!r} must be float32 or float64: the "
                "derivative of a whole run is lost in half precision. Received: "
                f"{variable.dtype}. Build the model with the dtype policy 'float32' "
                "or 'mixed_bfloat16'."
            )
    computed = {layer.name: layer.compute_dtype for layer in model._flatten_layers()}
    for name, dtype in computed.items():
        if dtype == "float16":
            raise ValueError(
                f"The layer {name!r} computes in float16, where Keras scales the loss "
                "to keep gradients from vanishing. Expected float32, float64 or "
                "bfloat16. Received the dtype policy 'mixed_float16'. Use "
                "'mixed_bfloat16' or 'float32'."
            )
    half = [name for name, dtype in computed.items() if dtype == "bfloat16"]
    if half:
        warnings.warn(
            f"The layer {half[0]!r} computes in bfloat16: weights, optimizer state and "
            "adjoints stay in float32, but the hypergradient carries the rounding of "
            "every step. Compare with the policy 'float32' before trusting it.",
            stacklevel=5,
        )


def has_own_loss(model: Any) -> bool:
    return type(model).compute_loss is not keras.Model.compute_loss


@contextmanager
def explained(part: str) -> Iterator[None]:
    """Says in words of Keras what a framework refuses while user code is traced.

    ``part``: what the code belongs to, in words.
    """
    try:
        yield
    except Exception as error:
        chain = list(_chain(error))
        for one in chain:
            text = f"{type(one).__name__}: {one}"
            if any(mark in text for mark in _ASKED_FOR_AN_ARRAY):
                raise TypeError(_numpy_text(part, one)) from error
        for one in chain:
            text = f"{type(one).__name__}: {one}"
            if any(mark in text for mark in _ASKED_FOR_A_VALUE):
                raise TypeError(_value_text(part, one)) from error
        raise


def training(model: Any) -> str:
    return f"training {model.name!r}"


@contextmanager
def fitting(model: Any, data: Mapping[str, Any]) -> Iterator[None]:
    """Says which shapes were given where a model or its loss refuses the data."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, TypeError) and "incompatible shapes" not in str(error):
            raise
        shapes = {
            name: keras.tree.map_structure(lambda a: ("rows", *a.shape[1:]), value)
            for name, value in data.items()
        }
        raise ValueError(
            f"The model {model.name!r} and its loss must accept the data. Received "
            f"shapes {shapes}, and: {_first_line(error)} Compare with "
            "`model.input_shape`, `model.output_shape` and the compiled losses."
        ) from error


def check_assigned(model: Any, scope: Any) -> None:
    """Refuses steps that assign variables which no step would be given again."""
    own = [*model.variables, *model.metrics_variables]
    own += [v for metric in model._get_own_metrics() for v in metric.variables]
    foreign = set(scope.state_mapping) - {id(v) for v in own}
    if foreign:
        raise ValueError(
            f"Training {model.name!r} assigns {len(foreign)} variable(s) outside of "
            "the model, expected all state in its variables. Received for instance a "
            "random operation without a seed of the layer's own. Create "
            "`self.seed_generator = keras.random.SeedGenerator()` in the layer and "
            "pass it as `seed=`, or make the variable an attribute of the layer."
        )


def check_constant(variable: Any, same: bool) -> None:
    """Refuses to tune a variable that a step of training assigns."""
    if not same:
        raise ValueError(
            f"The variable {variable.path!r} cannot be tuned as a constant: a step of "
            "training assigns it, so that it is state. Expected a variable that stays "
            "as it is. Tune what it starts from, `initial.<layer>.<variable>`."
        )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _numpy_text(part: str, error: BaseException) -> str:
    return (
        f"The code at {_place(error)}, part of {part}, calls NumPy "
        "on a traced value, expected operations that carry a derivative. Received: "
        f"{_first_line(error)} Use `keras.ops` there, for instance `keras.ops.mean` "
        "for `np.mean`."
    )


def _value_text(part: str, error: BaseException) -> str:
    return (
        f"The code at {_place(error)}, part of {part}, asks for the "
        "value of a traced tensor (an `if`, `float`, `int` or `.numpy()`), expected "
        f"code that can be compiled. Received: {_first_line(error)} Use `keras.ops` "
        "there, for instance `keras.ops.where` for `if`."
    )


def _first_line(error: BaseException) -> str:
    line = str(error).strip().splitlines()[0].strip()
    return line if line.endswith(".") else line + "."


def _place(error: BaseException) -> str:
    """File and line of the user's code, the innermost frame outside of libraries."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for frame, line in reversed(frames):
        name = str(frame.f_globals.get("__name__", ""))
        if name.split(".")[0] not in _LIBRARIES and not name.startswith("contextlib"):
            return f"{frame.f_code.co_filename}:{line}"
    return "an unknown place"


def loss_is_row_mean(model: Any, objective: Callable | None) -> bool:
    """Whether the compiled loss is known to be the mean of a function of each row.

    Losses of Keras that are no such mean (Dice, Tversky, Circle, "sum"), an
    ``objective`` and any user's code may couple the rows of a batch.
    """
    if objective is not None or has_own_loss(model):
        return False
    return all(_averages(part.loss) for part in model._compile_loss._flat_losses)


def _averages(loss: Any) -> bool:
    wrapper = keras.losses.MeanSquaredError.__mro__[1]
    settings = getattr(loss, "_fn_kwargs", {})
    return (
        isinstance(loss, wrapper)
        and type(loss).call is wrapper.call
        and type(loss).__call__ is wrapper.__call__
        and loss.fn in _OF_EACH_ROW
        and loss.reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight")
        and settings.get("axis", -1) == -1
        and settings.get("ignore_class") is None
    )
