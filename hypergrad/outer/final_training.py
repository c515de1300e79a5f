"""The training that was scored, once more: E on the way, and callbacks of Keras."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from hypergrad import backend, unroll
from hypergrad.arguments import checked_whole
from hypergrad.data import Batches, HostBatches
from hypergrad.description import checksum
from hypergrad.methods import plain
from hypergrad.problem import Bound, Problem
from hypergrad.result import tuned_model

CHANGES_TRAINING = (
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.BackupAndRestore,
    keras.callbacks.SwapEMAWeights,
)


class Passage(NamedTuple):
    """Where a training is after ``step`` steps.

    ``loss``: mean of the training loss since the passage before. ``val_loss``: E.
    """

    step: int
    state: Any
    loss: float
    val_loss: float
    metrics: dict[str, float]


class Trained(NamedTuple):
    """What a `FinalTraining` found.

    ``curve``: dict of lists, "step", "loss", "val_loss" and the metrics on the
    validation data. ``step``: the one that the model is of. ``model``: where a callback
    gave it weights of its own, else None.
    """

    curve: dict[str, list]
    step: int
    model: Any = None


@dataclasses.dataclass(frozen=True)
class FinalTraining:
    """How the training that was scored is gone through once more, at the end.

    Args:
        every: int, steps between two looks at E; None: an epoch.
        restore_best: bool, keeps the state with the lowest E instead of the last one.
        callbacks: callbacks of Keras, which are told of each look as of an epoch.
    """

    every: int | None = None
    restore_best: bool = False
    callbacks: tuple = ()

    @property
    def wanted(self) -> bool:
        return self.every is not None or self.restore_best or bool(self.callbacks)

    def check(self, problem: Problem) -> None:
        """Raises before anything is trained."""
        every = self.every
        if every is not None:
            checked_whole("validate_every", every)
        if self.callbacks and problem.keras is None:
            raise ValueError(
                "Callbacks of Keras follow the training of a model. Received: a "
                "Problem of functions. Pass callbacks of hg.callbacks."
            )
        if self.wanted and every is None:
            steps_per_epoch(problem)
        for callback in self.callbacks:
            _check_callback(callback)

    def run(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Trained:
        """Goes through the training of checked values, of a problem of one sample."""
        every = self.every or steps_per_epoch(problem)
        told = _Told(problem, self.callbacks, every)
        if self.callbacks:
            told.numbers = tuned_model.numbers_of(problem, values)
            told.begin(unroll.start(problem, values)[1])
        passages = []
        for passage in passages_of(problem, values, every):
            # A state is held by the callbacks alone.
            passages.append(passage._replace(state=None))
            if told.of(passage):
                break
        curve: dict[str, list] = {
            "step": [p.step for p in passages],
            "loss": [p.loss for p in passages],
            "val_loss": [p.val_loss for p in passages],
        }
        for name in passages[0].metrics:
            key = name if name.startswith("keras_") else f"val_{name}"
            curve[key] = [p.metrics[name] for p in passages]
        step, model = told.end(passages[-1].step)
        if self.restore_best and model is None:
            losses = np.nan_to_num(np.asarray(curve["val_loss"]), nan=np.inf)
            step = curve["step"][int(np.argmin(losses))]
        return Trained(curve, step, model)


def state_after(problem: Problem, values: Mapping[str, Any], step: int) -> Any:
    """The state of a training after that many steps."""
    *_, last = passages_of(problem, values, step, step, scored=False)
    return last.state


def passages_of(
    problem: Problem,
    values: Mapping[str, Any],
    every: int,
    stop: int | None = None,
    scored: bool = True,
) -> Iterator[Passage]:
    """A training, with a look at it every few steps; programs are those of a run."""
    plain.prepare(problem, values)
    bound, state = unroll.start(problem, values)
    room = plain.capacity(problem, state)
    stop = problem.num_steps if stop is None else stop
    for first in range(0, stop, every):
        last = min(first + every, stop)
        losses: list[np.ndarray] = []
        segments = unroll.plan(problem, room, first, last)
        for segment, after, part in unroll.forward(problem, state, bound, segments):
            state = after
            losses.append(backend.to_numpy(part)[: segment.length])
        found: Any = (np.nan, {})
        if scored:
            found = unroll.validate(problem, state, _until(bound, last))
        loss = float(np.mean(np.concatenate(losses)))
        yield Passage(last, state, loss, float(found[0]), found[1])


def steps_per_epoch(problem: Problem) -> int:
    """Of arrays.

    Raises:
        ValueError: a dataset, or a problem of functions.
    """
    order = problem.batches
    if isinstance(order, HostBatches):
        order = order.order
    if not isinstance(order, Batches):
        raise ValueError(
            "`validate_every` must say after how many steps E is looked at: only the "
            "epochs of arrays are known. Received: "
            f"{type(problem.batches).__name__} and None. Pass `validate_every=`."
        )
    return order.steps_per_epoch


def _until(bound: Bound, step: int) -> Bound:
    """What a training of that many steps receives."""
    per_step = {name: rows[:step] for name, rows in bound.per_step.items()}
    return bound._replace(per_step=per_step)


def _check_callback(callback: Any) -> None:
    name = type(callback).__name__
    if isinstance(callback, CHANGES_TRAINING):
        raise ValueError(
            f"keras.callbacks.{name} changes a training on its way, expected callbacks "
            "that watch the training that was scored. Tune the number it would change "
            "instead, such as a hg.Schedule of the learning rate."
        )
    batch = [
        event
        for event in ("on_train_batch_begin", "on_train_batch_end")
        if getattr(type(callback), event)
        is not getattr(keras.callbacks.Callback, event)
    ]
    if batch and not type(callback).__module__.startswith("keras."):
        raise ValueError(
            f"{name} has a method {batch[0]!r}, expected events of epochs: steps are "
            "run many at a time, and nothing is told of one. Use `on_epoch_end`."
        )


class _Told:
    """The callbacks of Keras during a training, and the model they see."""

    def __init__(self, problem: Problem, callbacks: Sequence[Any], every: int):
        self.problem = problem
        self.numbers: dict[str, Any] = {}
        self.model: Any = None
        self.list: Any = None
        self.callbacks = callbacks
        self.every = every
        self.logs: dict[str, float] = {}
        self._known: dict[str, int] = {}

    def begin(self, state: Any) -> None:
        """Tells of the training that begins there."""
        self.model = tuned_model.trained_copy(self.problem, self.numbers, state)
        self.model.stop_training = False
        self.list = keras.callbacks.CallbackList(
            list(self.callbacks),
            model=self.model,
            epochs=-(-self.problem.num_steps // self.every),
            steps=self.every,
            verbose=0,
        )
        self.list.on_train_begin()

    def of(self, passage: Passage) -> bool:
        """Tells of an epoch; whether training is to stop."""
        if self.list is None:
            return False
        epoch = len(self._known)
        self.list.on_epoch_begin(epoch)
        tuned_model.write(self.problem, self.model, self.numbers, passage.state)
        self._known[_content(self.model)] = passage.step
        self.logs = {"loss": passage.loss, "val_loss": passage.val_loss}
        for name, value in passage.metrics.items():
            key = name if name.startswith("keras_") else f"val_{name}"
            self.logs[key] = value
        self.list.on_epoch_end(epoch, dict(self.logs))
        return bool(self.model.stop_training)

    def end(self, step: int) -> tuple[int, Any]:
        """(the step that the model is of, the model where that is not known)."""
        if self.list is None:
            return step, None
        self.list.on_train_end(dict(self.logs))
        found = self._known.get(_content(self.model))
        return (step, self.model) if found is None else (found, None)


def _content(model: Any) -> str:
    return checksum([backend.to_numpy(v.value) for v in model.variables])
