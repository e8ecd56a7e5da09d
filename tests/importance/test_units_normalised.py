"""The stream of a transformer: measured with normalisations scaled back and layers refitted."""

import numpy as np
from measured_groups import measured_groups

from onnxprune.importance.sensitivity import measure_sensitivities
from onnxprune.importance.units_dropped import dropped_unit


def test_layers_behind_a_normalisation_are_refitted():
    """Half of the channels cost less than where they just go, in both ways to normalise."""
    found = measured_groups("layer_normalised")
    streams = [g for g, own in enumerate(found.analysis.readers) if not own.complete]
    assert len(streams) == 2
    pairs = zip(found.analysis.groups, found.scores, strict=True)
    units = [dropped_unit(found.analysis, group, scores) for group, scores in pairs]
    dropped = measure_sensitivities(found.analysis, units, found.data)
    for g in streams:
        row, half = found.table[g], found.analysis.groups[g].channels // 2
        assert row.errors[-1] == 0 and (np.diff(row.errors) <= 0).all()
        assert 0 < row.errors[half] < dropped[g].errors[half]
        assert {layer.weight.name for layer in found.units[g].layers} <= set(found.units[g].changed)
