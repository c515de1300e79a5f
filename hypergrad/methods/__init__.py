"""Ways to differentiate, one a file."""

from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.auto import Auto
from hypergrad.methods.evolution_strategies import EvolutionStrategies
from hypergrad.methods.finite_difference import FiniteDifference
from hypergrad.methods.forward import Forward
from hypergrad.methods.implicit import Implicit
from hypergrad.methods.persistent_es import PersistentES
from hypergrad.methods.reverse import Reverse
from hypergrad.methods.reversible import Reversible
from hypergrad.methods.truncated import Truncated

__all__ = [
    "AbstractMethod",
    "Auto",
    "EvolutionStrategies",
    "FiniteDifference",
    "Forward",
    "Implicit",
    "PersistentES",
    "Reverse",
    "Reversible",
    "Swept",
    "Tape",
    "Truncated",
]
