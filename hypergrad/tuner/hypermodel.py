"""A model that depends on hyperparameters: a function, or an object with ``build``."""

from collections.abc import Callable
from typing import Any

from hypergrad.tuner.errors import FatalValueError


class HyperModel:
    """A space of models; override ``build``, and ``fit`` where training is your own.

    Args:
        name: str or None.
        tunable: False: what ``build`` asks for is not added to the space of a search.

    Example:
        >>> class MyHyperModel(hg.HyperModel):
        ...     def build(self, hp):
        ...         units = hp.Int("units", 32, 512, step=32)
        ...         model = keras.Sequential([keras.layers.Dense(units), ...])
        ...         model.compile(optimizer="adam", loss="mse")
        ...         return model
    """

    def __init__(self, name: str | None = None, tunable: bool = True):
        self.name = name
        self.tunable = tunable

    def build(self, hp: Any) -> Any:
        """A compiled model at the values of ``hp``."""
        raise NotImplementedError(
            f"{type(self).__name__} has no `build(hp)`. Define it; it returns a "
            "compiled keras.Model."
        )

    def declare_hyperparameters(self, hp: Any) -> None:
        """Asked once before anything is built; for names that others depend on."""

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Trains a model; what ``search`` was given, with the tuner's callbacks added.

        Returns:
            ``keras.callbacks.History``, a number to minimise, or a dict of metrics
            with the objective among them.
        """
        return model.fit(*args, **kwargs)


class Built(HyperModel):
    """A `HyperModel` of a function (hp) → model."""

    def __init__(self, function: Callable[[Any], Any]):
        super().__init__(name=getattr(function, "__name__", None))
        self.function = function

    def build(self, hp: Any) -> Any:
        return self.function(hp)


def hypermodel_of(given: Any) -> Any:
    """An object with ``build(hp)`` and ``fit(hp, model, …)``; None is left as it is.

    A ``keras_tuner.HyperModel`` is one.
    """
    if given is None or (hasattr(given, "build") and hasattr(given, "fit")):
        if not isinstance(given, type):
            return given
    if callable(getattr(given, "build", None)) and not isinstance(given, type):
        return _with_fit(given)
    if callable(given) and not isinstance(given, type):
        return Built(given)
    raise FatalValueError(
        "`hypermodel` must be a function build_model(hp) that returns a compiled "
        "keras.Model, or an object with `build(hp)`, such as a hypergrad.HyperModel. "
        f"Received: {given!r}."
    )


def trains_itself(hypermodel: Any) -> bool:
    """Whether the training is the user's own: a ``fit`` other than ``model.fit``."""
    own = getattr(type(hypermodel), "fit", None)
    if own is HyperModel.fit:
        return False
    base = next(
        (c for c in type(hypermodel).__mro__ if c.__module__.startswith("keras_tuner")),
        None,
    )
    return base is None or own is not getattr(base, "fit", None)


def built_at(hypermodel: Any, hp: Any) -> Any:
    """The model at the values of ``hp``, which gains the entries it asks for."""
    if getattr(hypermodel, "tunable", True):
        return hypermodel.build(hp)
    return hypermodel.build(hp.copy())


def _with_fit(given: Any) -> HyperModel:
    model = Built(given.build)
    model.name = type(given).__name__
    return model
