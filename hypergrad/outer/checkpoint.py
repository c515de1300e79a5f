"""A tune on disk: what a killed one needs to go on to the same numbers."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from hypergrad import backend, files
from hypergrad.methods.auto import restore_choice, stored_choice
from hypergrad.outer.descent import Place
from hypergrad.outer.history import History
from hypergrad.outer.steps import AbstractSteps
from hypergrad.outer.study import Scored, Study
from hypergrad.status import Status

FILE = "tune"


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
        "swept": study.swept,
        "notes": study.notes,
        "status": dataclasses.asdict(study.status),
        "choice": stored_choice(study.single, study.problem),
        "start": _stored(study.start),
        "best": _stored(study.best),
        "ends": [_stored(end) for end in study.ends],
        "place": None,
    }
    if place is not None:
        leaves = tree.flatten(backend.to_numpy(place.state))
        content["place"] = vars(place) | {"state": [np.asarray(v) for v in leaves]}
    files.write(directory, FILE, content, keep=True)


def load(
    content: Mapping[str, Any], study: Study, steps: AbstractSteps
) -> Place | None:
    """Puts a study back to where it was saved; the place of its descent, or None."""
    names = list(study.problem.space)
    study.history = History(names, study.problem.num_steps, content["history"])
    study.continue_from(content["spent"], content["seconds"])
    study.notes = content["notes"]
    study.stopped = content["stopped"]
    study.swept = content["swept"]
    study.status = Status(**content["status"])
    restore_choice(study.single, study.problem, content.get("choice"))
    study.start = _scored(study, content["start"])
    study.best = _scored(study, content["best"])
    study.ends = [_known(study, end) for end in content.get("ends", ())]
    if content["place"] is None:
        return None
    place = Place(**content["place"])
    place.u = {name: np.asarray(v) for name, v in place.u.items()}
    if place.direction is not None:
        place.direction = {n: np.asarray(v) for n, v in place.direction.items()}
    like = steps.init(study.problem.space, place.u)
    leaves = [_like(old, v) for old, v in zip(tree.flatten(like), place.state)]
    place.state = tree.pack_sequence_as(like, leaves)
    return place


def _like(old: Any, value: Any) -> Any:
    """A number that was stored, in the precision that it had."""
    array = np.asarray(value, backend.to_numpy(old).dtype)
    if isinstance(old, np.ndarray):
        return array
    return backend.convert(array, keras.backend.standardize_dtype(old.dtype))


def _stored(scored: Scored | None) -> Any:
    return None if scored is None else {"row": scored.row, "metrics": scored.metrics}


def _scored(study: Study, stored: Any) -> Scored | None:
    return None if stored is None else _known(study, stored)


def _known(study: Study, stored: Any) -> Scored:
    return study.remembered(stored["row"])._replace(metrics=stored["metrics"])
