"""How each kind of group is measured."""

import numpy as np
import pytest
from networks import NETWORKS, samples_of

from onnxprune.calibration.samples import calibration
from onnxprune.compensation import query_key
from onnxprune.groups.analysis import analyze
from onnxprune.importance.channels import WIDTHS, best_channels, widths_measured
from onnxprune.importance.ranking import rank
from onnxprune.importance.sensitivity import measure_sensitivities
from onnxprune.importance.units_channels import channel_units
from onnxprune.importance.units_dropped import dropped_unit
from onnxprune.settings import Settings


def measured(name: str):
    model = NETWORKS[name]()
    analysis = analyze(model)
    feeds = samples_of(model, np.random.default_rng(4))
    data = calibration(feeds, model, Settings(), analysis.nodes)
    analysis, scores = rank(analysis, "l2", 0)
    units = channel_units(analysis, scores, data)
    return analysis, scores, units, measure_sensitivities(analysis, units, data)


@pytest.mark.parametrize("name", ["chain", "residual_spine", "vision_transformer", "lstm", "llama"])
def test_every_group_has_a_row_of_all_widths(name: str):
    analysis, _, units, table = measured(name)
    blocks = analysis.blocks
    for g, (group, unit, row) in enumerate(zip(analysis.groups, units, table, strict=True)):
        assert unit.unit.name == row.group.name == group.name
        assert unit.runs == len(WIDTHS)
        assert row.errors.shape == (group.channels + 1,) and row.errors[-1] == 0
        assert (np.diff(row.errors) <= 0).all()
        assert sorted(row.ranking.tolist()) == list(range(group.channels))
        widths = set(row.measured) - {group.channels}
        assert widths == set(widths_measured(group, bool(unit.unit.along)))
        assert all(isinstance(width, int) for width in row.measured)
        assert (0 in widths) == (bool(unit.unit.along)) and (g in blocks or 0 not in widths)


def test_groups_are_refitted_where_only_layers_read_them():
    analysis, _, units, _ = measured("residual_spine")
    for own, unit in zip(analysis.readers, units, strict=True):
        assert own.complete and unit.layers == own.layers
        assert unit.changed == (own.layers[0] if len(own.layers) == 1 else None)


def test_what_cannot_be_refitted_goes_by_its_scores():
    analysis, scores, units, table = measured("lstm")
    readers = analysis.readers
    dropped = [g for g, own in enumerate(readers) if not own.complete]
    assert dropped
    for g in dropped:
        assert units[g].layers == ()
        np.testing.assert_array_equal(table[g].ranking, np.argsort(-scores[g], kind="stable"))


def test_the_width_of_queries_and_keys_is_mixed():
    analysis, _, units, table = measured("clip_towers")
    pairs = query_key.pairs_of(analysis, analysis.layers)
    assert pairs
    for g in pairs:
        assert units[g].layers == () and not units[g].unit.along
        n = analysis.groups[g].channels
        np.testing.assert_array_equal(table[g].ranking, np.arange(n))
        assert table[g].errors[n // 2] < table[g].errors[0]


def test_a_refitted_cut_loses_less_than_a_dropped_one():
    """The row says what the outputs lose at a width when its readers make up for what goes."""
    analysis, scores, _, table = measured("chain")
    model = analysis.original
    feeds = samples_of(model, np.random.default_rng(4))
    data = calibration(feeds, model, Settings(), analysis.nodes)
    units = [dropped_unit(analysis, g, s) for g, s in zip(analysis.groups, scores, strict=True)]
    for refitted, dropped in zip(table, measure_sensitivities(analysis, units, data), strict=True):
        half = refitted.group.channels // 2
        assert refitted.errors[half] < dropped.errors[half]


def test_the_best_channels_stay():
    _, _, _, table = measured("chain")
    widths = np.array([row.group.channels // 2 for row in table])
    for row, mask, width in zip(table, best_channels(table, widths), widths, strict=True):
        assert set(np.flatnonzero(mask)) == set(row.ranking[:width].tolist())


def test_few_channels_are_measured_once_each():
    groups = analyze(NETWORKS["one_channel"]()).groups
    for group in groups:
        widths = widths_measured(group, to_none=False)
        assert widths == sorted(set(widths), reverse=True)
        assert all(0 < width < group.channels for width in widths)
        assert widths_measured(group, to_none=True)[-1] == 0
