"""What tells the results of one version of the code from another's."""

import hashlib
import inspect
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import keras

import hypergrad as hg
from benchmark_utils.home import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"


def digest(files: Iterable[Path]) -> str:
    """Eight hexadecimal digits of the contents of files."""
    content = hashlib.sha256()
    for file in sorted(files):
        content.update(file.name.encode())
        content.update(file.read_bytes())
    return content.hexdigest()[:8]


def space_digest() -> str:
    return digest([FOLDER / "benchmark_utils" / "spaces.py"])


@cache
def version() -> str:
    """hypergrad's version, a digest of what computes the numbers, and the backend.

    Part of what the cache is asked by. benchopt itself watches the file of a solver and
    of a dataset, so that another one does not make all results old.
    """
    package = Path(inspect.getfile(hg)).parent.rglob("*.py")
    shared = (FOLDER / "benchmark_utils").glob("*.py")
    code = digest([*package, *shared, FOLDER / "objective.py"])
    return f"{metadata.version('keras-hypergrad')}-{code}-{keras.backend.backend()}"


@cache
def commit() -> str:
    """The git commit, marked where the working tree differs; "unknown" without git."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(REPOSITORY), *words]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        return answer.stdout.strip()

    try:
        outputs = ":(exclude)benchmarks/outputs"  # the results themselves
        changed = git("status", "--porcelain", "--", "hypergrad", "benchmarks", outputs)
        return git("rev-parse", "--short", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
