"""Where data sets are looked for."""

import os
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def data_folder() -> Path:
    """``$HYPERGRAD_DATA``, else ``../shared/data`` beside the repository."""
    given = os.environ.get("HYPERGRAD_DATA")
    return Path(given) if given else REPOSITORY.parent / "shared" / "data"


def settle_keras_home() -> None:
    """Lets Keras find a `keras_home` of the data folder, as a writable copy.

    Keras ignores a home that it cannot write to, and reads the variable once, when it
    is imported. Without such a folder `keras.datasets` downloads to its usual place.
    """
    source = data_folder() / "keras_home"
    if "KERAS_HOME" in os.environ or "keras" in sys.modules or not source.is_dir():
        return
    copy = REPOSITORY / "out" / "keras_home"
    for file in (f for f in source.rglob("*") if f.is_file()):
        target = copy / file.relative_to(source)
        if not target.exists() or target.stat().st_size != file.stat().st_size:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".part-{os.getpid()}-{target.name}")
            shutil.copyfile(file, part)
            part.replace(target)
    os.environ["KERAS_HOME"] = str(copy)
