"""Ways to differentiate, one a file."""

from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.implicit import Implicit
from hypergrad.methods.reverse import Reverse
from hypergrad.methods.truncated import Truncated

__all__ = ["AbstractMethod", "Implicit", "Reverse", "Swept", "Tape", "Truncated"]
