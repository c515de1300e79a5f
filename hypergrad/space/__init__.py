"""What values a hyperparameter may take, and how they map to the real line.

``float.py`` declares a range, ``transforms.py`` holds the formulas, ``groups.py`` says
how one range serves several targets, variables or steps, ``knots.py`` draws the curves
through the knots of a schedule, ``defaults.py`` gives the range of a bare path.
"""

from hypergrad.space.defaults import DEFAULT_RANGES, default_float
from hypergrad.space.float import Float
from hypergrad.space.groups import Layout, PerTarget, PerVariable, Schedule, layout
from hypergrad.space.knots import pull_to_knots, spread_over_steps

__all__ = [
    "DEFAULT_RANGES",
    "Float",
    "Layout",
    "PerTarget",
    "PerVariable",
    "Schedule",
    "default_float",
    "layout",
    "pull_to_knots",
    "spread_over_steps",
]
