"""Training as a function of its hyperparameters."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.data import Batches
from hypergrad.space import Float


class TrainState(NamedTuple):
    """What one training step carries of a Keras model.

    ``weights``: trainable variables; ``model_state``: the others (BatchNormalization
    statistics, dropout seeds); ``optimizer_state``: slots and step count. All three in
    the model's own order.
    """

    weights: Any
    model_state: Any
    optimizer_state: Any


class PerStep(NamedTuple):
    """Marks a number that a bind returns as one value for each step.

    ``values``: array (num_steps, …). Step t sees ``values[t]``; its hypergradient is
    collected step by step, so that no step pays for the length of the schedule.
    """

    values: Any


class PerExample(NamedTuple):
    """Marks a number that a bind returns as one value for each training example.

    ``values``: array (num_examples, …). A step sees the rows of its own batch, which
    must be an array of row indices.
    """

    values: Any


class Bound(NamedTuple):
    """What a bind returned, sorted by how a step reaches it; three dicts of arrays."""

    shared: dict
    per_step: dict
    per_example: dict


class Validation(NamedTuple):
    """The outer objective over parts of the validation data.

    E = Σ_k weight_k · loss(state, hparams, chunk_k, data)[0]. ``loss`` returns
    (scalar, metric_state); ``metrics(state, …)`` is None or a function that turns the
    accumulated metric states into a dict of floats.
    """

    loss: Callable
    chunks: tuple
    weights: tuple
    metric_state: Any = ()
    metrics: Callable | None = None


class Problem:
    """A training run as pure functions, and the space of its hyperparameters.

    One step is a gradient and a rule: ``g = ∂L/∂weights`` of
    ``train_loss(weights, state, hparams, batch) -> (loss, aux)``, then
    ``update(g, state, hparams, aux) -> (state, info)``. An opaque
    ``step(state, hparams, batch) -> (state, info)`` may be given instead of the two.
    After ``num_steps`` of them, ``val_loss(state, hparams)`` is the objective E.

    `Problem.from_model` makes one of a compiled Keras model.

    Args:
        init: function, hparams → state; any tree of arrays. Where ``train_loss`` is
            given, ``state.weights`` is what it is differentiated by.
        val_loss: function (state, hparams) → scalar; differentiable.
        num_steps: int ≥ 1, T, the length of the unroll.
        space: dict, name → `Float`.
        step: function (state, hparams, batch) → (state, info), or None.
        train_loss: function (weights, state, hparams, batch) → (loss, aux), or None.
        update: function (grads, state, hparams, aux) → (state, info), or None.
        batches: function t → tree of arrays for step t, pure; None gives the index t.
        data: tree of arrays that every function receives as a last argument. Large
            arrays belong here: what a function closes over is compiled into it.
        bind: pure, differentiable function, dict of hparams → what the other functions
            receive as hparams (a dict; values may be marked `PerStep` or
            `PerExample`). None: the identity.

    Raises:
        ValueError, TypeError: contradictory or missing parts, each naming the fix.

    Example:
        >>> problem = hg.Problem(
        ...     init=lambda hparams: {"w": keras.ops.zeros(3)},
        ...     step=lambda s, hparams, t: (
        ...         {"w": s["w"] - hparams["rate"] * (s["w"] - 1.0)}, {}),
        ...     val_loss=lambda s, hparams: keras.ops.sum(s["w"] ** 2),
        ...     num_steps=5, space={"rate": hg.Float(0.0, 1.0, default=0.1)})
        >>> hg.hypergradient(problem).gradient["rate"]
    """

    def __init__(
        self,
        *,
        init: Callable,
        val_loss: Callable | None,
        num_steps: int,
        space: Mapping[str, Float],
        step: Callable | None = None,
        train_loss: Callable | None = None,
        update: Callable | None = None,
        batches: Callable | None = None,
        data: Any = None,
        bind: Callable | None = None,
    ):
        _check_functions(init, val_loss, step, train_loss, update, batches, bind)
        self.init = init
        self.val_loss: Any = val_loss
        self.num_steps = _checked_num_steps(num_steps)
        self.space = _checked_space(space)
        self.step: Any = step
        self.train_loss: Any = train_loss
        self.update: Any = update
        self.batches: Any = batches
        self.data = None if data is None else tree.map_structure(_as_array, data)
        self.bind: Any = bind
        self.xla: bool | None = None
        self.init_is_constant = False
        self.keras: Any = None  # the KerasParts of `from_model`
        self.validation: Validation | None = None
        self._programs: dict[Any, Any] = {}

    @staticmethod
    def from_model(*args: Any, **kwargs: Any) -> "Problem":
        from hypergrad.from_model import from_model

        return from_model(*args, **kwargs)

    def replace(self, **changes: Any) -> "Problem":
        """The same problem with other parts; compiled programs are shared.

        ``num_steps``, ``data`` (same structure), ``batches`` and ``space`` may be
        replaced without compiling again; another function starts afresh.

        Raises:
            TypeError: an unknown part.
        """
        free = {"num_steps", "data", "batches", "space"}
        known = free | {"init", "val_loss", "step", "train_loss", "update", "bind"}
        unknown = set(changes) - known
        if unknown:
            raise TypeError(
                f"`replace` takes the parts of a Problem: {sorted(known)}. Received: "
                f"{sorted(unknown)}."
            )
        new = object.__new__(Problem)
        new.__dict__.update(self.__dict__)
        if "num_steps" in changes:
            _checked_num_steps(changes["num_steps"])
        if "space" in changes:
            changes["space"] = _checked_space(changes["space"])
        if "data" in changes:
            changes["data"] = tree.map_structure(_as_array, changes["data"])
        new.__dict__.update(changes)
        if set(changes) - free:
            new._programs = {}
        return new

    # Values

    def values(self, values: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
        """Completes values by the defaults and checks them against the space.

        Args:
            values: dict, name → number or array in user units; None: the defaults
                (`Float.start`: without one, the middle of the range).

        Raises:
            ValueError: an unknown name, or a value outside its range.
        """
        values = dict(values or {})
        unknown = [name for name in values if name not in self.space]
        if unknown:
            raise ValueError(
                f"Unknown hyperparameter {unknown[0]!r}. This problem has: "
                f"{sorted(self.space)}."
            )
        return {
            name: float_.validate(name, values[name])
            if name in values
            else float_.start()
            for name, float_ in self.space.items()
        }

    def bound(self, values: Mapping[str, np.ndarray]) -> Bound:
        """The arrays that steps receive, for values that `values` has checked."""
        hparams = self._hparams(values)
        if self.bind is None:
            return Bound(hparams, {}, {})
        return self.program("bind", lambda: self._bind)(hparams)

    def pull_bound(
        self, values: Mapping[str, np.ndarray], cotangent: Bound
    ) -> dict[str, np.ndarray]:
        """dE/dvalues from dE/dbound; NumPy arrays in user units."""
        if self.bind is None:
            return self._ordered(cotangent.shared)

        def pull(hparams, cotangent):
            return backend.vjp(self._bind, hparams).pullback(cotangent)[0]

        program = self.program("pull_bind", lambda: pull)
        return self._ordered(program(self._hparams(values), cotangent))

    def _ordered(self, gradient: dict) -> dict[str, np.ndarray]:
        return {name: backend.to_numpy(gradient[name]) for name in self.space}

    def _hparams(self, values: Mapping[str, np.ndarray]) -> dict:
        dtype = keras.config.floatx()
        dtype = "float32" if dtype in ("float16", "bfloat16") else dtype
        return {name: backend.convert(v, dtype) for name, v in values.items()}

    def _bind(self, hparams: dict) -> Bound:
        bound = self.bind(hparams)
        if not isinstance(bound, Mapping):
            raise TypeError(
                "`bind` must return a dict. Received: "
                f"{type(bound).__name__}. Return name → array."
            )
        groups = Bound({}, {}, {})
        for name, value in bound.items():
            if isinstance(value, PerStep):
                groups.per_step[name] = value.values
            elif isinstance(value, PerExample):
                groups.per_example[name] = value.values
            else:
                groups.shared[name] = keras.ops.convert_to_tensor(value)
        return groups

    # The pure functions, with `data` appended where there are any

    def call_init(self, hparams: dict, data: Any) -> Any:
        return self.init(hparams, *_last(data))

    def call_gradient(
        self, state: Any, hparams: dict, batch: Any, data: Any
    ) -> tuple[Any, Any, Any]:
        """(grads, aux, loss) of ``train_loss`` at ``state.weights``."""
        (loss, aux), grads = backend.value_and_grad(self.train_loss, has_aux=True)(
            state.weights, state, hparams, batch, *_last(data)
        )
        return grads, aux, loss

    def call_update(
        self, grads: Any, state: Any, hparams: dict, aux: Any, data: Any
    ) -> Any:
        """The state after the rule."""
        return self.update(grads, state, hparams, aux, *_last(data))[0]

    def call_step(
        self, state: Any, hparams: dict, batch: Any, data: Any
    ) -> tuple[Any, Any]:
        """(new state, training loss; NaN where an opaque step reports none)."""
        if self.step is not None:
            state, info = self.step(state, hparams, batch, *_last(data))
            loss = info.get("loss") if isinstance(info, Mapping) else None
            return state, 0.0 if loss is None else loss
        grads, aux, loss = self.call_gradient(state, hparams, batch, data)
        return self.call_update(grads, state, hparams, aux, data), loss

    def call_validation(
        self, state: Any, hparams: dict, chunk: Any, metric_state: Any, data: Any
    ) -> tuple[Any, Any]:
        """(E of one chunk, metric state)."""
        if self.validation is None:
            return self.val_loss(state, hparams, *_last(data)), metric_state
        return self.validation.loss(state, hparams, chunk, metric_state, data)

    @property
    def validation_chunks(self) -> list[tuple[float, Any]]:
        """(weight, chunk) for each part of the validation data."""
        if self.validation is None:
            return [(1.0, ())]
        return list(zip(self.validation.weights, self.validation.chunks))

    def batch(self, step: int) -> Any:
        """The batch of one step, as NumPy arrays."""
        if self.batches is None:
            return np.int32(step)
        return tree.map_structure(np.asarray, self.batches(step))

    def longest_run(self, batch: Any) -> int | None:
        """How many batches of this shape can follow each other; None: no limit."""
        if isinstance(self.batches, Batches):
            return self.batches.longest_run(len(batch))
        return None

    # Compiled programs

    def program(self, key: Any, build: Callable[[], Callable], **options: Any) -> Any:
        """The compiled function of that key, made once for all sharing problems."""
        if key not in self._programs:
            self._programs[key] = backend.jit(build(), xla=self.xla, **options)
        return self._programs[key]

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """A decision kept beside the programs, so that another T does not change it."""
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]


def _last(data: Any) -> tuple:
    return () if data is None else (data,)


def _as_array(leaf: Any) -> Any:
    array = backend.convert(leaf)
    wanted = np.asarray(leaf).dtype if isinstance(leaf, np.ndarray) else None
    if wanted == np.float64 and keras.config.floatx() == "float64":
        _check_float64(array)
    return array


def _check_float64(array: Any) -> None:
    if keras.backend.standardize_dtype(array.dtype) != "float64":
        raise ValueError(
            "`floatx` is float64 but arrays arrive as "
            f"{keras.backend.standardize_dtype(array.dtype)}: Keras sets a flag that "
            "JAX does not follow. Call `keras.config.set_floatx('float64')` before "
            "importing hypergrad, which then repairs both."
        )


def _checked_num_steps(num_steps: Any) -> int:
    if not isinstance(num_steps, (int, np.integer)) or num_steps < 1:
        raise ValueError(
            f"`num_steps` must be an integer of at least 1. Received: {num_steps!r}."
        )
    return int(num_steps)


def _checked_space(space: Any) -> dict[str, Float]:
    if not isinstance(space, Mapping) or not space:
        raise ValueError(
            "`space` must be a dict, name → Float, with at least one entry. Received: "
            f"{space!r}."
        )
    for name, value in space.items():
        if not isinstance(value, Float):
            raise TypeError(
                f"`space[{name!r}]` must be a hypergrad.Float. Received: {value!r}. "
                "Write for instance `hg.Float(1e-5, 1.0, sampling='log')`."
            )
    return dict(space)


def _check_functions(
    init: Any,
    val_loss: Any,
    step: Any,
    train_loss: Any,
    update: Any,
    batches: Any,
    bind: Any,
) -> None:
    named = {"init": init, "val_loss": val_loss}
    if step is None:
        if train_loss is None or update is None:
            raise ValueError(
                "A Problem needs `step`, or `train_loss` and `update`. Received: "
                f"train_loss={train_loss!r}, update={update!r}."
            )
        named |= {"train_loss": train_loss, "update": update}
    elif train_loss is not None or update is not None:
        raise ValueError(
            "A Problem takes either `step`, or `train_loss` and `update`. Received "
            "both. The second form lets methods reuse gradients: prefer it."
        )
    else:
        named["step"] = step
    named |= {k: v for k, v in (("batches", batches), ("bind", bind)) if v is not None}
    for name, function in named.items():
        if not callable(function):
            raise TypeError(f"`{name}` must be a function. Received: {function!r}.")
