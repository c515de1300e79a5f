"""The numbers of one step, for each variable."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

from keras import ops

from hypergrad.rules.schedules import PREFIX
from hypergrad.traced import Traced

Numbers = Mapping[str, Any]


def scalar(value: Any, dtype: Any) -> Any:
    """A hyperparameter (Python number, tensor, `Traced`) as a tensor of ``dtype``."""
    return ops.convert_to_tensor(
        float(value) if isinstance(value, Real) else value, dtype=dtype
    )


def rank(value: Any) -> int:
    """0 for a number, the number of axes of a tensor."""
    return 0 if isinstance(value, Real) else len(value.shape)


def of_each_variable(hparams: Numbers, count: int) -> list[Numbers]:
    """The numbers as each of ``count`` variables sees them.

    A tensor of rank 1 has one entry for each variable, in their order. Where there is
    none, all share one mapping, so that what is made of it is made once.

    Raises:
        ValueError: a tensor of another shape, or one ``global_clipnorm`` for each
            variable.
    """
    plain = {
        name: value.tensor if isinstance(value, Traced) else value
        for name, value in hparams.items()
        if not name.startswith(PREFIX)  # a schedule's numbers have made the rate
    }
    split = {}
    for name, value in plain.items():
        if rank(value) == 0:
            continue
        if tuple(value.shape) != (count,):
            raise ValueError(
                f"`{name}` must be a number, or a tensor with an entry for each of the "
                f"{count} trainable variables, in order. Received: a tensor of shape "
                f"{tuple(value.shape)}. Pass shape () or ({count},)."
            )
        if name == "global_clipnorm":
            raise ValueError(
                "`global_clipnorm` bounds the norm over all variables, expected one "
                f"number. Received: a tensor of shape {tuple(value.shape)}. Pass a "
                "scalar, or use `clipnorm`, which each variable may have of its own."
            )
        split[name] = ops.unstack(value, num=count, axis=0)
    if not split:
        return [plain] * count
    return [
        {**plain, **{name: entries[i] for name, entries in split.items()}}
        for i in range(count)
    ]


class Once:
    """``make(numbers, dtype)``, made once for all variables that share both."""

    def __init__(self, make: Any):
        self._make = make
        self._made: dict[tuple[int, str], Any] = {}

    def __call__(self, numbers: Numbers, dtype: str) -> Any:
        key = (id(numbers), dtype)
        if key not in self._made:
            self._made[key] = self._make(numbers, dtype)
        return self._made[key]
