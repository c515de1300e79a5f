"""Whether what a method keeps fits into what is free."""

import dataclasses
import math
import shutil
import tempfile
from typing import Any, NamedTuple

from hypergrad import backend
from hypergrad.methods.work import Work


class Room(NamedTuple):
    """Bytes free: on the device, on the host, on the disk; infinite where not known.

    ``device`` is None where arrays are in the memory of the host.
    """

    device: float | None
    host: float
    disk: float

    def holds(self, work: Work) -> bool:
        device, host = sum(work.device.values()), sum(work.host.values())
        if self.device is None:
            device, host = 0, device + host
        on_device = math.inf if self.device is None else self.device
        return device <= on_device and host <= self.host and work.disk <= self.disk

    def __str__(self) -> str:
        return size_text(self.host if self.device is None else self.device)


def free_room(part: float = 1.0) -> Room:
    """That part of the memory that is free now, and the disk for temporary files."""
    device, host = backend.free_memory()
    disk = shutil.disk_usage(tempfile.gettempdir()).free
    return Room(None if device is None else part * device, part * host, part * disk)


def brief(method: Any) -> str:
    """A method with the settings that are not those by default."""
    given = [
        f"{field.name}={getattr(method, field.name)!r}"
        for field in dataclasses.fields(method)
        if getattr(method, field.name) != field.default
    ]
    return f"{type(method).__name__}({', '.join(given)})"


def held(work: Work) -> int:
    """Bytes in memory."""
    return sum(work.device.values()) + sum(work.host.values())


def work_text(work: Work) -> str:
    """How much a method keeps, and where."""
    on_disk = f" (and {size_text(work.disk)} on disk)" if work.disk else ""
    return size_text(held(work)) + on_disk


def size_text(size: float) -> str:
    if not math.isfinite(size):
        return "unknown memory"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"


def seconds_text(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{1000 * seconds:.2g} ms"
