"""Trees of numbers and arrays on disk: JSON beside an npz, replaced atomically."""

import contextlib
import hashlib
import json
import math
import os
import platform
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"

FORMAT = 1
"""Version of what is written; a reader refuses a newer one."""


def write(
    directory: Path, name: str, content: Mapping[str, Any], keep: bool = False
) -> None:
    """Writes ``<name>.json`` and the arrays it names, all or nothing.

    The arrays are on disk under a fresh name before the JSON that names them takes the
    old one's place, so that a reader finds the old pair or the new one.

    Args:
        directory: exists.
        name: of the pair.
        content: nested dicts and lists of numbers, strings, None and NumPy arrays.
        keep: whether the pair before stays as ``<name>.previous.json``, for `read` to
            fall back to.

    Raises:
        OSError: no space, or no permission.
    """
    arrays: dict[str, np.ndarray] = {}
    packed = _packed(dict(content), arrays)
    path, previous = directory / f"{name}.json", directory / f"{name}.previous.json"
    old = sorted(directory.glob(f"{name}-*.npz"))
    number = 1 + max((int(p.stem.rsplit("-", 1)[1]) for p in old), default=0)
    file_name = None
    if arrays:
        file_name = f"{name}-{number}.npz"
        with replacing(directory / file_name) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    if keep and path.exists():
        with replacing(previous) as file:
            file.write(path.read_bytes())
    document = {"format": FORMAT, "arrays": file_name, "content": packed}
    with replacing(path) as file:
        file.write(_text({"checksum": _checksum(document)} | document))
    kept = _arrays_of(previous) if keep else None
    for npz in old:
        if npz.name != kept:
            npz.unlink(missing_ok=True)


def read(directory: Path, name: str) -> Any:
    """What `write` wrote; FileNotFoundError where it wrote nothing.

    Raises:
        ValueError: it is damaged, and no pair before it is kept, or written by a newer
            version.

    Warns:
        UserWarning: it is damaged; the pair before it is read, and takes its place.
    """
    path, previous = directory / f"{name}.json", directory / f"{name}.previous.json"
    try:
        return _read(path)
    except Damaged as error:
        try:
            found = _read(previous)
        except (Damaged, FileNotFoundError):
            raise ValueError(
                f"{path} is not a file of hypergrad, or is damaged. Received: {error}. "
                "Remove it, or use another directory."
            ) from error
        warnings.warn(
            f"{path} is damaged ({error}): what was saved before it is taken.",
            stacklevel=4,
        )
        # At once, so that the next `write` does not keep the damaged one.
        with replacing(path) as file:
            file.write(previous.read_bytes())
        return found


class Damaged(ValueError):
    """A file that is not what was written."""


def _read(path: Path) -> Any:
    try:
        document = json.loads(path.read_text("utf-8"))
        version = document["format"]
        checksum = document.pop("checksum", None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(error) from error
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, expected at most {FORMAT}. It was written "
            "by a newer hypergrad: upgrade to read it."
        )
    if checksum is not None and checksum != _checksum(document):
        raise Damaged("its checksum is another one")
    try:
        file_name, content = document["arrays"], document["content"]
    except KeyError as error:
        raise Damaged(f"it has no {error}") from error
    arrays: dict[str, np.ndarray] = {}
    if file_name:
        try:
            with (
                open(path.parent / file_name, "rb") as opened,  # closed if damaged
                np.load(opened, allow_pickle=False) as file,
            ):
                arrays = {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise Damaged(f"{file_name}: {error}") from error
    return _unpacked(content, arrays)


def _text(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8")


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.blake2b(_text(document), digest_size=16).hexdigest()


def _arrays_of(path: Path) -> str | None:
    """The file of arrays that a stored document names."""
    try:
        name: str | None = json.loads(path.read_text("utf-8"))["arrays"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return name


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes from a directory until the end of the context.

    The lock ends with the process, however it ends. Where the system has no ``flock``
    (Windows) nothing is locked.

    Raises:
        ValueError: another process has it; the message says which.
    """
    if fcntl is None:
        yield
        return
    path = directory / LOCK
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise ValueError(
                f"`directory` {str(directory)!r} is in use by another process "
                f"({file.read().strip() or 'unknown'}). Wait for it, or use another "
                "directory."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield


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
        done = False
        try:
            with self.file:
                if kind is None:
                    self.file.flush()
                    os.fsync(self.file.fileno())
                    done = True
        finally:
            if not done:
                self.part.unlink(missing_ok=True)
        if kind is not None:
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
