"""Units and their rows: levels on offer, and errors between them."""

import numpy as np
import pytest
from networks import NETWORKS

from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import Row, Unit, channel_rows, channel_unit


def row(along: tuple[int, ...] = ()) -> Row:
    return Row(Unit("u", "channels", np.arange(5), along), np.array([9.0, 4.0, 2.0, 1.0, 0.0]))


def test_levels_on_offer_keep_their_errors():
    offered = row().offering([1, 2, 4])
    assert offered.unit.levels.tolist() == [1, 2, 4] and offered.errors.tolist() == [4, 2, 0]
    assert offered.unit.last == 2 and offered.unit.least == 0
    again = offered.offering(np.array([2, 4]))
    assert again.errors.tolist() == [2, 0]


def test_the_level_that_takes_others_along_stays_on_offer():
    offered = row(along=(0, 3)).offering([2, 4])
    assert offered.unit.levels.tolist() == [0, 2, 4] and offered.errors.tolist() == [9, 2, 0]
    assert offered.unit.least == 1
    alone = offered.alone()
    assert alone.unit.levels.tolist() == [2, 4] and alone.unit.along == ()
    assert row().alone() is not None and row().alone().unit.levels[0] == 0


def test_errors_between_levels_lie_on_the_line():
    assert [row().at(k) for k in range(5)] == [9, 4, 2, 1, 0]
    assert row().at(1.5) == pytest.approx(3.0)


def test_every_width_of_a_group_is_a_level():
    groups = analyze(NETWORKS["chain"]()).groups
    unit = channel_unit(groups[0])
    assert unit.levels.tolist() == list(range(groups[0].channels + 1)) and unit.kind == "channels"
    rows = channel_rows(groups, [np.zeros(g.channels + 1) for g in groups], {1: (0, 1)})
    assert [r.unit.along for r in rows] == [(), (0, 1)]
    assert [r.unit.name for r in rows] == [g.name for g in groups]
