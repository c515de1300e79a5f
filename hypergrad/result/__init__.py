"""What a tune or a search gives back."""

from hypergrad.result.result import Result

__all__ = ["Result"]
