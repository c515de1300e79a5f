"""Looking before leaping: is the hypergradient right, and how far does it carry."""

from hypergrad.diagnostics.gradient_check import (
    CheckedEntry,
    GradientCheck,
    check_gradient,
)
from hypergrad.diagnostics.horizons import HorizonReport, HorizonRow, horizon
from hypergrad.diagnostics.landscapes import Landscape, landscape
from hypergrad.diagnostics.non_finite import NanReport, nan_report
from hypergrad.diagnostics.overfitting import raise_if_overfitting

__all__ = [
    "CheckedEntry",
    "GradientCheck",
    "HorizonReport",
    "HorizonRow",
    "Landscape",
    "NanReport",
    "check_gradient",
    "horizon",
    "landscape",
    "nan_report",
    "raise_if_overfitting",
]
