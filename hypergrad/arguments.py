"""Arguments that are whole numbers."""

from typing import Any

import numpy as np


def checked_whole(name: str, value: Any, least: int = 1, hint: str = "") -> int:
    """The integer; NumPy's count, booleans do not.

    Args:
        name: how the user writes it, such as ``Growing(first=…)``.
        value: what was given.
        least: int, the smallest that is allowed.
        hint: a sentence more.

    Raises:
        ValueError: anything else.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: {value!r}."
            + (f" {hint}" if hint else "")
        )
    return int(value)
