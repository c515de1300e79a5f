"""What became of a run: failure is data."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Status:
    """Whether a run ended in finite numbers, and where it first did not.

    ``ok``: bool. ``reason``: one sentence, "" where all is well. ``step``: the first
    step (counted from 0) after which something is not finite, or None. ``variable``:
    the path of the first variable that is not, or "training loss", "validation loss",
    "hypergradient".
    """

    ok: bool = True
    reason: str = ""
    step: int | None = None
    variable: str | None = None

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return "ok" if self.ok else self.reason


class NonFiniteError(ArithmeticError):
    """Raised instead of a `Status` where ``raise_on_failure=True``."""
