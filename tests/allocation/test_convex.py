"""The lower convex hull of a unit's errors."""

import numpy as np
import pytest

from onnxprune.allocation.convex import convex
from onnxprune.groups.units import Row, Unit


def row(levels, errors) -> Row:
    return Row(Unit("w", "numbers", np.array(levels, float)), np.array(errors, float))


def test_levels_above_the_hull_are_not_worth_it():
    found = convex(row([0, 1, 2, 3, 4], [10, 9, 3, 2.5, 0]))
    assert found.unit.levels.tolist() == [0, 2, 4]
    assert found.errors.tolist() == [10, 3, 0]


@pytest.mark.parametrize("seed", range(20))
def test_no_level_lies_below_the_hull_and_slopes_fall(seed: int):
    rng = np.random.default_rng(seed)
    levels = np.unique(rng.integers(0, 1000, 30))
    whole = row(levels, np.sort(rng.random(len(levels)) ** 3)[::-1])
    hull = convex(whole)
    assert hull.unit.levels[0] == levels[0] and hull.unit.levels[-1] == levels[-1]
    below = np.interp(levels, hull.unit.levels, hull.errors)
    assert (whole.errors >= below - 1e-12).all()
    assert (np.diff(np.diff(hull.errors) / np.diff(hull.unit.levels)) > -1e-15).all()


def test_one_level_is_its_own_hull():
    assert convex(row([5], [0])).unit.levels.tolist() == [5]
