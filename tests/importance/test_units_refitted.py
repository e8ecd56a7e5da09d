"""Channels that are refitted: ranked by elimination, and measured with what makes up for them."""

import numpy as np
from measured_groups import measured_groups
from present import present

from onnxprune.importance.layer_walk import LayerWalk
from onnxprune.importance.sensitivity import measure_sensitivities
from onnxprune.importance.units_dropped import dropped_unit
from onnxprune.importance.units_refitted import refitted_unit


def test_the_weights_of_all_readers_change():
    found = measured_groups("residual_spine")
    for own, unit in zip(found.analysis.readers, found.units, strict=True):
        assert own.complete
        assert list(unit.changed) == [layer.weight.name for layer in own.layers]


def test_a_refitted_cut_loses_less_than_a_dropped_one():
    found = measured_groups("chain")
    pairs = zip(found.analysis.groups, found.scores, strict=True)
    units = [dropped_unit(found.analysis, group, scores) for group, scores in pairs]
    dropped = measure_sensitivities(found.analysis, units, found.data)
    for row, other in zip(found.table, dropped, strict=True):
        half = row.group.channels // 2
        assert 0 < row.errors[half] < other.errors[half]


def test_with_a_block_none_is_a_level_that_is_measured():
    found = measured_groups("residual_spine")
    (root, block), *_ = found.analysis.blocks.items()
    own = found.analysis.readers[root]
    with_block = refitted_unit(found.analysis, own, block.inside)
    without = refitted_unit(found.analysis, own, ())
    assert all(with_block.stays(k) == [*without.stays(k), 0] for k in (1, 5))
    one, other = measure_sensitivities(found.analysis, [with_block, without], found.data)
    assert 0 in one.measured and 0 not in other.measured
    least = min(other.measured)
    np.testing.assert_allclose(one.errors[least:], other.errors[least:], rtol=1e-6)


def test_weights_of_gone_channels_are_zero_and_the_others_move():
    found = measured_groups("chain")
    analysis = found.analysis
    (unit,) = [unit for unit, own in zip(found.units, analysis.readers, strict=True)
               if own.layers[0].data.name == present(analysis.nodes[2].inputs[0]).name]  # fmt: skip
    layer = unit.layers[0]
    row = found.table[found.units.index(unit)]
    stored = present(analysis.read(layer.weight.name))
    walk = LayerWalk(analysis, [layer], found.data)
    response = unit.respond(walk.advance(walk.steps[0]))
    new = response.weights(8)[layer.weight.name]
    gone = row.ranking[8:]
    assert not new[:, gone].any() and new[:, row.ranking[:8]].any()
    assert not np.allclose(new[:, row.ranking[:8]], stored[:, row.ranking[:8]])
