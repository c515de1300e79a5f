"""A tune on disk: what a killed one needs to go on to the same numbers."""

import dataclasses
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from hypergrad import backend
from hypergrad.outer.descent import Place
from hypergrad.outer.history import History
from hypergrad.outer.steps import AbstractSteps
from hypergrad.outer.study import Scored, Study
from hypergrad.problem import Problem
from hypergrad.result import files
from hypergrad.status import Status

FILE = "tune"


def fingerprint(problem: Problem, settings: Mapping[str, Any]) -> dict[str, str]:
    """What must agree for a directory to belong to this tune; name → text."""
    data: Any = problem.data
    initial = None
    if problem.keras is not None:
        data = dict(data)
        initial = data.pop("initial")
    texts = {f"range of {n}": _range(f) for n, f in problem.space.items()}
    texts["steps of training"] = str(problem.num_steps)
    texts["batches"] = "" if problem.keras is None else str(problem.batches)
    texts["data"] = _checksum(data)
    texts["initial weights"] = _checksum(initial)
    return texts | {name: str(value) for name, value in settings.items()}


def refuse_other(
    directory: Path, stored: Mapping[str, str], now: Mapping[str, str], done: bool
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
    if names == ["initial weights"]:
        hint = " Call keras.utils.set_random_seed(…) before the model is built, or"
    raise ValueError(
        f"The directory {str(directory)!r} holds a tune that is not this one. Expected "
        f"the same problem and settings. Received: {differences}.{hint} Use another "
        "directory, or remove it."
    )


def save(
    directory: Path,
    marks: Mapping[str, str],
    study: Study,
    place: Place | None,
    finished: bool = False,
) -> None:
    """Writes all that `load` gives back."""
    content: dict[str, Any] = {
        "fingerprint": dict(marks),
        "finished": finished,
        "history": study.history.columns,
        "spent": study.spent,
        "seconds": study.seconds,
        "stopped": study.stopped,
        "notes": study.notes,
        "status": dataclasses.asdict(study.status),
        "start": _stored(study.start),
        "best": _stored(study.best),
        "place": None,
    }
    if place is not None:
        leaves = tree.flatten(backend.to_numpy(place.state))
        content["place"] = vars(place) | {"state": [np.asarray(v) for v in leaves]}
    files.write(directory, FILE, content)


def load(
    content: Mapping[str, Any], study: Study, steps: AbstractSteps
) -> Place | None:
    """Puts a study back to where it was saved; the place of its descent, or None."""
    study.history = History(list(study.problem.space), content["history"])
    study.continue_from(content["spent"], content["seconds"])
    study.notes = content["notes"]
    study.status = Status(**content["status"])
    study.start = _scored(study, content["start"])
    study.best = _scored(study, content["best"])
    if content["place"] is None:
        return None
    place = Place(**content["place"])
    place.u = {name: np.asarray(v) for name, v in place.u.items()}
    if place.direction is not None:
        place.direction = {n: np.asarray(v) for n, v in place.direction.items()}
    like = steps.init(study.problem.space, place.u)
    place.state = tree.pack_sequence_as(like, [np.asarray(v) for v in place.state])
    return place


def _stored(scored: Scored | None) -> Any:
    return None if scored is None else {"row": scored.row, "metrics": scored.metrics}


def _scored(study: Study, stored: Any) -> Scored | None:
    if stored is None:
        return None
    return study.remembered(stored["row"])._replace(metrics=stored["metrics"])


def _range(float_: Any) -> str:
    default = None if float_.default is None else np.asarray(float_.default)
    shown = default if default is None or default.ndim == 0 else _checksum(default)
    return f"{float_.range_text()}, shape {float_.shape}, default {shown}"


def _checksum(value: Any) -> str:
    total = 0
    leaves = [leaf for leaf in tree.flatten(value) if leaf is not None]
    for leaf in backend.to_numpy(leaves):
        array = np.ascontiguousarray(leaf)
        total = zlib.crc32(f"{array.shape}{array.dtype}".encode(), total)
        total = zlib.crc32(array.tobytes(), total)
    return f"checksum {total:08x}"
