"""What tells one tune, or one sweep, from another: a directory belongs to one."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hypergrad.data import AbstractBatches, Parts
from hypergrad.description import checksum, described, shortened
from hypergrad.problem import Problem

FUNCTIONS = ("init", "step", "train_loss", "update", "val_loss", "batches")


def fingerprint(problem: Problem, settings: Mapping[str, Any]) -> dict[str, str]:
    """What must agree for a directory to belong to this tune; name → text.

    Of a model: its architecture, optimizer, loss and metrics with all their numbers; of
    functions: their code, and the numbers they enclose. Not compared: what functions of
    other modules do, and objects without a configuration or a text of their own.
    """
    texts = {f"range of {n}": _range(f) for n, f in problem.space.items()}
    texts["steps of training"] = str(problem.num_steps)
    if problem.average > 1 or problem.resample != "fixed":
        texts["average"] = str(problem.average)
        texts["samples"] = _samples(problem)
        texts["resample"] = problem.resample
    texts["bind"] = described(problem.bind)
    if problem.keras is None:
        texts |= {name: described(getattr(problem, name)) for name in FUNCTIONS}
        texts["data"] = checksum(problem.data)
    else:
        texts |= _of_model(problem)
    texts |= {name: described(value) for name, value in settings.items()}
    return {name: shortened(text) for name, text in texts.items()}


def refuse_other(
    directory: Path,
    stored: Mapping[str, str],
    now: Mapping[str, str],
    done: bool = False,
    what: str = "tune",
) -> None:
    """Raises where a directory belongs to another tune, naming what differs.

    The initial weights of a finished one are not compared: nothing is trained again.
    """
    names = [n for n in {**stored, **now} if stored.get(n) != now.get(n)]
    if done:
        names = [n for n in names if n != "initial weights"]
    if not names:
        return
    differences = "; ".join(
        f"{n}: {stored.get(n, 'absent')} there, {now.get(n, 'absent')} here"
        for n in names
    )
    hint = ""
    if "batches" in names and "content" in now.get("batches", ""):
        hint = " A dataset must give the same batches again: seed its shuffling."
    if names == ["initial weights"]:
        hint = " Call keras.utils.set_random_seed(…) before the model is built, or"
    raise ValueError(
        f"The directory {str(directory)!r} holds a {what} that is not this one. "
        f"Expected the same problem and settings. Received: {differences}.{hint} Use "
        "another directory, or remove it."
    )


def validation_checksum(problem: Problem) -> str:
    """Of the rows that E is measured on, wherever they are."""
    assert problem.validation is not None
    chunks = problem.validation.chunks
    if isinstance(chunks, Parts):
        return chunks.fingerprint()
    held: Any = problem.data
    return checksum(held["validation"])


def _samples(problem: Problem) -> str:
    if problem.keras is None:
        return described(problem.samples)
    held: list[Any] = [problem.sample(i).data for i in range(1, problem.average)]
    return checksum([data["initial"] for data in held])


def _batches(problem: Problem) -> str:
    if isinstance(problem.batches, AbstractBatches):
        return problem.batches.fingerprint
    return described(problem.batches)


def _of_model(problem: Problem) -> dict[str, str]:
    parts = problem.keras
    model = parts.model
    compiled = model._compile_config.config
    held: Any = problem.data
    data = dict(held)
    initial = data.pop("initial")
    weights = [(v.shape, v.dtype, v.trainable) for v in model.variables]
    layers = [type(layer) for layer in model._flatten_layers()]
    loss = problem.validation.loss if problem.validation is not None else None
    functions = getattr(loss, "__self__", None)
    names = _names(model)
    return {
        "batches": _batches(problem),
        "data": checksum(data["train"]),
        "validation data": validation_checksum(problem),
        "initial weights": checksum(initial),
        "model": _unnamed(described([model, layers, weights]), names),
        "optimizer of the model": described(model.optimizer),
        "loss": _unnamed(
            described([compiled["loss"], compiled["loss_weights"]]), names
        ),
        "metrics": described([compiled["metrics"], compiled["weighted_metrics"]]),
        "objective": described(getattr(functions, "objective", None)),
    }


def _names(model: Any) -> list[str]:
    """Names that Keras counts on for each new layer, in the order of the model."""
    return list(dict.fromkeys(layer.name for layer in model._flatten_layers()))


def _unnamed(text: str, names: list[str]) -> str:
    """The text with the names of layers replaced by their position."""
    places = {repr(name): f"<{i}>" for i, name in enumerate(names)}
    return re.sub(r"'[^']*'", lambda m: places.get(m.group(), m.group()), text)


def _range(float_: Any) -> str:
    default = None if float_.default is None else np.asarray(float_.default)
    shown = default if default is None or default.ndim == 0 else checksum(default)
    text = f"{float_.range_text()}, shape {float_.shape}, default {shown}"
    if float_.constraint is None:
        return text
    return f"{text}, constraint {described(float_.constraint)}"
