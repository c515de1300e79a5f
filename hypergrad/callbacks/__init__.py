"""Callbacks of `tune` and `search`, in Keras' manner."""

from hypergrad.callbacks.callback import Callback
from hypergrad.callbacks.csv_logger import CSVLogger
from hypergrad.callbacks.early_stopping import EarlyStopping
from hypergrad.callbacks.mlflow import MLflow
from hypergrad.callbacks.overfitting_guard import OverfittingError, OverfittingGuard
from hypergrad.callbacks.progress_bar import ProgressBar
from hypergrad.callbacks.tensorboard import TensorBoard

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "MLflow",
    "OverfittingError",
    "OverfittingGuard",
    "ProgressBar",
    "TensorBoard",
]
