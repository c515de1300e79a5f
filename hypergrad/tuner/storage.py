"""The database of a study: how it is opened, and named without its secrets."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEARTBEAT = 10
"""Seconds between signs of life of a running trial."""

GRACE = 6
"""Heartbeats without which a trial on another machine counts as dead."""

WAIT = 60
"""Seconds that a process waits for its turn on an SQLite file."""

FILE = "study.db"


def open_storage(storage: Any, project: Path) -> Any:
    """An Optuna storage with heartbeats.

    Args:
        storage: None: an SQLite file in the project's folder; a URL of SQLAlchemy
            (``"postgresql+psycopg://user:password@host/database"``); or an
            ``optuna.storages.RDBStorage``.

    Raises:
        ImportError: Optuna, or the driver of the database, is not installed.
        ValueError: the database cannot be reached, or was made by another Optuna.
    """
    optuna = optuna_or_error()
    if storage is not None and not isinstance(storage, str):
        if not isinstance(storage, optuna.storages.RDBStorage):
            raise TypeError(
                "`storage` must be the URL of a database, such as "
                "'postgresql+psycopg://user@host/database', an optuna RDBStorage, or "
                f"None for a file in the project's folder. Received: {storage!r}."
            )
        if storage.get_heartbeat_interval() is None:
            raise ValueError(
                "`storage` must have a heartbeat, or trials of killed workers are lost "
                "for ever. Received: an RDBStorage without one. Pass its URL, or "
                f"RDBStorage(…, heartbeat_interval={HEARTBEAT})."
            )
        return storage
    url = f"sqlite:///{(project / FILE).resolve()}" if storage is None else storage
    return _open(optuna, url)


def shown(storage: Any) -> str:
    """A storage as it may be printed and saved: without password and options."""
    from sqlalchemy.engine import make_url

    if storage is None:
        return FILE
    url = storage if isinstance(storage, str) else storage.url
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except Exception:  # no URL at all: whatever it is may be a secret
        return "(not a URL)"


@contextlib.contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's lines for each study, and its notes on experimental parts."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", message="Heartbeat of storage is suppos")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def optuna_or_error() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "The tuner stands on Optuna, which is not installed: "
            "`pip install keras-hypergrad[tuner]`."
        ) from error
    return optuna


def _open(optuna: Any, url: str) -> Any:
    from sqlalchemy import exc

    options: dict[str, Any] = {}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": WAIT}
    try:
        with quiet(optuna):
            return optuna.storages.RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE * HEARTBEAT,
            )
    except (ModuleNotFoundError, ImportError) as error:
        raise ImportError(
            f"The driver of {shown(url)!r} is not installed: {error.__cause__ or error}"
            ". For PostgreSQL: `pip install psycopg[binary]`."
        ) from None
    except (exc.ArgumentError, exc.NoSuchModuleError):
        raise ValueError(
            "`storage` must be the URL of a database, as SQLAlchemy has them: "
            "'sqlite:///study.db' or 'postgresql+psycopg://user@host/database'. "
            f"Received: {shown(url)!r}."
        ) from None
    except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise ValueError(
            f"The database {shown(url)!r} cannot be used: {_without(url, error)}. "
            "Check that it runs, and that name, user and password are right."
        ) from None
    except RuntimeError as error:  # another version of Optuna's tables
        raise ValueError(
            f"The tables of the database {shown(url)!r} are of another version than "
            f"this Optuna's, {optuna.__version__}: {_without(url, error)[:200]}… "
            "`optuna storage upgrade` mends older ones; or use a new database."
        ) from None


def _without(url: str, error: Exception) -> str:
    """The first line of an error, without the password."""
    from sqlalchemy.engine import make_url

    cause = getattr(error, "orig", None) or error.__cause__ or error
    text = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
    password = make_url(url).password
    return text.replace(str(password), "***") if password else text
