"""What the PyTorch libraries share: the network, its data, plain training."""

import torch
from case import BETA_1, BETA_2, EPSILON, RATE, Case
from torch import nn
from torch.nn import functional


class Parts:
    """Network, batches and validation data of a case."""

    def __init__(self, case: Case):
        self.case = case
        dtype = getattr(torch, case.dtype)
        x, y = case.data()
        x, y = torch.tensor(x), torch.tensor(y)
        self.batches = [(x[rows], y[rows]) for rows in torch.tensor(case.order())]
        x, y = case.validation()
        self.held_out = torch.tensor(x), torch.tensor(y)
        self.hyper = [
            torch.tensor(value, dtype=dtype, requires_grad=True)
            for value in (RATE, BETA_1, BETA_2)
        ]

    def network(self) -> nn.Sequential:
        """A new one with the initial weights."""
        weights = iter(self.case.weights())
        layers: list[nn.Module] = []
        for n, m in zip(self.case.sizes, self.case.sizes[1:]):
            linear = nn.Linear(n, m, dtype=getattr(torch, self.case.dtype))
            with torch.no_grad():
                linear.weight.copy_(torch.tensor(next(weights).T))
                linear.bias.copy_(torch.tensor(next(weights)))
            layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def train(self) -> None:
        net = self.network()
        adam = torch.optim.Adam(net.parameters(), RATE, (BETA_1, BETA_2), EPSILON)
        for x, y in self.batches:
            adam.zero_grad()
            functional.cross_entropy(net(x), y).backward()
            adam.step()

    def differentiated(self, value, by) -> tuple[float, list[float | None]]:
        """E and dE by each of ``by``; None where nothing leads there."""
        found = torch.autograd.grad(value, by, allow_unused=True)
        return float(value), [None if g is None else float(g) for g in found]
