"""Ways to differentiate, one a file."""

from hypergrad.methods._abstract import AbstractMethod, Tape
from hypergrad.methods.reverse import Reverse

__all__ = ["AbstractMethod", "Reverse", "Tape"]
