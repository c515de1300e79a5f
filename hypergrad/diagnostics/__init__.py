"""Looking before leaping: is the hypergradient right, and how far does it carry."""

from hypergrad.diagnostics.gradient_check import (
    CheckedEntry,
    GradientCheck,
    check_gradient,
)
from hypergrad.diagnostics.horizons import HorizonReport, HorizonRow, horizon
from hypergrad.diagnostics.non_finite import NanReport, nan_report

__all__ = [
    "CheckedEntry",
    "GradientCheck",
    "HorizonReport",
    "HorizonRow",
    "NanReport",
    "check_gradient",
    "horizon",
    "nan_report",
]
