"""Trees of numbers and arrays on disk: JSON beside an npz, replaced atomically."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1
"""Version of what is written; a reader refuses a newer one."""


def write(directory: Path, name: str, content: Mapping[str, Any]) -> None:
    """Writes ``<name>.json`` and the arrays it names, all or nothing.

    The arrays are on disk under a fresh name before the JSON that names them takes the
    old one's place, so that a reader finds the old pair or the new one.

    Args:
        directory: exists.
        name: of the pair.
        content: nested dicts and lists of numbers, strings, None and NumPy arrays.

    Raises:
        OSError: no space, or no permission.
    """
    arrays: dict[str, np.ndarray] = {}
    packed = _packed(dict(content), arrays)
    old = sorted(directory.glob(f"{name}-*.npz"))
    number = 1 + max((int(p.stem.rsplit("-", 1)[1]) for p in old), default=0)
    file_name = None
    if arrays:
        file_name = f"{name}-{number}.npz"
        with replacing(directory / file_name) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    document = {"format": FORMAT, "arrays": file_name, "content": packed}
    with replacing(directory / f"{name}.json") as file:
        text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
        file.write(text.encode("utf-8"))
    for path in old:
        path.unlink(missing_ok=True)


def read(directory: Path, name: str) -> Any:
    """What `write` wrote; FileNotFoundError where it wrote nothing."""
    path = directory / f"{name}.json"
    try:
        document = json.loads(path.read_text("utf-8"))
        version = document["format"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a file of hypergrad, or is damaged. Received: {error}. "
            "Remove it, or use another directory."
        ) from error
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, expected at most {FORMAT}. It was written "
            "by a newer hypergrad: upgrade to read it."
        )
    arrays: dict[str, np.ndarray] = {}
    if document["arrays"]:
        with np.load(directory / document["arrays"], allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    return _unpacked(document["content"], arrays)


def writable(directory: Any, argument: str = "directory") -> Path:
    """The directory, made where it is missing and tried by writing to it.

    ``argument``: what the user calls it.

    Raises:
        ValueError: nothing can be written there.
    """
    path = Path(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with replacing(path / ".writable") as file:
            file.write(b"yes")
        (path / ".writable").unlink()
    except OSError as error:
        raise ValueError(
            f"`{argument}` must be a folder that can be written to. Received: "
            f"{str(directory)!r}: {error}. Choose another, or free some space."
        ) from error
    return path


class replacing:
    """A file that takes the place of another when it is completely on disk."""

    def __init__(self, path: Path):
        self.path = path
        self.part = path.with_name(f".{path.name}.part")

    def __enter__(self) -> Any:
        self.file = open(self.part, "wb")
        return self.file

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.file.flush()
            os.fsync(self.file.fileno())
        self.file.close()
        if kind is not None:
            self.part.unlink(missing_ok=True)
            return
        os.replace(self.part, self.path)
        sync_directory(self.path.parent)


def sync_directory(directory: Path) -> None:
    """Waits until renames in a directory are on disk, where the system can say so."""
    if os.name == "nt":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _packed(v, arrays) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_packed(v, arrays) for v in value]
    if isinstance(value, np.ndarray) and value.ndim:
        key = f"a{len(arrays)}"
        arrays[key] = value
        return {"array": key}
    if isinstance(value, (np.generic, np.ndarray)):
        return _packed(value.item(), arrays)
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"array"} and isinstance(value["array"], str):
        return arrays[value["array"]]
    if set(value) == {"float"} and isinstance(value["float"], str):
        return float(value["float"])
    return {k: _unpacked(v, arrays) for k, v in value.items()}
