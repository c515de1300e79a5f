"""Which states are kept: few, and no unit runs more often than it must."""

import functools
import math

import pytest

from hypergrad.methods.checkpoints import Checkpoints, advance, layout
from hypergrad.methods.storage import OnDevice


@functools.cache
def least_runs(units: int, places: int) -> float:
    """Units run forwards until all are swept, the best of all layouts, by search."""
    if units == 1:
        return 0
    if places == 1:
        return units * (units - 1) / 2
    return min(
        m + least_runs(m, places) + least_runs(units - m, places - 1)
        for m in range(1, units)
    )


def counted(units: int, places: int) -> tuple[int, int]:
    """(units run forwards, most states held) of a whole run and sweep."""
    storage = OnDevice()
    checkpoints = Checkpoints(range(units), places, storage)
    runs, most = 0, 0

    def run(unit: int, state: int) -> int:
        nonlocal runs, most
        assert state == unit
        runs += 1
        return state + 1

    state = 0
    for unit in range(units - 1):
        checkpoints.offer(unit, state)
        state = run(unit, state)
        most = max(most, len(storage._states))
    checkpoints.offer(units - 1, state)
    for unit in reversed(range(units - 1)):  # the last state is at hand
        assert checkpoints.take(unit, run) == unit
        most = max(most, len(storage._states))
    return runs, most


@pytest.mark.parametrize("units", [1, 2, 3, 7, 12, 20])
@pytest.mark.parametrize("places", [1, 2, 3, 5, 20])
def test_no_layout_runs_fewer_units(units: int, places: int) -> None:
    runs, most = counted(units, places)
    assert runs == least_runs(units, places)
    assert most <= places


def test_many_units_in_few_places() -> None:
    """C(c + r, c) units are swept while none runs more than r times."""
    places, repeats = 6, 4
    units = math.comb(places + repeats, places)
    runs, most = counted(units, places)
    expected = repeats * units - math.comb(places + repeats, places + 1)
    assert runs == expected
    assert most == places


def test_a_place_for_every_unit() -> None:
    assert layout(0, 5, 5) == [1, 2, 3, 4]
    assert layout(3, 4, 1) == []
    assert advance(10, 10) == 1


def test_taking_again_from_the_beginning() -> None:
    checkpoints = Checkpoints(range(6), 3, OnDevice())
    checkpoints.offer(0, 0)
    for _ in range(2):
        for unit in reversed(range(6)):
            assert checkpoints.take(unit, lambda unit, state: state + 1) == unit
