"""Which process runs a trial, and whether it still lives."""

import os
import platform
from pathlib import Path


def this_worker() -> str:
    """A mark of this process: ``place/process/start``; place is "" where unknown."""
    return "/".join((_place(), str(os.getpid()), _start(os.getpid())))


def is_dead(worker: str) -> bool:
    """Whether a process is known to have ended.

    Only a process of this machine can be known: others are judged by their heartbeat.
    """
    place, process, start = worker.rsplit("/", 2)
    if not place or place != _place():
        return False
    return _start(int(process)) != start


def _place() -> str:
    """Machine, its start, and the namespace in which a process has its number."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return ""
    return f"{platform.node()}:{boot}:{namespace}"


def _start(process: int) -> str:
    """When a process started, in ticks; "" where there is none, or it is a zombie."""
    try:
        text = Path(f"/proc/{process}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
