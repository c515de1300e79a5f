"""Evolution strategies over truncated unrolls, without the bias of truncation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree

from hypergrad import backend, unroll
from hypergrad.bound import bind_values
from hypergrad.methods import phases, plain
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.noise import (
    Noise,
    Numbers,
    check_positive_int,
    check_settings,
    sweep_pairs,
)
from hypergrad.methods.work import Work, nbytes
from hypergrad.problem import Problem
from hypergrad.unroll import Segment

OBJECTIVES = ("end", "sum")


@dataclasses.dataclass(frozen=True)
class PersistentES(AbstractMethod):
    """An unbiased estimate of the hypergradient from truncated unrolls.

    The run is cut into truncations k of K steps. A particle starts like the run and is
    carried through all of them; in each it trains at u + σε_k with a fresh
    ε_k ~ N(0, I), and remembers the sum of its perturbations, ξ_k = σ(ε_1 + … + ε_k).
    With p_k what truncation k adds to the objective and the mean over ``pairs`` pairs
    of particles with opposite perturbations,
    ``∇_u 𝔼 E ≈ mean Σ_k ξ_k p_k / σ²``, divided by dv/du for user units: the gradient
    of E smoothed by independent noise in every truncation.

    For the objective at the end, p_1 = E(s_1) and p_k = E(s_k) − E(s_{k−1}) at the ends
    of truncations, E taken at the perturbed values too: they add up to E(s_T), and a
    perturbation is not charged with what was lost before it was drawn. For the sum, p_k
    is the sum of the training losses in k. An initial state that depends on
    hyperparameters sees the first perturbation, a number per step that of its
    truncation.

    This call carries all particles through one whole run at fixed values. The online
    form of the paper, which changes the values after each truncation while particles
    and their ξ live on, saves waiting for the end of a run, at a bias of the order of
    the steps taken; an outer loop that wants it keeps (state, ξ) of each particle.

    Args:
        pairs: int ≥ 1, pairs of particles.
        sigma: float > 0, σ, on the unconstrained line.
        truncation: int ≥ 1, K, at most the steps of the problem; with all of them it is
            `EvolutionStrategies`.
        objective: ``"end"``, E after the last step, or ``"sum"``, the sum of the
            training losses along the run. The loss of the hypergradient is then that
            sum, and ``info["val_loss"]`` is E.
        seed: int ≥ 0. Perturbations follow from the seed and the values.

    Cost: 2 · pairs + 1 plain trainings, and for "end" an E for each particle and
    truncation; memory of three states. ``info`` as in `EvolutionStrategies`. Where
    only E at the end counts, that method has the smaller standard error with as many
    pairs (3 to 7 times, ``tests/test_persistent_es.py``).

    Valid when: always; no step need be differentiable. A value on a bound has no place
    on the unconstrained line (status not ok).

    Example:
        >>> hg.hypergradient(problem, method=hg.PersistentES(32, 0.1, truncation=10))

    References: Vicol et al. 2021, Alg. 2, arXiv:2112.13835.
    """

    pairs: int = 16
    sigma: float = 0.1
    _: dataclasses.KW_ONLY
    truncation: int
    objective: str = "end"
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings("PersistentES", self.pairs, self.sigma, self.seed)
        check_positive_int("PersistentES", "truncation", self.truncation)
        if self.objective not in OBJECTIVES:
            raise ValueError(
                '`objective` of PersistentES must be "end" or "sum". Received: '
                f"{self.objective!r}."
            )

    def check(self, problem: Problem) -> None:
        if self.truncation > problem.num_steps:
            raise ValueError(
                f"`truncation` must not exceed the {problem.num_steps} steps of the "
                f"problem. Received: {self.truncation}. Use EvolutionStrategies() for "
                "whole runs."
            )

    @property
    def exact(self) -> bool:
        return False

    def runs(self, problem: Problem) -> float:
        return 2.0 * self.pairs + 1.0

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        one = plain.work(problem, values, 1.0)
        start = phases.start_of(problem, values)
        truncations = self._segments(problem, start.state)
        particles = phases.training(start, truncations, 2.0 * self.pairs)["steps"]
        steps = one.phases["steps"]
        score = one.phases["validation"]
        scores = 2.0 * self.pairs * len(truncations) if self.objective == "end" else 0.0
        found = {
            "steps": steps._replace(
                calls=steps.calls + particles.calls, steps=steps.steps + particles.steps
            ),
            "validation": score._replace(calls=1.0 + scores),
        }
        return Work(found, {"states": 2 * nbytes(start.state)})

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        plain.prepare(problem, values)
        if self.objective == "sum" and problem.step is not None:
            _check_reports_loss(problem, values)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        tape = plain.train(problem, values)
        if self.objective == "end":
            return tape
        total = tape.train_losses.sum(dtype=np.float64)
        return tape._replace(loss=total, extra=tape.loss)

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        segments = self._segments(problem, tape.start)

        def estimate(noise: Noise) -> Numbers | None:
            particles = Particle(problem), Particle(problem)
            xi, total = noise.zeros(), noise.zeros()
            for truncation in segments:
                shift = noise.draw()
                xi = {name: xi[name] + moved for name, moved in shift.items()}
                added = [
                    particle.advance(values, truncation, self.objective)
                    for particle, values in zip(particles, noise.pair(shift))
                ]
                slope = (added[0] - added[1]) / (2.0 * self.sigma**2)
                if not np.isfinite(slope):
                    return None
                total = {name: total[name] + slope * xi[name] for name in total}
            return total

        noise = Noise(problem, tape.values, self.sigma, self.seed)
        swept = sweep_pairs(problem, tape.values, self.pairs, noise, estimate)
        if self.objective == "end":
            return swept
        return swept._replace(info={**swept.info, "val_loss": tape.extra})

    def _segments(self, problem: Problem, state: Any) -> list[list[Segment]]:
        """The segments of each truncation, in programs of a plain training."""
        steps = plain.capacity(problem, state)
        starts = range(0, problem.num_steps, self.truncation)
        stops = (min(t + self.truncation, problem.num_steps) for t in starts)
        return [unroll.plan(problem, steps, a, b) for a, b in zip(starts, stops)]


class Particle:
    """A training that is carried on at other values in each truncation."""

    def __init__(self, problem: Problem):
        self._problem = problem
        self._state: Any = None
        self._before = 0.0

    def advance(self, values: Numbers, segments: list, objective: str) -> float:
        """What one truncation adds to the objective."""
        problem = self._problem
        bound = bind_values(problem, values)
        if self._state is None:
            self._state = unroll.initial_state(problem, bound)
        losses = 0.0
        for segment, state, part in unroll.forward(
            problem, self._state, bound, segments
        ):
            self._state = state
            if objective == "sum":
                part = backend.to_numpy(part)[: segment.length]
                losses += float(part.sum(dtype=np.float64))
        if objective == "sum":
            return losses
        here = float(unroll.validate(problem, self._state, bound)[0])
        added, self._before = here - self._before, here
        return added


def _check_reports_loss(problem: Problem, values: Mapping[str, np.ndarray]) -> None:
    """Trains one step to see whether an opaque one says what its loss was."""
    bound, state = unroll.start(problem, values)
    segment = unroll.plan(problem, plain.capacity(problem, state), stop=1)
    ((_, end, losses),) = unroll.forward(problem, state, bound, segment)
    leaves = [np.asarray(leaf) for leaf in tree.flatten(backend.to_numpy(end))]
    went_well = all(
        np.isfinite(leaf).all() for leaf in leaves if leaf.dtype.kind == "f"
    )
    if went_well and np.isnan(backend.to_numpy(losses)[0]):
        raise ValueError(
            '`PersistentES(objective="sum")` adds up the training losses of all steps. '
            "Received: a `step` that reports none. Let it return (state, "
            '{"loss": loss}), or use objective="end".'
        )
