"""Callbacks of `tune` and `search`, in Keras' manner."""

from hypergrad.callbacks.callback import Callback
from hypergrad.callbacks.early_stopping import EarlyStopping
from hypergrad.callbacks.progress_bar import ProgressBar

__all__ = ["Callback", "EarlyStopping", "ProgressBar"]
