"""What a target is: a number inside a compiled model, and how it is written to."""

from dataclasses import dataclass
from typing import Any, Literal

# How a value enters user code while tracing.
#   tensor: as it is.  traced: as a `Traced`, which answers Python comparisons.
#   twin: as a tensor, with the layer's `call` replaced by one that accepts it.
#   unknown: a user's own class, to be settled by `settle`; written as a tensor before.
#   weight: as the weight of one compiled loss, or of all of them.
#   rule: not injected, the rule takes it as a hyperparameter (as a `Traced` where the
#   form of an optimizer's number is "traced").
Form = Literal["tensor", "traced", "twin", "unknown", "weight", "rule"]

# Numbers of "loss" and "data" targets are tuned in the training loss only. A
# "variable" is a non-trainable one that stays as it is in training; "initial" and
# "scale" are read once, before the first step.
Kind = Literal[
    "optimizer",
    "loss",
    "layer",
    "regularizer",
    "constraint",
    "model",
    "structure",
    "data",
    "variable",
    "initial",
    "scale",
]


@dataclass(frozen=True, eq=False)
class Target:
    """A number inside a compiled model that has a path.

    Args:
        path: canonical path, ``dense.kernel_regularizer.l2``.
        kind: what part of the model holds it.
        owner: the object, or the dict, that holds it.
        attribute: its name in ``owner.__dict__``, or its key in the dict.
        value: what the compiled model holds, a float or an array; for targets that are
            not differentiable whatever is there.
        reason: None when it is differentiable, else why not and what to use instead.
        form: how `inject` writes it.
        aliases: further paths of the same place (a shared regularizer or layer).
        listed: whether `tunables` shows it and wildcards match it.
        idle: refused because it has no effect; wildcards pass over it.
    """

    path: str
    kind: Kind
    owner: Any
    attribute: str
    value: Any
    reason: str | None = None
    form: Form = "tensor"
    aliases: tuple[str, ...] = ()
    listed: bool = True
    idle: bool = False

    @property
    def rule_name(self) -> str:
        """What the rule calls a number of the optimizer: ``learning_rate.alpha``."""
        return self.path.removeprefix("optimizer.")

    @property
    def range_name(self) -> str:
        """Its row among the default ranges."""
        if self.kind in ("initial", "scale"):
            return f"{self.kind}.*"
        if self.kind == "data":
            return ".".join(self.path.split(".")[:2])
        if self.path.startswith("loss_weights"):
            return "loss_weights"
        return self.path.rpartition(".")[2]

    @property
    def per_example(self) -> bool:
        """Whether a step sees the rows of its batch only."""
        return self.kind == "data" and self.range_name != "data.class_weight"

    @property
    def injected(self) -> bool:
        """Whether `inject` writes it into an object of the model."""
        return self.kind not in ("optimizer", "data", "variable", "initial", "scale")

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path, *self.aliases)
