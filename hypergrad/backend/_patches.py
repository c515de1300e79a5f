"""Repairs of the frameworks that hold while we trace, and only then."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import keras

_lock = threading.RLock()


@contextlib.contextmanager
def keras_traceback_filtering_off() -> Iterator[None]:
    """Shows framework errors as they are.

    Keras rebuilds an exception from its message; a failing branch on a traced value
    then surfaces as an unrelated ``AttributeError``.
    """
    with _lock:
        was_on = keras.config.is_traceback_filtering_enabled()
        keras.config.disable_traceback_filtering()
        try:
            yield
        finally:
            if was_on:
                keras.config.enable_traceback_filtering()


@contextlib.contextmanager
def replaced(owner: Any, attribute: str, value: Any) -> Iterator[None]:
    """Sets ``owner.attribute`` for the time of the context."""
    with _lock:
        original = getattr(owner, attribute)
        setattr(owner, attribute, value)
        try:
            yield
        finally:
            setattr(owner, attribute, original)
