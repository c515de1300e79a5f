"""Plain trainings: nothing is kept of them but what they ended with.

All run the compiled segments of `unroll`, whatever the values: a method that needs
losses alone compiles nothing of its own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad import unroll
from hypergrad.methods import phases, unrolled
from hypergrad.methods._abstract import Tape
from hypergrad.methods.storage import OnDevice
from hypergrad.methods.work import Phase, Work
from hypergrad.problem import Problem


def prepare(problem: Problem, values: Mapping[str, np.ndarray]) -> None:
    """Compiles a training, as a graph where XLA refuses; once a problem."""

    def compile_run() -> None:
        bound, state = unroll.start(problem, values)
        unroll.validate(problem, state, bound)
        program = unroll.forward_program(problem)
        seen = set()
        for segment in unroll.plan(problem, capacity(problem, state)):
            form = problem.form(segment.start), segment.capacity
            if form not in seen:
                # A segment of no steps: compiles, and computes nothing.
                inputs = unroll.step_inputs(problem, bound, segment)
                program(state, inputs._replace(length=np.int32(0)), problem.data)
                seen.add(form)

    unroll.prepare_once(problem, "plain", compile_run)


def work(problem: Problem, values: Mapping[str, np.ndarray], runs: float) -> Work:
    """That of so many trainings, each of which is scored."""
    start = phases.start_of(problem, values)
    segments = unroll.plan(problem, capacity(problem, start.state))

    def scored(steps: int) -> None:
        unroll.validate(problem, start.state, start.bound)

    score = {"validation": Phase(scored, 0, runs)}
    return Work(phases.training(start, [segments], runs) | score, {})


def train(problem: Problem, values: Mapping[str, np.ndarray]) -> Tape:
    """Trains T steps."""
    beginning = unroll.start(problem, values)
    steps = capacity(problem, beginning[1])
    units = unroll.units(unroll.plan(problem, steps), steps)
    plan = unrolled.Plan(units, len(units), 1, False)
    return unrolled.train(problem, values, beginning, plan, OnDevice())


def score(problem: Problem, values: Mapping[str, np.ndarray]) -> float:
    """E after T steps; NaN or infinite where training diverged."""
    bound, state = unroll.start(problem, values)
    segments = unroll.plan(problem, capacity(problem, state))
    *_, (_, end, _) = unroll.forward(problem, state, bound, segments)
    return float(unroll.validate(problem, end, bound)[0])


def capacity(problem: Problem, state: Any) -> int:
    """The room of a segment: that of `Reverse`, so that they share programs.

    ``state``: one of the run, for its size.
    """
    wanted = unroll.sqrt_capacity(problem, state, problem.num_steps)
    return unroll.lasting_capacity(problem, "capacity", wanted)
