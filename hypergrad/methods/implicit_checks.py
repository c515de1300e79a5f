"""What `Implicit` refuses: numbers that no solution of training depends on."""

from typing import Any

from hypergrad.bound import bind_values
from hypergrad.problem import Problem
from hypergrad.rules import FromKeras, FromOptax

DECAYS = (
    "weight_decay",
    "adam_weight_decay",
    "l1_regularization_strength",
    "l2_regularization_strength",
    "l2_shrinkage_regularization_strength",
)
"""Numbers of Keras' optimizers that move the fixed point of a training step."""

PACE = ("learning_rate", "momentum", "beta_1", "beta_2", "rho", "ema_momentum")
"""Numbers that say how training gets there; of a user's own optimizer the others may
be of either kind."""

NO_INFLUENCE = (
    "has no influence on the stationary point of the training loss, so that the "
    "implicit hypergradient is zero."
)


def check_problem(problem: Problem) -> None:
    """Raises where there is no training loss to take second derivatives of."""
    if problem.step is not None:
        raise ValueError(
            "Implicit needs the training loss, expected a Problem with `train_loss` "
            "and `update`. Received: one with an opaque `step`. Use Reverse(), or give "
            "the two functions."
        )


def check_numbers(problem: Problem, of_step: bool) -> None:
    """Raises where a hyperparameter cannot have an implicit hypergradient.

    ``of_step``: whether the fixed point of the training step is differentiated, and not
    the stationary point of the training loss.
    """
    if problem.keras is not None:
        check_step(problem, of_step)
        for path, target in problem.keras.tuned.targets.items():
            reason = _refusal(problem, path, target, of_step)
            if reason is not None:
                raise ValueError(reason)
    names = problem.remember("numbers per step", lambda: _per_step(problem))
    if names:
        raise ValueError(
            f"Implicit differentiates at the last state only. Received: {names[0]!r} "
            "with a value for each step, of which no other than the last acts there. "
            "Use Reverse() or Truncated(), or tune one value for all steps."
        )


def check_step(problem: Problem, of_step: bool) -> None:
    """Raises where a training step is no map that could have a fixed point."""
    steps = problem.keras.model.optimizer.gradient_accumulation_steps
    if of_step and steps is not None and steps > 1:
        raise ValueError(
            "FixedPoint differentiates one training step, expected that each moves the "
            f"weights. Received: gradient_accumulation_steps={steps}. Use "
            "Implicit(CG()), or Reverse()."
        )


def _per_step(problem: Problem) -> list[str]:
    if problem.bind is None:
        return []
    return list(bind_values(problem, problem.values()).per_step)


def _refusal(problem: Problem, path: str, target: Any, of_step: bool) -> str | None:
    if target.kind in ("initial", "scale"):
        return f"`{path}` {NO_INFLUENCE} Use Reverse()."
    if target.kind != "optimizer":
        return None
    name = target.rule_name
    if of_step and _moves_the_fixed_point(problem, name):
        return None
    if name in DECAYS and not of_step:
        return (
            f"`{path}` is decoupled from the training loss: it {NO_INFLUENCE} Tune "
            "`<layer>.kernel_regularizer.l2` instead, or use Implicit(FixedPoint(…)) "
            "or Reverse()."
        )
    return f"`{path}` {NO_INFLUENCE} Use Reverse() or Truncated()."


def _moves_the_fixed_point(problem: Problem, name: str) -> bool:
    if isinstance(problem.keras.rule, (FromKeras, FromOptax)):
        return name.split(".")[0] not in PACE
    return name in DECAYS
