"""Groups as they are to be cut, with the scores of their channels."""

import numpy as np
from networks import NETWORKS

from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import analyze
from onnxprune.groups.head_units import single_units
from onnxprune.importance.criteria import scores_of
from onnxprune.importance.group_weights import weights_of
from onnxprune.importance.ranking import rank, rank_on_samples
from onnxprune.settings import Settings


def test_plain_groups_stay_as_they_are():
    analysis = analyze(NETWORKS["chain"]())
    ranked, scores = rank(analysis, "l2", 0)
    expected = scores_of("l2", weights_of(analysis, 0))
    for own, other in zip(scores, expected, strict=True):
        np.testing.assert_array_equal(own, other)
    assert [g.name for g in ranked.groups] == [g.name for g in analysis.groups]


def test_heads_put_their_best_units_first():
    analysis = analyze(NETWORKS["vision_transformer"]())
    ranked, scores = rank(analysis, "l2", 0)
    several = [g for g, group in enumerate(analysis.groups) if group.heads > 1]
    assert several
    for g in several:
        before, after = analysis.groups[g], ranked.groups[g]
        (units,) = scores_of("l2", weights_of(analysis, 0, [single_units(before)]))
        table = units.reshape(before.channels, before.heads)
        np.testing.assert_allclose(scores[g], np.sort(table, axis=0)[::-1].mean(1))
        assert (np.diff(scores[g]) <= 0).all()
        for old, new in zip(before.sites, after.sites, strict=True):
            assert np.array_equal(np.sort(old.positions, None), np.sort(new.positions, None))


def test_a_criterion_that_needs_samples_gets_them():
    model = NETWORKS["chain"]()
    analysis = analyze(model)
    data = calibration("random", model, Settings(calib_samples=8), analysis.nodes)
    _, scores = rank_on_samples(analysis, data, Settings(importance="wanda"))
    _, plain = rank_on_samples(analysis, data, Settings(importance="l2"))
    assert all((own >= 0).all() for own in scores)
    assert not np.allclose(scores[0] / scores[0].mean(), plain[0] / plain[0].mean())
