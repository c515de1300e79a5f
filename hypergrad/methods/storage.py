"""Where the states of a run are kept until it is swept back."""

import abc
import math
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from hypergrad import backend, files


class AbstractStorage(abc.ABC):
    """States by their number."""

    @abc.abstractmethod
    def put(self, key: int, state: Any) -> None:
        """Keeps a tree of arrays."""

    @abc.abstractmethod
    def get(self, key: int) -> Any:
        """The tree that was put there."""

    @abc.abstractmethod
    def drop(self, key: int) -> None:
        """Lets it go."""


class OnDevice(AbstractStorage):
    """In the memory of the device that computed them."""

    def __init__(self) -> None:
        self._states: dict[int, Any] = {}

    def put(self, key: int, state: Any) -> None:
        self._states[key] = state

    def get(self, key: int) -> Any:
        return self._states[key]

    def drop(self, key: int) -> None:
        del self._states[key]


class OnHost(AbstractStorage):
    """In the memory of the host. On a CPU that is the memory of the device."""

    def __init__(self) -> None:
        self._states: dict[int, Any] = {}

    def put(self, key: int, state: Any) -> None:
        self._states[key] = backend.to_numpy(state)

    def get(self, key: int) -> Any:
        return _on_device(self._states[key])

    def drop(self, key: int) -> None:
        del self._states[key]


class OnDisk(AbstractStorage):
    """In a folder, a memory-mapped file for each state.

    A file is complete before it has its name, and what is there already stays, so that
    a run that was killed finds its states again.

    Args:
        directory: exists; None: a temporary one, for as long as this object lives.
        like: a state, whose shapes all others have.
    """

    def __init__(self, directory: Path | None, like: Any):
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="hypergrad-"))
            weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self.directory = directory
        self._like = like
        self._shapes = [
            None if leaf is None else (tuple(leaf.shape), _dtype(leaf))
            for leaf in tree.flatten(like)
        ]

    def check_room(self, states: int) -> None:
        """Raises where the disk has no room for so many states."""
        needed = max(0, states - len(self.keys())) * self.state_bytes
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise ValueError(
                f"The states of this run need {needed / 1e9:.2f} GB on disk. Received: "
                f"{str(self.directory)!r} with {free / 1e9:.2f} GB free. Name another "
                'directory in `resume_dir`, or keep fewer states: `checkpoints="log"`.'
            )

    @property
    def state_bytes(self) -> int:
        return sum(_bytes(shape) for shape in self._shapes if shape)

    def path(self, key: int) -> Path:
        return self.directory / f"state-{key:05}.bin"

    def keys(self) -> list[int]:
        """The numbers of the complete states there."""
        return sorted(
            int(path.stem.rsplit("-", 1)[1])
            for path in self.directory.glob("state-*.bin")
            if path.stat().st_size == self.state_bytes
        )

    def put(self, key: int, state: Any) -> None:
        if key in self.keys():
            return
        leaves = [x for x in tree.flatten(backend.to_numpy(state)) if x is not None]
        try:
            with files.replacing(self.path(key)) as file:
                for leaf in leaves:
                    file.write(np.ascontiguousarray(leaf).data)
        except OSError as error:
            raise OSError(
                error.errno,
                f"A state of the run could not be stored ({error.strerror}). The "
                f"{len(self.keys())} states before it are kept; where `resume_dir` is "
                "given, the same call goes on from the last of them. Free some space "
                f"in {str(self.directory)!r} first",
            ) from error

    def get(self, key: int) -> Any:
        leaves: list[Any] = []
        offset = 0
        whole = np.memmap(self.path(key), np.uint8, "r")
        for place in self._shapes:
            if place is None:
                leaves.append(None)
                continue
            stop = offset + _bytes(place)
            # A copy: the device may use the memory of an array for as long as it likes.
            rows = np.array(whole[offset:stop]).view(place[1]).reshape(place[0])
            leaves.append(backend.convert(rows))
            offset = stop
        return tree.pack_sequence_as(self._like, leaves)

    def drop(self, key: int) -> None:
        self.path(key).unlink(missing_ok=True)


def _dtype(leaf: Any) -> np.dtype:
    return backend.to_numpy(leaf).dtype


def _bytes(place: tuple[tuple[int, ...], np.dtype]) -> int:
    shape, dtype = place
    return math.prod(shape) * dtype.itemsize


def _on_device(state: Any) -> Any:
    return tree.map_structure(
        lambda leaf: None if leaf is None else backend.convert(leaf), state
    )
