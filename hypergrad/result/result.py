"""`Result`: the best values, the trained model, and how they were found."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hypergrad import files
from hypergrad.problem import Problem
from hypergrad.result import tuned_model
from hypergrad.result.summary import summary_text, value_text
from hypergrad.space.groups import Group
from hypergrad.status import Status

FILE = "result"
MODEL = "model.keras"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a model can come from: the problem, and the final state of the best run.

    ``final``: function () → the state that the model is of; it repeats the run where
    the state is not in memory any more. ``model``: one that callbacks gave weights.
    """

    problem: Problem
    final: Callable[[], Any]
    model: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The best values that a `tune` or a `search` has seen.

    Attributes:
        values: dict, name → float or array in user units.
        loss: float, E at these values.
        metrics: dict, the compiled metrics on the validation data and
            ``keras_val_loss``.
        status: a `Status`; not ok where no run ended in finite numbers.
        history: dict of lists, a row for each run: ``"val_loss"`` (E), each name,
            ``"runs"`` and ``"seconds"`` cumulated, ``"kind"``, and
            ``"gradient_norm.<name>"`` of dE/du (NaN where none was computed). Row 0 is
            the user's start; of a search with ``include_start=False``, its first point.
        start: dict: ``"values"``, ``"loss"``, ``"metrics"`` of row 0.
        test: dict ``{"start": …, "tuned": …}`` of losses and metrics on ``test_data``,
            or None.
        runs: float, what it cost, in plain trainings.
        seconds: float.
        numbers: dict, path in the model → number, after wildcards and binds; without
            those of the training data. Of what changes during training the last.
        schedules: dict, path in the model → array (T, …), of what changes from step to
            step.
        data: list, paths of training data that were tuned.
        learning_curve: dict of lists: ``"step"``, ``"loss"`` (mean of the training loss
            since the step before), ``"val_loss"`` (E) and metrics on the validation
            data, on the way of the training that was scored; None where `tune` was not
            asked to look.
        model_step: int, the step that `model` is of; None: the last.
        space: dict, name → {"min_value", "max_value", "sampling", "curve"}, the last
            whether the first axis is that of a schedule's knots.
        notes: list of sentences, what a user should know of how it went.
    """

    values: dict[str, Any]
    loss: float
    metrics: dict[str, float]
    status: Status
    history: dict[str, list[Any]]
    start: dict[str, Any]
    test: dict[str, Any] | None
    runs: float
    seconds: float
    numbers: dict[str, Any]
    space: dict[str, Any]
    notes: list[str]
    schedules: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: list[str] = dataclasses.field(default_factory=list)
    learning_curve: dict[str, list] | None = None
    model_step: int | None = None
    origin: Origin | None = dataclasses.field(default=None, repr=False)
    directory: Path | None = dataclasses.field(default=None, repr=False)

    def __repr__(self) -> str:
        shown = ", ".join(f"{n!r}: {value_text(v)}" for n, v in self.values.items())
        return f"Result(loss={self.loss:.6g}, runs={self.runs:g}, values={{{shown}}})"

    @cached_property
    def model(self) -> Any:
        """A copy of the user's model, trained with the tuned values.

        Its weights, statistics and optimizer slots are those at the end of the run that
        was scored; the tuned numbers stand in its optimizer and layers.

        Raises:
            ValueError: the problem has no Keras model, or the model cannot be cloned;
                ``build_fn=`` is the fix.
            TypeError: ``build_fn`` does not return a compiled model.
        """
        if self.origin is not None and self.origin.model is not None:
            return self.origin.model
        if self.origin is not None and self.origin.problem.keras is not None:
            problem = self.origin.problem
            return tuned_model.trained_copy(problem, self.numbers, self.origin.final())
        if self.has_model_file:
            assert self.directory is not None
            return keras.models.load_model(self.directory / MODEL)
        where = "no Keras model" if self.directory is None else f"no {MODEL}"
        raise ValueError(
            f"This result has no model: there is {where} behind it. Expected the "
            "result of a compiled Keras model. Use `result.values`, or "
            "`result.apply(model)` on a model of your own."
        )

    @property
    def best_step(self) -> int | None:
        """After how many steps of the final training E was lowest.

        None without a `learning_curve`.
        """
        if self.learning_curve is None:
            return None
        losses = np.asarray(self.learning_curve["val_loss"], float)
        lowest = int(np.argmin(np.nan_to_num(losses, nan=np.inf)))
        return int(self.learning_curve["step"][lowest])

    @property
    def has_model_file(self) -> bool:
        """Whether ``model.keras`` lies beside a loaded result."""
        return self.directory is not None and (self.directory / MODEL).exists()

    def apply(self, model: Any, partial: bool = False) -> list[str]:
        """Writes the tuned numbers into a compiled model; its weights stay.

        Only tuned starts change them: ``initial.…`` replaces initial weights,
        ``scale.…`` multiplies them. A schedule of the learning rate becomes a
        ``LearningRateSchedule`` of Keras, with the rate of each step.

        Args:
            model: compiled ``keras.Model`` of the same structure.
            partial: bool, leaves out what plain Keras cannot hold: numbers for each
                variable, other numbers that change from step to step, and training data
                (``data.…``, to be passed to ``fit``).

        Returns:
            The paths that were left out.

        Raises:
            ValueError: a number the model does not have, or, without ``partial``,
                cannot hold; a tuned start for a model that has been trained.
        """
        left = tuned_model.not_held(self.numbers, self.schedules, self.data)
        if left and not partial:
            reasons = "; ".join(f"{path!r} {why}" for path, why in left.items())
            raise ValueError(
                "`apply` writes what a compiled Keras model can hold: one number, or a "
                f"schedule of the learning rate. Received: {reasons}. Pass "
                "`partial=True` to write the others, or use `result.model`."
            )
        numbers, schedules = (
            {path: value for path, value in tuned.items() if path not in left}
            for tuned in (self.numbers, self.schedules)
        )
        tuned_model.apply(numbers, schedules, model)
        return list(left)

    def summary(self) -> str:
        """Start → tuned for every value; validation, test, metrics; cost; notes."""
        return summary_text(self)

    def plot(self, path: Any = None) -> Any:
        """Draws E against runs, and the path of each hyperparameter.

        Args:
            path: file to write, such as ``"tune.png"``; None leaves showing to you.

        Returns:
            ``matplotlib.figure.Figure``.
        """
        from hypergrad.plots import plot_result

        return plot_result(self, path)

    def save(self, directory: Any) -> None:
        """Writes ``result.json``, its arrays, and ``model.keras`` where there is one.

        Where the model cannot be copied or saved, a note says why.

        Args:
            directory: made where it is missing; an older result there is replaced.
        """
        folder = files.writable(directory)
        stored = None
        if self.origin is None and self.directory is not None and self.has_model_file:
            stored = (self.directory / MODEL).read_bytes()
        (folder / MODEL).unlink(missing_ok=True)
        # First what cost most.
        self._write(folder)
        if stored is not None:
            _replace_model(folder, lambda part: part.write_bytes(stored))
        if self.origin is None or self.origin.problem.keras is None:
            return
        try:
            _replace_model(folder, self.model.save)
        except Exception as error:  # in code of the user, too
            note = f"The model was not saved. {type(error).__name__}: {error}"
            if note not in self.notes:
                self.notes.append(note)
            self._write(folder)

    def _write(self, folder: Path) -> None:
        content = {name: getattr(self, name) for name in _STORED}
        content["status"] = dataclasses.asdict(self.status)
        files.write(folder, FILE, content)

    @staticmethod
    def load(directory: Any) -> "Result":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: nothing was saved there.
        """
        folder = Path(directory)
        if not (folder / f"{FILE}.json").exists():
            raise FileNotFoundError(
                f"There is no result in {str(directory)!r}, expected {FILE}.json. "
                "Write one with `result.save(directory)`, or let a tune with "
                "`directory=` end."
            )
        content = files.read(folder, FILE)
        content["status"] = Status(**content["status"])
        return Result(**content, directory=folder)


def _replace_model(folder: Path, write: Callable[[Path], Any]) -> None:
    part = folder / f".part-{MODEL}"
    try:
        write(part)
        part.replace(folder / MODEL)
    finally:
        part.unlink(missing_ok=True)
    files.sync_directory(folder)


_STORED = tuple(
    field.name
    for field in dataclasses.fields(Result)
    if field.name not in ("origin", "directory")
)


def outcome(
    problem: Problem,
    values: Mapping[str, Any],
    final: Callable[[], Any],
    model: Any = None,
    **parts: Any,
) -> Result:
    """A `Result` with what follows from the problem filled in."""
    of_model: dict[str, Any] = {"numbers": {}}
    if problem.keras is not None:
        checked = problem.values(values)
        of_model = {
            "numbers": tuned_model.numbers_of(problem, checked),
            "schedules": tuned_model.schedules_of(problem, checked),
            "data": tuned_model.data_of(problem),
        }
    space = {
        name: {
            "curve": isinstance(float_, Group) and float_.curve,
            "min_value": float_.min_value,
            "max_value": float_.max_value,
            "sampling": float_.sampling,
        }
        for name, float_ in problem.space.items()
    }
    return Result(
        values=dict(values),
        space=space,
        **of_model,
        origin=Origin(problem, final, model),
        **parts,
    )
