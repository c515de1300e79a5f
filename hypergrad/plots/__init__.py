"""Pictures: of results, of horizons, of landscapes."""

from hypergrad.plots.compare import compare
from hypergrad.plots.horizon import horizon
from hypergrad.plots.landscape import landscape
from hypergrad.plots.result import plot_result

__all__ = ["compare", "horizon", "landscape", "plot_result"]
