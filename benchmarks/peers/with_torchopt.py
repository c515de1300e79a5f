"""metaopt/torchopt: optax' transformations for PyTorch."""

import torchopt
from case import BETA_1, BETA_2, EPSILON, Case
from peer import AbstractPeer
from torch.nn import functional
from torch_parts import Parts


class Peer(AbstractPeer):
    """`torchopt.MetaAdam`; betas as tensors where it takes them.

    References: Ren et al. 2023, JMLR 24.
    """

    packages = ("torch", "torchopt")
    epsilon_inside = True

    def __init__(self, case: Case):
        self.parts = Parts(case)

    def train(self) -> None:
        self.parts.train()

    def hypergradient(self) -> tuple[float, list[float | None]]:
        try:
            return self._with(tuple(self.parts.hyper[1:]))
        except (TypeError, ValueError, RuntimeError):
            return self._with((BETA_1, BETA_2))

    def _with(self, betas: tuple) -> tuple[float, list[float | None]]:
        net = self.parts.network()
        adam = torchopt.MetaAdam(net, lr=self.parts.hyper[0], betas=betas, eps=EPSILON)
        for x, y in self.parts.batches:
            adam.step(functional.cross_entropy(net(x), y))
        x, y = self.parts.held_out
        value = functional.cross_entropy(net(x), y)
        return self.parts.differentiated(value, self.parts.hyper)
