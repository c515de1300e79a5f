"""Ways to differentiate, one a file."""

from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.forward import Forward
from hypergrad.methods.reverse import Reverse
from hypergrad.methods.truncated import Truncated

__all__ = ["AbstractMethod", "Forward", "Reverse", "Swept", "Tape", "Truncated"]
