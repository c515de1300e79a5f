"""Reverse mode through the last steps of the run only."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hypergrad import backend, unroll
from hypergrad.bound import pull_bound
from hypergrad.methods import back, phases, unrolled
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.pull import check_second_order, second_order_of
from hypergrad.methods.storage import OnDevice
from hypergrad.methods.work import Work
from hypergrad.problem import Problem


@dataclasses.dataclass(frozen=True)
class Truncated(AbstractMethod):
    """An estimate of the hypergradient: the sweep stops after the last K steps.

    ``dE/dλ ≈ ∂E/∂λ + Σ_{t ≥ T−K} (∂Φ/∂λ_t)' α_{t+1}``: s_{T−K} counts as a constant.
    What is left out shrinks like (1 − aμ)^K where L is μ-strongly convex and a the
    learning rate; elsewhere nothing bounds it, and the sign may be wrong: compare K
    with 2K.

    Args:
        num_steps: int ≥ 1, K. From T on it is `Reverse`.
        second_order: as in `Reverse`.

    Cost: a plain training and about 4 K/T more; memory of about 2 √K states, or of K
    states and gradients where they are less than 100 MB.

    Valid when: the influence of λ on early steps is forgotten. A number that acts
    before step T − K alone (an initial weight, early knots of a schedule) has
    hypergradient 0.

    Example:
        >>> hg.hypergradient(problem, method=hg.Truncated(50))

    References: Shaban et al. 2019, eq. (7) and Prop. 3.1, arXiv:1810.10667.
    """

    samples_at_once: ClassVar[bool] = True

    num_steps: int
    second_order: str | None = None

    def __post_init__(self) -> None:
        given = self.num_steps
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise ValueError(
                "`num_steps` of Truncated must be an int of at least 1. Received: "
                f"{given!r}."
            )
        check_second_order(self.second_order)

    def check(self, problem: Problem) -> None:
        pass

    @property
    def exact(self) -> bool:
        return False

    def runs(self, problem: Problem) -> float:
        share = min(1.0, self.num_steps / problem.num_steps)
        return 1.0 + share * (backend.run_cost("Reverse") - 1.0)

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        start = phases.start_of(problem, values)
        plan = self._plan(problem, start.state)
        second_order = second_order_of(self.second_order)
        return phases.of_plan(start, plan, second_order)

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        def compile_sweep() -> None:
            bound, state = unroll.start(problem, values)
            plan = self._plan(problem, state)
            swept = [segment for unit in plan.units[plan.first :] for segment in unit]
            back.prepare(problem, bound, swept, second_order_of(self.second_order))

        key = ("Truncated", self.num_steps, self.second_order)
        unroll.prepare_once(problem, key, compile_sweep)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        beginning = unroll.start(problem, values)
        plan = self._plan(problem, beginning[1])
        tape = unrolled.train(problem, values, beginning, plan, OnDevice())
        return tape._replace(extra=plan.first)

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        adjoint = back.Adjoint(problem, tape)
        second_order = second_order_of(self.second_order)
        for k in reversed(range(tape.extra, len(tape.units))):
            back.sweep_unit(problem, tape, k, adjoint, second_order)
        through_init = None
        if self.num_steps >= problem.num_steps:
            through_init = back.pull_init(problem, tape.bound, adjoint.carry[0])
        whole = adjoint.bound(through_init)
        return Swept(pull_bound(problem, tape.values, whole))

    def _plan(self, problem: Problem, state: Any) -> unrolled.Plan:
        steps = min(self.num_steps, problem.num_steps)
        wanted = unroll.sqrt_capacity(problem, state, steps)
        capacity = unroll.lasting_capacity(problem, "capacity", wanted)
        first = problem.num_steps - steps
        before = unroll.units(unroll.plan(problem, capacity, stop=first), capacity)
        swept = unroll.units(unroll.plan(problem, capacity, start=first), capacity)
        store_all = unrolled.stores_all(problem, state, None, steps)
        return unrolled.Plan(before + swept, len(before), len(swept), store_all)
