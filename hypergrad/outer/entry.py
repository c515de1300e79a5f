"""What `tune` and `search` do with their arguments."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import keras
import numpy as np

from hypergrad.arguments import checked_whole
from hypergrad.callbacks import Callback, EarlyStopping, ProgressBar
from hypergrad.from_model import from_model
from hypergrad.methods import AbstractMethod, Reverse
from hypergrad.problem import Problem

Verb = TypeVar("Verb", bound=Callable)


def _fit_options() -> dict[str, inspect.Parameter]:
    """The keywords of `Problem.from_model`; ``seed`` is one of the verbs' own."""
    return {
        name: p
        for name, p in inspect.signature(from_model).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY and name != "seed"
    }


def with_fit_options(verb: Verb) -> Verb:
    """Spells ``**fit_options`` out in the signature that ``help`` shows."""
    signature = inspect.signature(verb)
    own = [
        p
        for p in signature.parameters.values()
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    options = [
        # With a Problem there are none.
        p.replace(default=None) if p.default is inspect.Parameter.empty else p
        for p in _fit_options().values()
    ]
    shown = signature.replace(parameters=[*own, *options])
    verb.__signature__ = shown  # type: ignore[attr-defined]
    return verb


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
    known = list(_fit_options())
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
    options = dict(options)
    named = _hyperparameters(options.pop("hyperparameters", None))
    x, y, sample_weight = data
    return from_model(
        model_or_problem,
        x,
        y,
        sample_weight,
        seed=seed,
        hyperparameters=named,
        **options,
    )


def _hyperparameters(given: Any) -> Any:
    if given is None:
        raise ValueError(
            "`hyperparameters` is missing. Name what to tune, such as "
            '["optimizer.learning_rate"]; hg.tunables(model) lists what there is.'
        )
    if isinstance(given, (str, Mapping)):
        return given
    if not isinstance(given, Iterable):
        raise TypeError(
            "`hyperparameters` must be a dict, path → hg.Float, or a list of paths. "
            f"Received: {given!r}. Write for instance "
            '`["optimizer.learning_rate"]`; hg.tunables(model) lists what there is.'
        )
    return list(given)  # it is read more than once


def checked_method(method: Any) -> AbstractMethod:
    """The method; None is ``Reverse()``."""
    if method is None:
        return Reverse()
    if isinstance(method, AbstractMethod):
        return method
    fix = ""
    if isinstance(method, type) and issubclass(method, AbstractMethod):
        fix = f" Write {method.__name__}(): a method is an object."
    raise TypeError(
        "`method` must be a method such as hg.Reverse(), or None for that one. "
        f"Received: {method!r}.{fix}"
    )


def checked_seed(seed: Any) -> int:
    return checked_whole("seed", seed, 0, "Pass for instance `seed=0`.")


def split_callbacks(callbacks: Any) -> tuple[Any, tuple]:
    """(what a tune tells, callbacks of Keras for the training at its end)."""
    if not isinstance(callbacks, (list, tuple)):
        return callbacks, ()
    kind = keras.callbacks.Callback
    of_keras = tuple(c for c in callbacks if isinstance(c, kind))
    return [c for c in callbacks if not isinstance(c, kind)], of_keras


def told_by(
    callbacks: Any, verbose: int | str, patience: int | None = None
) -> list[Callback]:
    """Everything that is told of a tune or a search, in order."""
    told: list[Callback] = []
    if verbose not in (0, False):
        told.append(ProgressBar(1 if verbose is True else verbose))
    if patience is not None:
        told.append(EarlyStopping(patience))
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(
            "`callbacks` must be a list of hg.callbacks.Callback. Received: "
            f"{callbacks!r}. Write for instance `callbacks=[…]`."
        )
    for callback in callbacks:
        if not isinstance(callback, Callback):
            fix = "Subclass hg.callbacks.Callback"
            if isinstance(callback, type) and issubclass(callback, Callback):
                fix = f"Write {callback.__name__}()"
            elif isinstance(callback, keras.callbacks.Callback):
                fix = (
                    "A Keras callback follows the epochs of one training; subclass "
                    "hg.callbacks.Callback"
                )
            raise TypeError(
                "`callbacks` must hold objects of hg.callbacks.Callback. Received: "
                f"{callback!r}. {fix}."
            )
        _check_events(callback)
        told.append(callback)
    return told


def _check_events(callback: Callback) -> None:
    """Refuses methods that are called like events and are none."""
    known = [name for name in dir(Callback) if name.startswith("on_")]
    for name in dir(callback):
        if name.startswith("on_") and name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"{type(callback).__name__} has a method {name!r}, which is never "
                f"called. Expected {', '.join(known)}.{hint} Give what is no event "
                "another name."
            )


def start_of(problem: Problem) -> dict[str, np.ndarray]:
    """The user's start: the defaults, the middle of the range where there is none."""
    return problem.values({n: float_.start() for n, float_ in problem.space.items()})
