"""Runs of a part of the full length, for methods that stop bad ones early."""

from collections.abc import Mapping
from typing import Any

import hypergrad as hg


def schedules_of(space: Mapping[str, Any]) -> list[str]:
    """Names whose values change during a run: a shorter run would follow another."""

    def scheduled(declared: Any) -> bool:
        while not isinstance(declared, hg.Float):
            if isinstance(declared, hg.Schedule):
                return True
            declared = declared.each
        return False

    return [name for name, declared in space.items() if scheduled(declared)]


def shortened(problem: hg.Problem, part: float) -> hg.Problem:
    """The first part of a run, in (0, 1], of at least one step; programs are shared."""
    return problem.replace(num_steps=max(1, round(part * problem.num_steps)))


def refusal(space: Mapping[str, Any]) -> str:
    """Why shorter runs say nothing about a full one; "" where they do."""
    names = schedules_of(space)
    if not names:
        return ""
    return (
        f"{', '.join(names)} change during a run, expected numbers that do not: a "
        "shorter run would follow another schedule."
    )
