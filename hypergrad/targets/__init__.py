"""Numbers inside a compiled model: their paths, and writing traced values into them."""

from hypergrad.targets.discovery import discover
from hypergrad.targets.injection import Assignment, inject
from hypergrad.targets.patterns import resolve
from hypergrad.targets.settling import settle
from hypergrad.targets.table import Tunables, TunablesRow, tunables
from hypergrad.targets.target import Target

__all__ = [
    "Assignment",
    "Target",
    "Tunables",
    "TunablesRow",
    "discover",
    "inject",
    "resolve",
    "settle",
    "tunables",
]
