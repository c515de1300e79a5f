"""Reverse mode as hypertorch does it: unrolled updates, recorded whole by autograd.

The package of Grazzi et al. is on no index (what is called hypertorch there is another
one), so that these are the lines a user of it would write in plain PyTorch.
"""

import torch
from case import EPSILON, Case
from peer import AbstractPeer
from torch.func import functional_call
from torch.nn import functional
from torch_parts import Parts


class Peer(AbstractPeer):
    """A differentiable Adam as a map of the state, T times.

    References: Grazzi et al. 2020, arXiv:2006.16218.
    """

    packages = ("torch",)

    def __init__(self, case: Case):
        self.parts = Parts(case)

    def train(self) -> None:
        self.parts.train()

    def hypergradient(self) -> tuple[float, list[float | None]]:
        net = self.parts.network()
        names = [name for name, _ in net.named_parameters()]
        weights = [w.detach().requires_grad_() for _, w in net.named_parameters()]
        m = v = [torch.zeros_like(w) for w in weights]

        def loss(weights, x, y):
            out = functional_call(net, dict(zip(names, weights)), (x,))
            return functional.cross_entropy(out, y)

        rate, beta_1, beta_2 = self.parts.hyper
        for t, batch in enumerate(self.parts.batches, 1):
            slope = torch.autograd.grad(
                loss(weights, *batch), weights, create_graph=True
            )
            m = [beta_1 * a + (1 - beta_1) * g for a, g in zip(m, slope)]
            v = [beta_2 * a + (1 - beta_2) * g * g for a, g in zip(v, slope)]
            alpha = rate * (1 - beta_2**t).sqrt() / (1 - beta_1**t)
            weights = [
                w - alpha * a / (b.sqrt() + EPSILON) for w, a, b in zip(weights, m, v)
            ]
        value = loss(weights, *self.parts.held_out)
        return self.parts.differentiated(value, self.parts.hyper)
