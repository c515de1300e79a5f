"""A PostgreSQL server of Debian's package for the time of a test.

    with postgres.server() as url: ...

It listens on 127.0.0.1 with a password, and its files are in a temporary folder. As
root it runs as the user ``postgres``, which the package makes.
"""

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

USER, PASSWORD = "hypergrad", "hunter2"


def program(name: str) -> str | None:
    """Where a program of PostgreSQL is; Debian keeps them off the path."""
    found = shutil.which(name)
    places = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found or (places[-1] if places else None)


def is_installed() -> bool:
    return program("initdb") is not None and program("pg_ctl") is not None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Starts a server and gives its URL; it is stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="hypergrad-postgres-"))
    data, secret = folder / "data", folder / "password"
    secret.write_text(PASSWORD)
    owner = {"user": "postgres"} if os.geteuid() == 0 else {}
    if owner:
        shutil.chown(folder, "postgres")
        shutil.chown(secret, "postgres")
    _run(
        *(program("initdb"), "-D", data, "-U", USER, "--pwfile", secret),
        *("--auth", "scram-sha-256", "--no-sync"),
        **owner,
    )
    port = _free_port()
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    control = program("pg_ctl")
    _run(
        control, "-D", data, "-o", options, "-l", folder / "log", "-w", "start", **owner
    )
    try:
        yield f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        _run(control, "-D", data, "-m", "immediate", "stop", **owner)
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: object, **options: str) -> None:
    subprocess.run(
        [str(word) for word in command],
        check=True,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd="/",
        **options,
    )


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
