"""The width of queries and keys: what stays is mixed from all."""

import numpy as np
import pytest
from measured_groups import measured_groups

from onnxprune.compensation import query_key


@pytest.fixture(scope="module")
def towers():
    return measured_groups("clip_towers")


def test_widths_have_no_order_of_channels(towers):
    pairs = query_key.pairs_of(towers.analysis, towers.analysis.layers)
    assert pairs
    for g in pairs:
        unit, row = towers.units[g], towers.table[g]
        assert {side.layer.weight.name for side in pairs[g].sides} <= set(unit.changed)
        assert not unit.unit.along
        np.testing.assert_array_equal(row.ranking, np.arange(row.group.channels))


def test_both_sides_change_and_only_the_first_dimensions_stay(towers):
    pairs = query_key.pairs_of(towers.analysis, towers.analysis.layers)
    g, pair = next(iter(pairs.items()))
    response = towers.units[g].respond({})
    half = towers.analysis.groups[g].channels // 2
    changed = response.weights(half)
    names = {side.layer.weight.name for side in pair.sides}
    assert names <= changed.keys()
    for side in pair.sides:
        matrix = side.layer.matrix(changed[side.layer.weight.name])
        for head in side.columns.T:
            assert not matrix[:, head[half:]].any() and matrix[:, head[:half]].any()


def test_all_dimensions_give_the_same_products(towers):
    pairs = query_key.pairs_of(towers.analysis, towers.analysis.layers)
    for g in pairs:
        n = towers.analysis.groups[g].channels
        errors = towers.units[g].respond({}).errors
        assert errors[n] == 0 and errors[0] == pytest.approx(1.0)
