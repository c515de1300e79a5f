"""Replayable batches: the same for step t forwards, backwards and after a resume."""

from hypergrad.data.arrays import as_arrays, num_rows, rows_of, take
from hypergrad.data.batches import AbstractBatches, Batches, form_of, row_index
from hypergrad.data.folds import Fold, FoldBatches, checked_folds, samples_of_folds
from hypergrad.data.host import HostBatches, HostRows, Parts, stays_on_host
from hypergrad.data.sources import AbstractSource, source_of
from hypergrad.data.stream import Reader, Stream, draw_pass, draw_steps
from hypergrad.data.weights import weights_of_classes

__all__ = [
    "AbstractBatches",
    "AbstractSource",
    "Batches",
    "Fold",
    "FoldBatches",
    "HostBatches",
    "HostRows",
    "Parts",
    "Reader",
    "Stream",
    "as_arrays",
    "checked_folds",
    "draw_pass",
    "draw_steps",
    "form_of",
    "num_rows",
    "row_index",
    "rows_of",
    "samples_of_folds",
    "source_of",
    "stays_on_host",
    "take",
    "weights_of_classes",
]
