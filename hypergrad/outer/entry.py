"""What `tune` and `search` do with their first arguments."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from hypergrad.from_model import from_model
from hypergrad.problem import Problem


def problem_of(
    model_or_problem: Any, data: tuple, seed: int, options: Mapping[str, Any]
) -> Problem:
    """The problem of a model and its data, or the problem itself.

    Args:
        model_or_problem: compiled ``keras.Model``, or `Problem`.
        data: (x, y, sample_weight).
        seed: int, of the batch order.
        options: other keywords of `Problem.from_model`.
    """
    known = [
        name
        for name, p in inspect.signature(from_model).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"Unknown keyword {name!r}. Expected the keywords of this function or "
                f"of Problem.from_model: {', '.join(known)}.{hint}"
            )
    if isinstance(model_or_problem, Problem):
        given = [n for n, v in zip(("x", "y", "sample_weight"), data) if v is not None]
        given += list(options)
        if given:
            raise ValueError(
                f"A Problem holds its data and training already. Received: {given} "
                "besides. Pass them to Problem.from_model, or pass the model."
            )
        return model_or_problem
    if "hyperparameters" not in options:
        raise ValueError(
            "`hyperparameters` is missing. Name what to tune, such as "
            '["optimizer.learning_rate"]; hg.tunables(model) lists what there is.'
        )
    x, y, sample_weight = data
    return from_model(model_or_problem, x, y, sample_weight, seed=seed, **options)


def start_of(problem: Problem) -> dict[str, np.ndarray]:
    """The user's start: the defaults, the middle of the range where there is none."""
    return problem.values({n: float_.start() for n, float_ in problem.space.items()})
