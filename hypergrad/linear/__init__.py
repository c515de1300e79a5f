"""Inverse-Hessian-vector products for the implicit methods, one solver a file."""

from hypergrad.linear._abstract import AbstractSolver, Operator, Solution
from hypergrad.linear.cg import CG
from hypergrad.linear.fixed_point import FixedPoint
from hypergrad.linear.identity import Identity
from hypergrad.linear.neumann import Neumann
from hypergrad.linear.nystrom import Nystrom

__all__ = [
    "CG",
    "AbstractSolver",
    "FixedPoint",
    "Identity",
    "Neumann",
    "Nystrom",
    "Operator",
    "Solution",
]
