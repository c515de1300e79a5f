"""Exact reverse mode through the whole run."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from hypergrad import backend, files, unroll
from hypergrad.bound import pull_bound
from hypergrad.methods import back, phases, unrolled
from hypergrad.methods._abstract import AbstractMethod, Swept, Tape
from hypergrad.methods.pull import check_second_order, second_order_of
from hypergrad.methods.resume import Resumption
from hypergrad.methods.storage import OnDevice, OnDisk, OnHost
from hypergrad.methods.work import Work
from hypergrad.problem import Bound, Problem


@dataclasses.dataclass(frozen=True)
class Reverse(AbstractMethod):
    """The exact hypergradient, by sweeping back over the steps of the run.

    With s_{t+1} = Φ(s_t, λ_t) and E = E(s_T, λ), the adjoint α_T = ∂E/∂s_T is carried
    backwards: ``dE/dλ_t += (∂Φ/∂λ_t)' α_{t+1}``, ``α_t = (∂Φ/∂s_t)' α_{t+1}``. The
    states s_t are stored during the run, or recomputed from the state at the start of
    their segment.

    Args:
        checkpoints: ``"all"`` stores every state and gradient; ``"sqrt"`` about √T
            states at segment starts, from which each segment is recomputed once (of
            short segments, where shapes of batches alternate, at the start of some);
            ``"log"`` about 3 log₂T states and gradients, at two more plain trainings
            per factor of 50 in T; an int, that many segment starts. None: ``"all"``
            where that is less than 100 MB, else ``"sqrt"``.
        offload: where the states at segment starts are kept: None, on the device;
            ``"host"``, in the memory of the host (on a CPU that is the same);
            ``"disk"``, in memory-mapped files.
        resume_dir: a folder for these files, and for the adjoint after each segment: a
            killed call with the same problem and values goes on from there to the same
            numbers. It is emptied at the end. None: a temporary folder.
        second_order: how second derivatives of the training loss are taken:
            ``"reverse"`` over reverse, or ``"mixed"``, forward over reverse. None: what
            measures faster on this backend.

    Cost: the time of about 1 + 1 + 3 plain trainings with recomputation, 1 + 3 without
    (``benchmarks/speed`` measures it); memory of about 2 √T states, or of T states and
    gradients. Problems that share programs share the length of a segment, which an
    earlier T decided, so that another T compiles nothing.

    Valid when: every step is differentiable almost everywhere.

    Example:
        >>> hg.hypergradient(problem, method=hg.Reverse(checkpoints="all"))

    References: Griewank & Walther 2000 (checkpointing, Alg. 799); Franceschi et al.
    2017, Alg. 1, arXiv:1703.01785; Kemaev et al. 2025 (mixed), arXiv:2505.00793.
    """

    samples_at_once: ClassVar[bool] = True

    checkpoints: str | int | None = None
    offload: str | None = None
    resume_dir: str | None = None
    second_order: str | None = None

    def __post_init__(self) -> None:
        given = self.checkpoints
        number = isinstance(given, int) and not isinstance(given, bool) and given > 0
        if not (number or given in (None, "all", "sqrt", "log")):
            raise ValueError(
                '`checkpoints` must be None, "all", "sqrt", "log" or an int of at '
                f"least 1. Received: {self.checkpoints!r}."
            )
        check_second_order(self.second_order)
        if self.offload not in (None, "host", "disk"):
            raise ValueError(
                f'`offload` must be None, "host" or "disk". Received: {self.offload!r}.'
            )
        if self.resume_dir is not None and self.offload == "host":
            raise ValueError(
                "`resume_dir` keeps states on disk. Received: offload='host'. Leave "
                "`offload` out, or leave `resume_dir` out."
            )
        if given == "all" and (self.offload or self.resume_dir is not None):
            raise ValueError(
                "`offload` and `resume_dir` move states at segment starts, and "
                'checkpoints="all" keeps every state and gradient on the device. '
                "Received both. Leave `checkpoints` out."
            )

    def check(self, problem: Problem) -> None:
        if self.resume_dir is not None:
            files.writable(self.resume_dir, "resume_dir")
        if self.resume_dir is not None and problem.average > 1:
            raise ValueError(
                "`resume_dir` holds one run and its sweep. Received: a problem with "
                f"average={problem.average}. Leave it out, or pass "
                "`problem.sample(i)` and a folder for each sample."
            )
        if isinstance(self.checkpoints, int) and self.checkpoints > problem.num_steps:
            raise ValueError(
                f"`checkpoints` must not exceed the {problem.num_steps} steps of the "
                f'problem. Received: {self.checkpoints}. Use `checkpoints="all"` to '
                "store every state."
            )

    @property
    def exact(self) -> bool:
        return True

    def runs(self, problem: Problem) -> float:
        return backend.run_cost("Reverse")

    def work(self, problem: Problem, values: Mapping[str, np.ndarray]) -> Work:
        start = phases.start_of(problem, values)
        offload = "disk" if self.resume_dir is not None else self.offload
        plan = self._plan(problem, start.state)
        second_order = second_order_of(self.second_order)
        return phases.of_plan(start, plan, second_order, offload)

    def prepare(self, problem: Problem, values: Mapping[str, np.ndarray]) -> None:
        def compile_sweep() -> None:
            bound, state = unroll.start(problem, values)
            plan = self._plan(problem, state)
            segments = [segment for unit in plan.units for segment in unit]
            back.prepare(problem, bound, segments, second_order_of(self.second_order))

        unroll.prepare_once(problem, ("Reverse", self.second_order), compile_sweep)

    def run(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        sweep_follows: bool = False,
    ) -> Tape:
        beginning = unroll.start(problem, values)
        plan = self._plan(problem, beginning[1])
        if self.resume_dir is not None and not sweep_follows:
            raise ValueError(
                "`resume_dir` holds one run and its sweep, and here many are made. "
                f"Received: {str(self.resume_dir)!r}. Leave it out: "
                "`hg.tune(…, directory=…)` resumes by itself."
            )
        if self.offload == "disk" or self.resume_dir is not None:
            return self._train_on_disk(problem, values, beginning, plan)
        storage = OnHost() if self.offload == "host" else OnDevice()
        return unrolled.train(problem, values, beginning, plan, storage)

    def _train_on_disk(
        self,
        problem: Problem,
        values: Mapping[str, np.ndarray],
        beginning: tuple[Bound, Any],
        plan: unrolled.Plan,
    ) -> Tape:
        _, state = beginning
        if self.resume_dir is None:
            storage = OnDisk(None, state)
            storage.check_room(plan.places)
            return unrolled.train(problem, values, beginning, plan, storage)
        storage = OnDisk(files.writable(self.resume_dir, "resume_dir"), state)
        storage.check_room(plan.places + 1)
        lengths = [[segment.length for segment in unit] for unit in plan.units]
        settings = {"second_order": self.second_order, "segments": lengths}
        resumption = Resumption(problem, values, settings, storage)
        return unrolled.train(problem, values, beginning, plan, storage, resumption)

    def sweep(self, problem: Problem, tape: Tape) -> Swept:
        adjoint = back.Adjoint(problem, tape)
        second_order = second_order_of(self.second_order)
        last = len(tape.units)
        if tape.extra is not None:
            known = tape.extra.restore(adjoint)
            last = last if known is None else known
        for k in reversed(range(last)):
            back.sweep_unit(problem, tape, k, adjoint, second_order)
            if tape.extra is not None:
                tape.extra.swept(k, adjoint)
        if tape.extra is not None:
            tape.extra.finish()
        through_init = back.pull_init(problem, tape.bound, adjoint.carry[0])
        whole = adjoint.bound(through_init)
        return Swept(pull_bound(problem, tape.values, whole))

    def _plan(self, problem: Problem, state: Any) -> unrolled.Plan:
        capacity = self._capacity(problem, state)
        units = unroll.units(unroll.plan(problem, capacity), capacity)
        places = len(units)
        if self.checkpoints == "log":
            places = min(places, 1 + math.ceil(1.5 * math.log2(max(2, places))))
        store_all = False
        if self.offload is None and self.resume_dir is None:
            store_all = unrolled.stores_all(
                problem, state, self.checkpoints, problem.num_steps
            )
        return unrolled.Plan(units, 0, places, store_all)

    def _capacity(self, problem: Problem, state: Any) -> int:
        number = self.checkpoints
        if isinstance(number, int):
            wanted = -(-problem.num_steps // number)
            return unroll.lasting_capacity(problem, ("capacity", number), wanted)
        if number == "log":
            wanted = math.ceil(math.log2(problem.num_steps + 1))
            return unroll.lasting_capacity(problem, ("capacity", number), wanted)
        wanted = unroll.sqrt_capacity(problem, state, problem.num_steps)
        return unroll.lasting_capacity(problem, "capacity", wanted)
