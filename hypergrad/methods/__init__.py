"""Ways to differentiate, one a file."""

from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.reverse import Reverse
from hypergrad.methods.reversible import Reversible
from hypergrad.methods.truncated import Truncated

__all__ = ["AbstractMethod", "Reverse", "Reversible", "Swept", "Tape", "Truncated"]
