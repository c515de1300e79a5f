"""What values a hyperparameter may take, and how they map to the real line.

``float.py`` declares a range, ``transforms.py`` holds the formulas, ``groups.py`` says
how one range serves several targets, ``defaults.py`` gives the range of a bare path.
"""

from hypergrad.space.defaults import DEFAULT_RANGES, default_float
from hypergrad.space.float import Float
from hypergrad.space.groups import PerTarget

__all__ = ["DEFAULT_RANGES", "Float", "PerTarget", "default_float"]
