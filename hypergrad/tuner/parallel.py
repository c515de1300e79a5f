"""Several workers of one search on this machine, a process each.

A worker is a fresh interpreter, which gets the tuner and the data through a pipe: no
file is written, no script is run a second time, and functions that were defined in a
script or a notebook arrive as well. Each has cores of its own, and where there are GPUs
one of these.
"""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Mapping
from typing import Any, BinaryIO

import keras

# Keras and its precision must be settled before hypergrad is imported.
START = """
import json, os, sys
told = json.loads(sys.stdin.buffer.readline())
os.environ.update(told["environment"])
if told["cores"] and hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, told["cores"])
sys.path[:], sys.argv[:] = told["path"], told["arguments"]
import keras
keras.config.set_floatx(told["floatx"])
from hypergrad.tuner.parallel import work
work(sys.stdin.buffer)
"""


def search_in_processes(
    tuner: Any, n_jobs: int, fit_args: tuple, fit_kwargs: Mapping[str, Any]
) -> None:
    """Runs ``tuner.search`` in so many processes, until all have ended.

    Raises:
        TypeError: something that the workers need cannot be sent to them.
        RuntimeError: all workers ended with an error.
    """
    payload = _packed((tuner, fit_args, dict(fit_kwargs)))
    workers = []
    try:
        for number in range(n_jobs):
            workers.append(_started(number, n_jobs, payload))
        codes = [worker.wait() for worker in workers]
    except BaseException:
        for worker in workers:  # Ctrl-C reached them as well: they give up their trials
            worker.wait()
        raise
    tuner.oracle.share_space()
    ended_badly = [code for code in codes if code]
    if not ended_badly:
        return
    what = f"{len(ended_badly)} of {n_jobs} workers ended with an error"
    if len(ended_badly) < n_jobs:  # the last one ends when all trials have
        warnings.warn(f"{what}; the others did their trials.", stacklevel=3)
        return
    raise RuntimeError(
        f"{what} (exit codes {ended_badly}); what they said is above. The same command "
        "goes on with the search."
    )


def work(pipe: BinaryIO) -> None:
    """What a worker does: its part of a search."""
    import cloudpickle

    tuner, fit_args, fit_kwargs = cloudpickle.load(pipe)
    tuner.search(*fit_args, **fit_kwargs)


def _packed(content: Any) -> bytes:
    try:
        import cloudpickle
    except ImportError as error:
        raise ImportError(
            "`n_jobs` needs cloudpickle: `pip install keras-hypergrad[tuner]`."
        ) from error
    try:
        packed: bytes = cloudpickle.dumps(content)
    except Exception as error:
        raise TypeError(
            "With `n_jobs` the model function, the data and the callbacks are sent to "
            f"other processes, which failed: {type(error).__name__}: {error}. Use "
            "arrays instead of datasets and generators, or start the script several "
            "times: it joins the same study."
        ) from error
    return packed


def _started(number: int, n_jobs: int, payload: bytes) -> subprocess.Popen:
    environment = {"KERAS_BACKEND": keras.backend.backend()}
    devices = keras.distribution.list_devices()
    gpus = [device for device in devices if not device.lower().startswith("cpu")]
    if gpus:
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = given.split(",") if given else [str(i) for i in range(len(gpus))]
        environment["CUDA_VISIBLE_DEVICES"] = names[number % len(names)]
    told = {
        "environment": environment,
        "cores": _cores(number, n_jobs),
        "path": sys.path,
        "arguments": sys.argv,
        "floatx": keras.config.floatx(),
    }
    worker = subprocess.Popen([sys.executable, "-c", START], stdin=subprocess.PIPE)
    assert worker.stdin is not None
    try:
        with worker.stdin as pipe:
            pipe.write(json.dumps(told).encode() + b"\n")
            pipe.write(payload)
    except BrokenPipeError:
        pass  # it has died; its exit code tells
    return worker


def _cores(number: int, n_jobs: int) -> list[int]:
    """The part of this process's cores that worker ``number`` runs on."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores[number::n_jobs] or [cores[number % len(cores)]]
