"""The safeguard: a step that makes things worse is taken back and shortened."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class TakeBack:
    """Keeps a step only where E fell and is finite; else tries a shorter one.

    The shorter length is where the parabola through E, its slope, and the rejected E
    has its lowest point, between ``least`` and ``most`` of the rejected length.

    Args:
        least: float in (0, 1); also the factor after a non-finite step.
        most: float in (0, 1).
        rest: float, decades of the longest coordinate below which shortening ends: the
            slope there leads nowhere (E is noisy, or has kinks). Random steps are tried
            instead, each a run without a sweep; from one that is kept the descent
            begins anew. Where there are more than 16 numbers, or one without two ends,
            steps are shortened until ``smallest``.
        probe: float, standard deviation of random steps, in decades; 0: none.
        fade: float in (0, 1], factor on ``probe`` after each that is taken back.
        smallest: float, decades below which the tune ends.
    """

    least: float = 0.2
    most: float = 0.5
    rest: float = 0.03
    probe: float = 0.25
    fade: float = 0.8
    smallest: float = 1e-3

    def keeps(self, before: float, after: float) -> bool:
        return math.isfinite(after) and (after < before or not math.isfinite(before))

    def shorter(
        self, length: float, before: float, after: float, slope: float
    ) -> float:
        """The next length to try; ``slope`` is dE/dlength at 0."""
        if not math.isfinite(after):
            return self.least * length
        bend = 2.0 * (after - before - slope * length)
        best = -slope * length / bend if bend > 0.0 else self.most
        return length * min(max(best, self.least), self.most)
