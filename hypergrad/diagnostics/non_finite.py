"""Where a training first went non-finite: step, layer, variable, operation."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from hypergrad import backend, unroll
from hypergrad.diagnostics.watch import Seen, Watch, finite, is_float, traced, watching
from hypergrad.locate import leaf_names, run_status
from hypergrad.methods import plain
from hypergrad.problem import Problem
from hypergrad.status import Status


class NanReport(NamedTuple):
    """What `nan_report` found; ``print`` shows it.

    ``ok``: whether all is finite. ``step``: counted from 0. ``phase``: "forward" (the
    training loss), "backward" (its gradient), "update" (the optimizer), "validation",
    or "" where it cannot be told. ``layer``: path of the layer, or name of the loss,
    or None. ``variable``: path of the first variable that is not finite after the step,
    or "training loss", "validation loss". ``operation``: such as "ops.log", or None
    where it is none of ``keras.ops``. ``learning_rate``: float, of that step (a mean
    where there are several), or None. ``status``: the `Status` of the run.
    """

    ok: bool
    step: int | None = None
    phase: str = ""
    layer: str | None = None
    variable: str | None = None
    operation: str | None = None
    learning_rate: float | None = None
    status: Status = Status()

    def __str__(self) -> str:
        if self.ok:
            return "Everything is finite."
        what = {
            "forward": "the training loss",
            "backward": "the gradient of the training loss",
            "update": "the update of the optimizer",
            "validation": "the validation loss",
        }.get(self.phase, "the training")
        where = f"in layer {self.layer!r}" if self.layer else ""
        if (self.layer or "").startswith("loss "):
            where = f"in the {self.layer}"
        by = f"by {self.operation}" if self.operation else ""
        rate = (
            f"learning rate {self.learning_rate:.4g}"
            if self.learning_rate is not None
            else ""
        )
        parts = [
            f"Step {self.step}: {what} is not finite for the first time",
            *filter(None, (where, by)),
        ]
        shown = f"First seen in: {self.variable}."
        return f"{' '.join(parts)}{f' ({rate})' if rate else ''}. {shown}"


def nan_report(problem: Problem, values: Mapping[str, Any] | None = None) -> NanReport:
    """Finds where a training first leaves the finite numbers.

    The run says at which step something is not finite. That step is then taken once
    more without compilation, and each operation looked at: the first whose inputs are
    finite and whose outputs are not, in a layer whose outputs are not finite either
    (an infinite mask that a layer handles is no fault). Where the loss is finite and
    its gradient is not, the derivative of the loss by the output of every operation
    tells which operation's derivative it is.

    Args:
        problem: a `Problem`; of ``average=N`` sample 0 is looked at.
        values: dict, name → number or array; None: the defaults.

    Returns:
        A `NanReport`.

    Cost: two runs at most, and one step without compilation.

    Example:
        >>> print(hg.nan_report(problem, {"optimizer.learning_rate": 1e3}))
    """
    problem = problem.sample(0)
    checked = problem.values(values)
    tape = plain.train(problem, checked)
    status = run_status(problem, tape)
    if status.ok:
        return NanReport(True)
    assert status.step is not None
    step = status.step
    if status.variable == "validation loss":
        return _at_validation(problem, tape, NanReport(False, step, status=status))
    state, bound = _state_before(problem, checked, step)
    inputs = unroll.step_inputs(problem, bound, unroll.Segment(step, 1, 1))
    hparams, batch = unroll.step_arguments(_on_device(inputs), 0)
    found = _in_step(problem, state, hparams, batch)
    return NanReport(
        ok=False,
        step=step,
        variable=status.variable,
        learning_rate=_learning_rate(problem, hparams),
        status=status,
        **found,
    )


def _on_device(inputs: Any) -> Any:
    return tree.map_structure(
        lambda v: backend.convert(v) if isinstance(v, np.ndarray) else v, inputs
    )


def _state_before(
    problem: Problem, values: Mapping[str, np.ndarray], step: int
) -> tuple[Any, Any]:
    bound, state = unroll.start(problem, values)
    segments = unroll.plan(problem, plain.capacity(problem, state), stop=step)
    for _, end, _ in unroll.forward(problem, state, bound, segments):
        state = end
    return tree.map_structure(_as_tensor, state), bound


def _as_tensor(leaf: Any) -> Any:
    return None if leaf is None else backend.convert(leaf)


def _in_step(problem: Problem, state: Any, hparams: dict, batch: Any) -> dict[str, Any]:
    """phase, layer, operation of one step, taken eagerly."""
    data = problem.data
    look = _FirstFault()
    if problem.step is not None:
        with watching(look):
            after, loss = problem.call_step(state, hparams, batch, data)
        look.ended((after, loss))
        return look.found("forward") or {}
    with watching(look):
        loss, aux = problem.call_loss(state.weights, state, hparams, batch, data)
    look.ended((loss, aux))
    if not finite((loss, aux)):
        return look.found("forward") or {"phase": "forward"}
    gradient, aux, _ = problem.call_gradient(state, hparams, batch, data)
    if not finite(gradient):
        return _in_backward(problem, state, hparams, batch, gradient)
    look = _FirstFault()
    with watching(look):
        after = problem.call_update(gradient, state, hparams, aux, data)
    look.ended(after)
    return look.found("update") or {"phase": "update" if not finite(after) else ""}


class _FirstFault(Watch):
    """The first operation that makes a layer's outputs non-finite."""

    def __init__(self) -> None:
        self.faults: list[tuple[str | None, str | None]] = []
        self.settled = False

    def operation(self, seen: Seen) -> Any:
        if self.settled or traced((seen.args, seen.outputs)):
            return seen.outputs
        if not finite(seen.outputs) and finite(seen.args):
            self.faults.append((seen.layer, seen.name))
        return seen.outputs

    def layer_ends(self, layer: str, outputs: Any) -> None:
        if self.settled or traced(outputs):
            return
        if finite(outputs):
            self.faults = [f for f in self.faults if f[0] != layer]
        else:
            inside = [f for f in self.faults if f[0] == layer]
            self.faults = inside or self.faults or [(layer, None)]
            self.settled = True

    def ended(self, outputs: Any) -> None:
        if finite(outputs):
            self.faults = []

    def found(self, phase: str) -> dict[str, Any] | None:
        if not self.faults:
            return None
        layer, operation = self.faults[0]
        return {"phase": phase, "layer": layer, "operation": operation}


class _Probes(Watch):
    """Adds a number to whatever enters and leaves an operation.

    The first time the numbers are noted only: ``shapes``, a (shape, dtype) for each,
    None inside of loops that a framework traces. Then ``calls`` are (operation, layer,
    numbers of what entered, of what left).
    """

    def __init__(self, shapes: list | None = None, probes: Sequence = ()):
        self.noting = shapes is None
        self.shapes: list = [] if shapes is None else shapes
        self.probes = probes
        self.calls: list[tuple[str, str | None, list[int], list[int]]] = []
        self._entered: list[int] = []
        self._place = 0
        self._number = 0

    def given(self, tensor: Any) -> Any:
        return self._moved(tensor, self._entered)

    def operation(self, seen: Seen) -> Any:
        left: list[int] = []
        outputs = tree.map_structure(lambda v: self._moved(v, left), seen.outputs)
        self.calls.append((seen.name, seen.layer, self._entered, left))
        self._entered = []
        return outputs

    def _moved(self, tensor: Any, numbers: list[int]) -> Any:
        if not is_float(tensor):
            return tensor
        if self.noting:
            form = tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype)
            self.shapes.append(None if traced(tensor) else form)
            return tensor
        self._place += 1
        if self.shapes[self._place - 1] is None:
            return tensor
        numbers.append(self._number)
        self._number += 1
        return tensor + self.probes[numbers[-1]]


def _in_backward(
    problem: Problem, state: Any, hparams: dict, batch: Any, gradient: Any
) -> dict[str, Any]:
    """Which operation turns finite derivatives into non-finite ones."""

    def loss_of(watch: _Probes) -> Any:
        with watching(watch):
            return problem.call_loss(state.weights, state, hparams, batch, problem.data)

    noted = _Probes()
    loss_of(noted)
    probes = [keras.ops.zeros(*form) for form in noted.shapes if form is not None]
    calls: list[tuple] = []

    def loss(probes: list) -> Any:
        watch = _Probes(noted.shapes, probes)
        value = loss_of(watch)[0]
        calls[:] = watch.calls
        return value

    slopes = [finite(slope) for slope in backend.grad(loss)(probes)] if probes else []
    for name, layer, entered, left in reversed(calls):
        if all(slopes[i] for i in left) and not all(slopes[i] for i in entered):
            return {"phase": "backward", "layer": layer, "operation": name}
    for _, layer, _, left in reversed(calls):  # an operator, behind this operation
        if not all(slopes[i] for i in left):
            return {"phase": "backward", "layer": layer}
    return {"phase": "backward"} | _of_variable(problem, state, gradient)


def _of_variable(problem: Problem, state: Any, gradient: Any) -> dict[str, Any]:
    """The layer of the first weight whose gradient is not finite."""
    if problem.keras is None:
        return {}
    names = leaf_names(problem, state)
    for name, slope in zip(names, tree.flatten(gradient)):
        if not finite(slope):
            return {"layer": name.rpartition("/")[0] or name}
    return {}


def _at_validation(problem: Problem, tape: Any, report: NanReport) -> NanReport:
    look = _FirstFault()
    state = tree.map_structure(_as_tensor, tape.final)
    hparams = unroll.seen_by_validation(tape.bound)
    validation = problem.validation
    metric_state = () if validation is None else validation.metric_state
    for _, chunk in problem.validation_chunks:
        with watching(look):
            loss, metric_state = problem.call_validation(
                state, hparams, chunk, metric_state, problem.data
            )
        look.ended(loss)
        if look.faults:
            break
    return report._replace(
        variable="validation loss",
        **(look.found("validation") or {"phase": "validation"}),
    )


def _learning_rate(problem: Problem, hparams: dict) -> float | None:
    """That of the optimizer in this step; of several the mean."""
    if problem.keras is None:
        return None
    parts = problem.keras
    numbers = parts.rule.hyperparameters | parts.tuned.optimizer_values(hparams)
    rate = numbers.get("learning_rate")
    if rate is None or callable(rate):
        return None
    flat = [np.mean(backend.to_numpy(v)) for v in tree.flatten(rate)]
    return float(np.mean(flat))
