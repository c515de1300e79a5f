"""The folder of a study."""

import shutil
from pathlib import Path
from typing import Any

from hypergrad import files

KERAS_TUNERS = ("oracle.json", "tuner0.json")
"""What a project of KerasTuner has in its folder."""


def project_folder(directory: Any, project_name: str, overwrite: bool) -> Path:
    """``directory/project_name``, made where it is missing, emptied to overwrite it.

    Raises:
        ValueError: the name leads out of the directory, nothing can be written there,
            or a project of KerasTuner is there.
    """
    parent = Path(directory or ".").resolve()
    path = (parent / str(project_name)).resolve()
    if not str(project_name).strip() or path == parent or parent not in path.parents:
        raise ValueError(
            "`project_name` must be the name of a folder inside of `directory`. "
            f"Received: {project_name!r}, which is not inside of {str(parent)!r}."
        )
    found = [name for name in KERAS_TUNERS if (path / name).exists()]
    if found and not overwrite:
        raise ValueError(
            f"{str(path)!r} holds a project of KerasTuner ({', '.join(found)}), which "
            "cannot be read: its trials have no seeds and its weights no settings to "
            "train them again. Choose another `project_name`, or pass the best values "
            "that it found to `tuner.enqueue(values)`; `overwrite=True` deletes it."
        )
    if overwrite and path.exists():
        shutil.rmtree(path)
    return files.writable(path)


def trial_folder(project: Path, trial_id: str) -> Path:
    """The folder of one trial, made where it is missing."""
    path = project / f"trial_{trial_id}"
    path.mkdir(parents=True, exist_ok=True)
    return path
