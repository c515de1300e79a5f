"""facebookresearch/higher: an optimizer whose steps are recorded by autograd."""

import higher
import torch
from case import BETA_1, BETA_2, EPSILON, RATE, Case
from peer import AbstractPeer
from torch.nn import functional
from torch_parts import Parts


class Peer(AbstractPeer):
    """Learning rate and betas overridden by tensors.

    References: Grefenstette et al. 2019, arXiv:1910.01727.
    """

    packages = ("torch", "higher")

    def __init__(self, case: Case):
        self.parts = Parts(case)

    def train(self) -> None:
        self.parts.train()

    def hypergradient(self) -> tuple[float, list[float | None]]:
        net = self.parts.network()
        adam = torch.optim.Adam(net.parameters(), RATE, (BETA_1, BETA_2), EPSILON)
        rate, beta_1, beta_2 = self.parts.hyper
        tuned = {"lr": [rate], "betas": [(beta_1, beta_2)]}
        with higher.innerloop_ctx(net, adam, override=tuned) as (inner, steps):
            for x, y in self.parts.batches:
                steps.step(functional.cross_entropy(inner(x), y))
            x, y = self.parts.held_out
            value = functional.cross_entropy(inner(x), y)
            return self.parts.differentiated(value, self.parts.hyper)
