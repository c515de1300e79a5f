"""Repairs of the frameworks that hold while we trace, and only then."""

import contextlib
import importlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras

_lock = threading.RLock()
_said: set[str] = set()


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


@contextlib.contextmanager
def cudnn_off() -> Iterator[None]:
    """LSTM and GRU run as plain loops: cuDNN's kernels have one derivative only."""
    # Its parent hides the module behind the function of that name.
    backend = importlib.import_module(
        f"keras.src.backend.{keras.backend.backend()}.rnn"
    )

    def never(plain: Callable) -> Callable:
        def cudnn_ok(*args: Any, **kwargs: Any) -> bool:
            if plain(*args, **kwargs):
                say_once("LSTM and GRU layers run as plain loops, without cuDNN")
            return False

        return cudnn_ok

    def not_forced(plain: Callable) -> Callable:
        def inner_loop(layer: Any, *args: Any, **kwargs: Any) -> Any:
            # With True, Keras raises where cuDNN is not to be had.
            wanted = "auto" if layer.use_cudnn is True else layer.use_cudnn
            with replaced(layer, "use_cudnn", wanted):
                return plain(layer, *args, **kwargs)

        return inner_loop

    lstm, gru = keras.layers.LSTM, keras.layers.GRU
    with (
        replaced(backend, "cudnn_ok", never(backend.cudnn_ok)),
        replaced(lstm, "inner_loop", not_forced(lstm.inner_loop)),
        replaced(gru, "inner_loop", not_forced(gru.inner_loop)),
    ):
        yield


def say_once(what: str) -> None:
    """Warns, the first time in this process, that a fast kernel is not used."""
    if what in _said:
        return
    _said.add(what)
    warnings.warn(
        f"{what}, while a training run is differentiated: that kernel has no second "
        "derivative. Training by `fit` is as fast as before.",
        stacklevel=2,
    )
