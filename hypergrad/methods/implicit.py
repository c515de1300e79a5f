"""The hypergradient at a solution of training, by the implicit function theorem."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hypergrad import unroll
from hypergrad.bound import pull_bound
from hypergrad.influence import warn_not_at_the_solution
from hypergrad.linear import CG, AbstractSolver, Solution
from hypergrad.linear.vectors import norm, scaled
from hypergrad.methods import back, phases, plain
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.curvature import Hessian
from hypergrad.methods.implicit_checks import check_numbers, check_problem
from hypergrad.methods.sample import Block, Sample, check_batch, num_chunks
from hypergrad.methods.step_map import StepMap
from hypergrad.methods.work import FEW, Phase, Work, nbytes
from hypergrad.problem import Problem

PRODUCT = 2.5
"""A product with second derivatives, in training steps on as many rows."""


@dataclasses.dataclass(frozen=True)
class Implicit(AbstractMethod):
    """The hypergradient at a solution of training, from the last state alone.

    Where training has ended at ∂L/∂θ = 0, the implicit function theorem gives
    ``dE/dλ = ∂E/∂λ − (∂²L/∂λ∂θ)' v`` with ``v = (∂²L/∂θ²)⁻¹ ∂E/∂θ``, whatever the steps
    were that led there. θ are the weights after the T steps of an ordinary run, L the
    training loss there, E the validation loss; v is approximated by ``solver``, from
    products with the Hessian.

    With ``solver=FixedPoint(K)`` the whole training step Φ is differentiated instead:
    ``dE/dλ = ∂E/∂λ + (∂Φ/∂λ)' v`` with ``v ≈ (I − ∂Φ/∂s)⁻' ∂E/∂s``, s the weights with
    what else a step carries.

    L is the loss in training mode. Everything but the weights is held as the run left
    it: the state of BatchNormalization, the seeds of random layers, the slots of the
    optimizer (`FixedPoint` lets them move).

    Args:
        solver: one of `hypergrad.linear`: ``CG(tolerance, max_iterations, damping)``,
            ``Neumann(num_terms, scale)``, ``Nystrom(rank, rho)``,
            ``FixedPoint(num_iterations)``, ``Identity()``.
        batch: what L is the mean over. ``"all"``: all training examples, in chunks of
            the batch size, weighted by their rows, so that the penalties count once; of
            a dataset the distinct batches of the run, as for a Problem with
            ``batches``; without ``batches`` the ``train_loss`` of the last step's
            argument, the index T − 1. An int n: that many examples of the arrays, the
            same for all products.
        seed: int ≥ 0, draws the n examples.

    Cost: a plain training and ``PRODUCT · products · rows / batch size`` steps more,
    where products are those of the solver at most and one for λ, ``PRODUCT`` = 2.5;
    `runs` charges that. Memory of about 4 vectors like the weights beside the state
    (see the solver) and of one batch's second derivatives, for any T and |λ|; no state
    but the last is kept.

    Valid when: training converged, to a minimum of L. ``info["gradient_norm"]`` is
    ‖∂L/∂θ‖ over those rows: unless it is small against its value at the start, the
    result is biased, as it is by a decoupled weight decay, a constraint, or the noise
    of batches. Numbers that have no influence on a minimum (learning rate, momentum,
    initial weights, steps before the last) are refused, or warned of where that shows
    when their derivative is exactly 0. A loss that is no mean over rows (with masks, or
    ``reduction="mean_with_sample_weight"``) is weighted by rows nevertheless.

    ``info``: ``residual``, ‖A v − b‖ / ‖b‖ of the linear system; ``products``, what the
    solver took; ``gradient_norm``.

    Example:
        >>> method = hg.Implicit(hg.linear.Neumann(20), batch=512)
        >>> h = hg.hypergradient(problem, method=method)
        >>> h.info["residual"], h.info["gradient_norm"]

    References: Larsen et al. 1996 and Bengio 2000 (the theorem); Pedregosa 2016 (HOAG,
    CG), arXiv:1602.02355; Luketina et al. 2016 (identity), arXiv:1511.06727; Lorraine
    et al. 2020 (Neumann), arXiv:1911.02590; Grazzi et al. 2020 (fixed point, CG),
    arXiv:2006.16218; Hataya & Yamada 2023 (Nyström).
    """

    solver: AbstractSolver = CG()
    batch: Any = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.solver, AbstractSolver):
            raise TypeError(
                "`solver` of Implicit must be a solver of hypergrad.linear, such as "
                f"hg.linear.CG(). Received: {self.solver!r}."
            )
        given = self.batch
        if given != "all" and (type(given) is not int or given < 1):
            raise ValueError(
                '`batch` of Implicit must be "all" or an int of at least 1. Received: '
                f"{given!r}."
            )
        if type(self.seed) is not int or self.seed < 0:
            raise ValueError(
                "`seed` of Implicit must be an int of at least 0. Received: "
                f"{self.seed!r}."
            )

    def check(self, problem: Problem) -> None:
        check_problem(problem)
        check_batch(problem, self.batch)
        check_numbers(problem, self.solver.of_step)

    @property
    def exact(self) -> bool:
        return False

    def runs(self, problem: Problem) -> float:
        products = (self.solver.products + 1) * num_chunks(problem, self.batch)
        return 1.0 + PRODUCT * products / problem.num_steps

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        start = phases.start_of(problem, values)
        chunks = num_chunks(problem, self.batch)
        # One for λ, and the mean gradient that a step is linearised at.
        products = self.solver.products + (2.0 if self.solver.of_step else 1.0)

        @functools.cache
        def first() -> tuple[Block, Any]:
            block = next(iter(Sample(problem, start.bound, self.batch, self.seed)))
            return block, self._right_hand_side(back.Adjoint(problem, start.tape))

        @functools.cache
        def system(steps: int) -> Any:
            block = first()[0]
            some = block.inputs._replace(length=np.int32(steps))
            return self._system(problem, start.tape, [block._replace(inputs=some)])

        def product(steps: int) -> Any:
            return system(steps).product(first()[1])

        length = min(FEW, math.floor(chunks)) or 1
        work = plain.work(problem, values, 1.0)
        kind = "products with the step" if self.solver.of_step else "Hessian products"
        one = Phase(product, length, products, products * chunks)
        vectors = 8 * nbytes(start.state.weights)
        return Work(
            {**work.phases, **phases.ends(start), kind: one},
            {"vectors": vectors},
            phases.gradient(start),
        )

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        def compile_sweep() -> None:
            bound, state = unroll.start(problem, values)
            unroll.validate(problem, state, bound)
            nothing = np.empty(0)
            tape = Tape(values, bound, 0.0, {}, [], state, state, nothing)
            adjoint = back.Adjoint(problem, tape)
            rows = Sample(problem, bound, self.batch, self.seed).without_rows()
            system = self._system(problem, tape, rows)
            v = self._right_hand_side(adjoint)
            system.pull(system.product(v), adjoint)

        key = ("Implicit", self.solver.of_step, self.batch)
        unroll.prepare_once(problem, key, compile_sweep)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        return plain.train(problem, values)

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        adjoint = back.Adjoint(problem, tape)
        sample = Sample(problem, tape.bound, self.batch, self.seed)
        system = self._system(problem, tape, sample)
        b = self._right_hand_side(adjoint)
        found = self.solver.solve(system.operator, b)
        info = {"residual": found.residual, "products": found.products}
        if not found.status.ok:
            return Swept({}, found.status, info)
        info["gradient_norm"] = system.pull(self._signed(problem, found), adjoint)
        gradient = pull_bound(problem, tape.values, adjoint.bound())
        if norm(system.operator, b) > 0.0:
            warn_not_at_the_solution(problem, gradient)
        return Swept(gradient, found.status, info)

    def _system(self, problem: Problem, tape: Tape, sample: Iterable[Block]) -> Any:
        kind = StepMap if self.solver.of_step else Hessian
        return kind(problem, tape.final, sample)

    def _right_hand_side(self, adjoint: back.Adjoint) -> Any:
        d_state = adjoint.carry[0]
        return d_state if self.solver.of_step else d_state.weights

    def _signed(self, problem: Problem, found: Solution) -> Any:
        """What is pulled to λ: v through the step, −v through the gradient."""
        if self.solver.of_step:
            return found.x
        program = problem.program("negative", lambda: lambda v: scaled(-1.0, v))
        return program(found.x)
