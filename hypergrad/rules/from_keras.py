"""Any Keras optimizer, by running its own code on values instead of variables."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops

from hypergrad import backend
from hypergrad.rules import keras_internals as internals
from hypergrad.rules import options as opt
from hypergrad.rules._abstract import AbstractRule
from hypergrad.rules.per_variable import rank, scalar
from hypergrad.rules.pure_twin import pure_twin
from hypergrad.rules.schedules import PREFIX, evaluate
from hypergrad.traced import Traced


@dataclass(frozen=True, eq=False)
class FromKeras(AbstractRule):
    """The update that a Keras optimizer's own ``update_step`` computes.

    The optimizer's code runs in a stateless scope on a *twin*: an instance of a
    subclass that shares the variables of the optimizer as keys and nothing else, so
    that the optimizer itself is never written to. The numbers in ``hparams`` that are
    tensors stand in the twin's attributes as `Traced` numbers.

    Exact to rounding, with two limits that the rules of this package do not have. The
    derivative is that of the optimizer's own arithmetic, but for square roots, whose
    derivative at 0 is ½ here instead of infinite: a power or a division may still give
    NaN where a gradient is exactly zero. And a Python branch on a tuned number must
    have one answer over the whole range of the number, or `Traced` raises.

    ``use_ema``, ``gradient_accumulation_steps`` and clipping run without branches on
    traced values, in ``pure_twin.py`` instead of Keras' code. A number is one for all
    variables.

    Attributes:
        hyperparameters: every float attribute without a leading underscore,
            ``learning_rate`` unless a schedule gives it, ``weight_decay``.
        optimizer: the built optimizer whose code runs: the user's, or where a number
            of 0 is tuned a copy that is built with a positive one (with a momentum of
            0 Keras builds no slots for it).
        initial: for each slot its initial value: a NumPy scalar where all entries are
            equal, else an array.
        ranges: tuned attribute -> (low, high) that its `Traced` answers for.
    """

    hyperparameters: Mapping[str, float]
    optimizer: Any
    initial: tuple[np.ndarray, ...]
    ranges: Mapping[str, tuple[float, float]]

    @classmethod
    def from_optimizer(
        cls,
        optimizer: Any,
        variables: list,
        tuned: Collection[str] | Mapping[str, tuple[float, float]] = (),
    ) -> "FromKeras":
        hyperparameters = _numbers(optimizer)
        given = tuned if isinstance(tuned, Mapping) else {}
        ranges = {name: given.get(name, _default_range(name)) for name in tuned}
        if not optimizer.built:
            optimizer.build(variables)
        fresh = _rebuilt(optimizer, variables, _away_from_zero(hyperparameters, ranges))
        # A copy with other slots takes the optimizer's place.
        same = len(fresh.variables) == len(optimizer.variables)
        return cls(
            hyperparameters=hyperparameters,
            optimizer=optimizer if same else fresh,
            initial=tuple(_compressed(v) for v in _slots(fresh)),
            ranges=ranges,
        )

    def init(self, weights: list) -> dict:
        slots = [
            ops.broadcast_to(backend.convert(value), v.shape)
            for value, v in zip(self.initial, _slots(self.optimizer), strict=True)
        ]
        count = ops.zeros((), dtype=internals.iterations(self.optimizer).dtype)
        return {"iterations": count, "variables": slots}

    def read(self, optimizer: Any) -> dict:
        optimizer = internals.unwrap(optimizer)
        held, wanted = _slots(optimizer), _slots(self.optimizer)
        if len(held) == len(wanted):
            slots = [backend.snapshot(v) for v in held]
        else:
            # Built without some of the slots: those start as in a new optimizer.
            found = _by_name(held)
            slots = [
                backend.snapshot(found.get(key, new))
                for key, new in _by_name(wanted).items()
            ]
        count = backend.snapshot(internals.iterations(optimizer))
        return {"iterations": count, "variables": slots}

    def write(self, optimizer: Any, state: Mapping[str, Any]) -> None:
        optimizer = internals.unwrap(optimizer)
        held = _slots(optimizer)
        if len(held) != len(state["variables"]):
            raise ValueError(
                f"The state has {len(state['variables'])} optimizer variables, "
                "expected an optimizer that is built with as many. Received: "
                f"{type(optimizer).__name__} with {len(held)}. Build it on the model's "
                "trainable variables, with the numbers that were tuned nonzero."
            )
        internals.iterations(optimizer).assign(state["iterations"])
        for variable, value in zip(held, state["variables"]):
            variable.assign(value)

    def update(
        self,
        grads: list,
        state: Mapping[str, Any],
        weights: list,
        hparams: Mapping[str, Any],
    ) -> tuple[list, dict]:
        count, slots = internals.iterations(self.optimizer), _slots(self.optimizer)
        own = internals.trainable_variables(self.optimizer)
        if any(name.startswith(PREFIX) for name in hparams):
            schedule = internals.rate_source(self.optimizer)
            rate = evaluate(schedule, state["iterations"], hparams)
            hparams = {k: v for k, v in hparams.items() if not k.startswith(PREFIX)}
            hparams["learning_rate"] = rate
        twin = pure_twin(self.optimizer, self._attributes(hparams), slots)
        mapping = [
            *zip(own, weights, strict=True),
            *zip(slots, state["variables"], strict=True),
            (count, state["iterations"]),
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            with backend.finite_roots():
                twin.apply(grads)
        new_state = {
            "iterations": scope.get_current_value(count),
            "variables": [scope.get_current_value(v) for v in slots],
        }
        return [scope.get_current_value(v) for v in own], new_state

    def final_weights(self, weights: list, state: Mapping[str, Any]) -> list:
        if not self.optimizer.use_ema:
            return weights
        held = dict(zip(map(id, _slots(self.optimizer)), state["variables"]))
        averages = internals.moving_averages(self.optimizer)
        return [w if a is None else held[id(a)] for w, a in zip(weights, averages)]

    def _attributes(self, hparams: Mapping[str, Any]) -> dict[str, Any]:
        """What stands in the twin: tensors as `Traced`, numbers as they are."""
        attributes: dict[str, Any] = {}
        for name, value in hparams.items():
            if rank(value) != 0:
                raise ValueError(
                    f"`{name}` has an entry for each variable, expected one number: "
                    f"{type(self.optimizer).__name__} runs by its own code, which has "
                    f"one for all. Received: shape {tuple(value.shape)}. Tune one "
                    "number, or compile with an optimizer of keras.optimizers itself."
                )
            if name == "learning_rate":
                # Keras' is a variable, which no float32 rounding on the way touches.
                attributes["_learning_rate"] = scalar(value, keras.config.floatx())
            elif isinstance(value, Traced):
                attributes[name] = value
            elif isinstance(value, Real):
                if value != self.hyperparameters.get(name):
                    attributes[name] = float(value)
            else:
                if name not in self.ranges and name in self._built_at_zero():
                    raise ValueError(
                        f"`{name}` is a tensor, expected a Python number: the "
                        f"optimizer is built with 0, for which it may have no slots. "
                        f"Received: {value!r}. Name it in "
                        f"`rule_for(optimizer, variables, tuned=({name!r},))`."
                    )
                low, high = self.ranges.get(name, _default_range(name))
                attributes[name] = Traced(
                    value, low=low, high=high, name=f"optimizer.{name}"
                )
        return attributes

    def _built_at_zero(self) -> set[str]:
        numbers = self.hyperparameters.items()
        return {n for n, value in numbers if value == 0 and n != "weight_decay"}


def _numbers(optimizer: Any) -> dict[str, float]:
    skipped = {"loss_scale_factor", "clipnorm", "clipvalue", "global_clipnorm"}
    if not optimizer.use_ema:
        skipped.add("ema_momentum")
    found = {
        name: value
        for name, value in vars(optimizer).items()
        if type(value) is float and not name.startswith("_") and name not in skipped
    }
    return {**found, **opt.shared_hyperparameters(optimizer)}


def _default_range(name: str) -> tuple[float, float]:
    below_one = name.startswith("beta") or name in ("momentum", "rho", "ema_momentum")
    return (0.0, 1.0 if below_one else np.inf)


def _away_from_zero(
    hyperparameters: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """An interior value for each tuned number that is compiled as 0."""
    return {
        name: low + 0.5 * min(high - low, 1.0)
        for name, (low, high) in ranges.items()
        if name != "weight_decay" and hyperparameters.get(name) == 0
    }


def _rebuilt(optimizer: Any, variables: list, numbers: Mapping[str, float]) -> Any:
    """A fresh copy, built: the initial values of the slots are read from it."""
    try:
        fresh = type(optimizer).from_config({**optimizer.get_config(), **numbers})
    except Exception as error:
        raise ValueError(
            f"{type(optimizer).__name__} could not be copied through `get_config` and "
            "`from_config`, expected as for every Keras optimizer. Received: "
            f"{type(error).__name__}: {error}. Let `get_config` return every argument "
            "of its constructor."
        ) from error
    fresh.build(variables)
    return fresh


def _slots(optimizer: Any) -> list:
    """All variables but the step count and the learning rate."""
    skipped = (internals.iterations(optimizer), internals.rate_source(optimizer))
    return [v for v in optimizer.variables if all(v is not s for s in skipped)]


def _by_name(variables: list) -> dict[tuple[str, int], Any]:
    """Variables by their name and how many before them have the same one."""
    seen: Counter[str] = Counter()
    found = {}
    for v in variables:
        found[v.name, seen[v.name]] = v
        seen[v.name] += 1
    return found


def _compressed(variable: Any) -> np.ndarray:
    value = ops.convert_to_numpy(variable.value)
    if value.size and np.all(value == value.flat[0]):
        return value.reshape(-1)[0]
    return value
