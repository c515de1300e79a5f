"""What a library must do to be compared."""

import abc
from typing import ClassVar

from case import Case


class AbstractPeer(abc.ABC):
    """A library that differentiates training, set up for one case.

    ``packages``: what it needs. ``torch``: whether it lives in the environment with
    PyTorch. ``epsilon_inside``: where its Adam adds ε, see `reference`.
    """

    packages: ClassVar[tuple[str, ...]]
    torch: ClassVar[bool] = True
    epsilon_inside: ClassVar[bool] = False

    @abc.abstractmethod
    def __init__(self, case: Case):
        """Moves weights and data to where the library wants them."""

    @abc.abstractmethod
    def train(self) -> None:
        """T steps of training as the library's users write it, nothing recorded."""

    @abc.abstractmethod
    def hypergradient(self) -> tuple[float, list[float | None]]:
        """(E, derivatives by learning rate, beta_1, beta_2); None: it gives none."""
