"""The scales of numbers: from [0, 1) to a value and back, with or without steps.

With ``a = min_value``, ``b = max_value`` and a quantile p, as KerasTuner has them:

    linear       v = a + p (b − a)
    log          v = a (b / a)^p
    reverse_log  v = b + a − a (b / a)^(1 − p)

``step`` is added between values on a linear scale and multiplied on the others; then
p falls into one of as many equal parts as there are values.
"""

import math

ROUNDING = 1e-8
"""Of a whole number of steps: 1.0 is five steps of 0.2 above 0."""


def value_at(sampling: str, p: float, low: float, high: float) -> float:
    if sampling == "linear":
        return low + p * (high - low)
    if sampling == "log":
        return low * math.pow(high / low, p)
    return high + low - low * math.pow(high / low, 1.0 - p)


def quantile_of(sampling: str, value: float, low: float, high: float) -> float:
    if high == low:
        return 0.5
    if sampling == "linear":
        return (value - low) / (high - low)
    if sampling == "log":
        return math.log(value / low) / math.log(high / low)
    return 1.0 - math.log((high + low - value) / low) / math.log(high / low)


def number_of_steps(sampling: str, low: float, high: float, step: float) -> int:
    """How many values there are, both ends included."""
    if sampling == "linear":
        return math.floor((high - low) / step + ROUNDING) + 1
    return math.floor(math.log(high / low, step) + ROUNDING) + 1


def value_of_step(
    sampling: str, index: int, low: float, high: float, step: float
) -> float:
    if sampling == "linear":
        return low + index * step
    if sampling == "log":
        return low * math.pow(step, index)
    return high + low - low * math.pow(step, index)


def step_of_value(
    sampling: str, value: float, low: float, high: float, step: float
) -> int:
    """The index of the value that is nearest."""
    if sampling == "linear":
        return round((value - low) / step)
    if sampling == "log":
        return round(math.log(value / low, step))
    return round(math.log((high - value + low) / low, step))


def part_of(p: float, parts: int) -> int:
    """Into which of so many equal parts of [0, 1) a quantile falls."""
    return min(math.floor(p * parts), parts - 1)


def middle_of(part: int, parts: int) -> float:
    return (part + 0.5) / parts
