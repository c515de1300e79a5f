"""Whether what was tuned on the validation data holds on others."""

from typing import Any

from hypergrad.callbacks import OverfittingError
from hypergrad.outer.held_out import held_out_problem, held_out_score
from hypergrad.result import Result


def raise_if_overfitting(
    result: Result, test_data: Any = None, *, max_gap: float = 0.25
) -> float:
    """Raises where the tuned training does worse on test data than on validation data.

    Hyperparameters are fitted to the validation data as weights are to the training
    data: with many of them, or few examples, E is too good.

    Args:
        result: of `tune` or `search`, on a compiled model.
        test_data: tuple (x, y) or (x, y, sample_weight); None: what ``test_data=`` of
            the tune has scored.
        max_gap: float ≥ 0, how much larger than E the test loss may be, as a part of E.

    Returns:
        float, ``(test loss − E) / |E|``.

    Raises:
        OverfittingError: the gap is larger, or the test loss not finite.
        ValueError: no test data, or a result that was loaded from a file.

    Cost: none; a run where the tuned state is not in memory any more.

    Example:
        >>> hg.raise_if_overfitting(result, (x_test, y_test))
    """
    if not max_gap >= 0.0:
        raise ValueError(f"`max_gap` must be at least 0. Received: {max_gap!r}.")
    test = _test_loss(result, test_data)
    gap = (test - result.loss) / abs(result.loss)
    if not gap <= max_gap:
        raise OverfittingError(
            f"The test loss is {test:.4g}, the validation loss {result.loss:.4g}: "
            f"{gap:+.0%}, more than max_gap={max_gap:g} allows. Use more validation "
            "data, fewer hyperparameters, or `average=` over several trainings."
        )
    return gap


def _test_loss(result: Result, test_data: Any) -> float:
    if test_data is None:
        if result.test is None:
            raise ValueError(
                "There are no test data: pass `test_data=(x, y)` here or to `tune`."
            )
        return float(result.test["tuned"]["loss"])
    if result.origin is None:
        raise ValueError(
            "A result that was loaded from a file has no problem to score other data "
            "with. Pass `test_data=` to `tune`, whose score is kept in the file."
        )
    problem = held_out_problem(result.origin.problem, test_data)
    values = problem.values(result.values)
    return float(held_out_score(problem, values, result.origin.final())["loss"])
