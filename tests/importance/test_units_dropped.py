"""Channels that just go, by their scores."""

import numpy as np
from measured_groups import measured_groups

from onnxprune.importance.units_dropped import dropped_unit


def test_what_cannot_be_refitted_goes_by_its_scores():
    found = measured_groups("lstm")
    dropped = [g for g, own in enumerate(found.analysis.readers) if not own.complete]
    assert dropped
    for g in dropped:
        expected = np.argsort(-found.scores[g], kind="stable")
        np.testing.assert_array_equal(found.table[g].ranking, expected)


def test_the_layer_error_is_the_share_of_the_scores_that_goes():
    found = measured_groups("lstm")
    group = found.analysis.groups[0]
    scores = np.arange(1.0, group.channels + 1)
    errors = dropped_unit(found.analysis, group, scores).respond({}).errors
    assert errors[-1] == 0 and errors[0] == 1.0
    assert errors[-2] == 1 / scores.sum() and (np.diff(errors) < 0).all()


def test_weights_of_gone_channels_are_zero():
    found = measured_groups("chain")
    group, analysis = found.analysis.groups[0], found.analysis
    scores = np.arange(float(group.channels))
    changed = dropped_unit(analysis, group, scores).respond({}).weights(group.channels - 2)
    weight = changed[group.name.partition("#")[0]]
    assert not weight[:2].any() and weight[2:].any()
