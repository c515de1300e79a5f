"""Gradients of a smoothed objective, from plain trainings at perturbed values."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from hypergrad.methods import plain
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.noise import Noise, Numbers, check_settings, sweep_pairs
from hypergrad.methods.work import Work
from hypergrad.problem import Problem


@dataclasses.dataclass(frozen=True)
class EvolutionStrategies(AbstractMethod):
    """An unbiased estimate of the hypergradient of the smoothed objective.

    With u the unconstrained values, ε_i ~ N(0, I) and N = ``pairs``,
    ``∇_u 𝔼 E(u + σε) ≈ 1/N Σ_i ε_i (E(u + σε_i) − E(u − σε_i)) / 2σ``, divided by dv/du
    for user units. All runs see the same batches and random layers, so that their
    differences are due to the perturbation alone.

    The gradient is that of E averaged over a neighbourhood of width σ, not of E: the
    same where E is quadratic, and useful where E is rough, or a step function. The loss
    is E at the values themselves. ``info["standard_error"]`` holds the standard error
    of each entry (of pairs, NaN for a single one), ``info["nonfinite_pairs"]`` how many
    pairs diverged: from one on the status is not ok.

    Args:
        pairs: int ≥ 1, N.
        sigma: float > 0, σ, on the unconstrained line: 0.1 moves a value in the middle
            of a logarithmic range of five decades by a third of itself.
        seed: int ≥ 0. Perturbations follow from the seed and the values: the same when
            asked again at these values, others elsewhere.

    Cost: 2N + 1 plain trainings, one after the other, in the memory of one; nothing is
    compiled but training. The variance grows with the number of hyperparameters: about
    N ≥ that number tells a direction.

    Valid when: always; no step need be differentiable. A value on a bound has no place
    on the unconstrained line (status not ok). With a ``constraint``, u is the value
    itself, and perturbed values are projected.

    Example:
        >>> h = hg.hypergradient(problem, method=hg.EvolutionStrategies(pairs=32))
        >>> h.gradient["rate"], h.info["standard_error"]["rate"]

    References: Salimans et al. 2017, arXiv:1703.03864; antithetic pairs, without the
    ranks and the normalisation of that paper.
    """

    pairs: int = 16
    sigma: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings("EvolutionStrategies", self.pairs, self.sigma, self.seed)

    def check(self, problem: Problem) -> None:
        pass

    @property
    def exact(self) -> bool:
        return False

    def runs(self, problem: Problem) -> float:
        return 2.0 * self.pairs + 1.0

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        return plain.work(problem, values, self.runs(problem))

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        plain.prepare(problem, values)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        return plain.train(problem, values)

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        def estimate(noise: Noise) -> Numbers | None:
            shift = noise.draw()
            above, below = (plain.score(problem, v) for v in noise.pair(shift))
            if not np.isfinite(above - below):
                return None
            slope = (above - below) / (2.0 * self.sigma**2)
            return {name: slope * moved for name, moved in shift.items()}

        noise = Noise(problem, tape.values, self.sigma, self.seed)
        return sweep_pairs(problem, tape.values, self.pairs, noise, estimate)
