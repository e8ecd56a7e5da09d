"""Statistics estimated from BatchNormalization parameters, and what they make up for."""

import numpy as np
import pytest
from networks import NETWORKS, Net
from normalised_networks import normalised, outputs
from present import present

from onnxprune import ops
from onnxprune.calibration.estimated_statistics import estimate_statistics
from onnxprune.compensation.data_free import (
    as_activation_statistics,
    fold,
    linear_prediction,
    merge_weights,
)
from onnxprune.groups.analysis import analyze
from onnxprune.importance.criteria import scores_of
from onnxprune.importance.group_weights import weights_of
from onnxprune.ir.patch import patch
from onnxprune.ir.zero_biases import biased
from onnxprune.surgery.plan import kept_channels, plan_of
from onnxprune.surgery.rewrite import rewrite


def test_a_prediction_is_the_regression_on_what_stays():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5000, 6)) @ rng.standard_normal((6, 6))
    kept, gone = np.array([0, 2, 3, 5]), np.array([1, 4])
    x -= x.mean(0)
    expected = np.linalg.lstsq(x[:, kept], x[:, gone], rcond=None)[0]
    got = linear_prediction(np.cov(x.T, bias=True), kept, gone, 1e-12)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_multiple_of_a_filter_merges_into_it():
    rows = np.array([[1.0, 2, -1], [2, 4, -2], [0, 1, 2], [-1, -2, 1]])
    merged = merge_weights(rows, np.array([0, 2]), np.array([1, 3]))
    np.testing.assert_allclose(merged, [[2, 0], [0, 0]])  # the opposite of a filter is not alike


def test_folding_is_closer_than_dropping():
    model, x, _ = normalised()
    analysis = analyze(biased(model, ops.LAYERS))
    (group,) = analysis.groups
    expected = outputs(model, x)
    profiles = as_activation_statistics(
        estimate_statistics(analysis.nodes, analysis.read, analysis.sample)
    )
    kept = [kept_channels(scores_of("variance", weights_of(analysis, 0, None, profiles))[0], 5)]
    plan = plan_of([group], kept)

    def error(patches):
        smaller = rewrite(patch(analysis.model, patches, None), analysis.nodes, plan)
        return float(((outputs(smaller, x) - expected) ** 2).mean())

    patches = fold(analysis, kept)
    weight = present(analysis.nodes[-1].inputs[1]).name
    bias = {n: p for n, p in patches.items() if n != weight}
    means_alone = dict(bias)
    estimate = profiles[present(analysis.nodes[-1].inputs[0]).at(1)]
    taps = present(analysis.read(weight))[:, ~kept[0]].sum((2, 3))
    (name,) = bias
    means_alone[name] = (analysis.read(name) + taps @ estimate.mean[~kept[0]]).astype(np.float32)
    assert error(patches) < 0.5 * error(means_alone)
    assert error(means_alone) < 0.95 * error({})


def test_filters_without_statistics_merge():
    """A copy of a filter, twice as large, goes without loss where its readers get its columns."""
    n = Net(x=("N", 5, 9))
    w = n.rng.standard_normal((6, 5, 3)).astype(np.float32)
    b = n.rng.standard_normal(6).astype(np.float32)
    w[4], b[4] = 2 * w[1], 2 * b[1]
    y = n.relu(n.op("Conv", "x", n.const(w), n.const(b)))
    model = n.model(n.op("Conv", y, n.weight(4, 6, 3), n.weight(4)))
    analysis = analyze(model)
    kept = [np.arange(6) != 4]
    patches = fold(analysis, kept)
    smaller = rewrite(
        patch(analysis.model, patches, None), analysis.nodes, plan_of(analysis.groups, kept)
    )
    x = np.random.default_rng(0).standard_normal((2, 5, 9)).astype(np.float32)
    np.testing.assert_allclose(outputs(smaller, x), outputs(model, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_folds_of_every_network_fit(network):
    """Patches have the shapes and types of what they replace, and say nothing of the kept all."""
    analysis = analyze(biased(NETWORKS[network](), ops.LAYERS))
    whole = [np.ones(group.channels, bool) for group in analysis.groups]
    assert fold(analysis, whole) == {}
    half = [np.arange(group.channels) < max(1, group.channels // 2) for group in analysis.groups]
    for name, values in fold(analysis, half).items():
        stored = present(analysis.read(name))
        assert values.shape == stored.shape and values.dtype == stored.dtype
        assert np.isfinite(values).all()
