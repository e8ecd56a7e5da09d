"""Every group is measured in the way that fits it."""

import numpy as np
import pytest
from measured_groups import measured_groups

from onnxprune.compensation import query_key
from onnxprune.compensation.normalised_energy import norms_of
from onnxprune.importance.measuring_plan import MOST_RUNS


@pytest.mark.parametrize("name", ["chain", "residual_spine", "vision_transformer", "lstm", "llama"])
def test_every_group_has_a_row_of_all_widths(name: str):
    found = measured_groups(name)
    blocks = found.analysis.blocks
    rows = zip(found.analysis.groups, found.units, found.table, strict=True)
    for g, (group, unit, row) in enumerate(rows):
        assert unit.unit.name == row.group.name == group.name
        assert [len(unit.stays(k)) for k in (1, 5)] == sorted(len(unit.stays(k)) for k in (1, 5))
        assert row.errors.shape == (group.channels + 1,) and row.errors[-1] == 0
        assert (np.diff(row.errors) <= 0).all()
        assert sorted(row.ranking.tolist()) == list(range(group.channels))
        widths = set(row.measured) - {group.channels}
        options = [set(unit.stays(runs)) for runs in range(1, MOST_RUNS + 1)]
        assert widths in options and widths <= set(range(group.channels))
        assert all(isinstance(width, int) for width in row.measured)
        assert (0 in widths) == (bool(unit.unit.along)) and (g in blocks or 0 not in widths)


@pytest.mark.parametrize("name", ["residual_spine", "clip_towers", "lstm"])
def test_layers_are_waited_for_where_they_are_all_that_reads(name: str):
    found = measured_groups(name)
    pairs = query_key.pairs_of(found.analysis, found.analysis.layers)
    gammas = {norm.gamma for norm in norms_of(found.analysis)}
    for g, (own, unit) in enumerate(zip(found.analysis.readers, found.units, strict=True)):
        normalised = any(axis in gammas for axis, _ in own.group.axes())
        refitted = (own.complete or normalised) and g not in pairs
        assert unit.layers == (own.layers if refitted else ())
