"""`hypergrad.tune` as a method of the comparison."""

from typing import Any

import hypergrad as hg
from benchmark_utils.runs import Runs
from benchmark_utils.solver import Refused
from benchmark_utils.task import Task

METHODS: dict[str, Any] = {
    "Reverse": hg.Reverse(),
    "Reversible": hg.Reversible(),
    "Truncated": hg.Truncated(50),
    "Forward": hg.Forward(),
    "Implicit": hg.Implicit(),
    "EvolutionStrategies": hg.EvolutionStrategies(pairs=4),
    "PersistentES": hg.PersistentES(pairs=4, truncation=20),
    "FiniteDifference": hg.FiniteDifference(halvings=1),
    "Auto": hg.Auto(),
}
"""Estimates by plain runs have settings whose cost leaves steps within 64 runs."""

PLAIN = (hg.EvolutionStrategies, hg.FiniteDifference)
"""They compile nothing but training."""


def compile_method(task: Task, problem: hg.Problem, method: Any) -> float:
    """Seconds of compiling what its hypergradients need.

    Raises:
        Refused: hypergrad refuses the method on this problem.
    """
    try:
        method.check(problem)
        if isinstance(method, PLAIN):
            return 0.0
        name = type(method).__name__
        return task.compiled(name, lambda: hg.hypergradient(problem, method=method))
    except ValueError as error:
        raise Refused(str(error)) from error


def tune(runs: Runs, method: Any, seed: int, **options: Any) -> None:
    """Spends the runs on `hypergrad.tune`, from the defaults.

    Raises:
        Refused: hypergrad refuses; it does so before anything is trained.
    """
    budget = int(runs.left)
    try:
        result = hg.tune(
            runs.problem, method=method, budget=budget, seed=seed, verbose=0, **options
        )
    except ValueError as error:
        raise Refused(str(error)) from error
    runs.adopt(result)
