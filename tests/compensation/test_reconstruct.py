"""Layers refitted behind a cut: closer than dropping, with the channels that matter there."""

import numpy as np
import pytest
from networks import NETWORKS, Net
from present import present
from running import outputs, samples

from onnxprune import ops
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation import reconstruct
from onnxprune.compensation.least_squares import fit_dense
from onnxprune.compensation.reconstruct import compensate
from onnxprune.compensation.teacher import own_teacher
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.layers import Layer
from onnxprune.ir.patch import patch
from onnxprune.ir.zero_biases import biased
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import rewrite


def compensated(analysis: Analysis, feeds, kept, **options):
    data = Calibration((feeds,), (len(next(iter(feeds.values()))),), "", "")
    return compensate(analysis, kept, own_teacher(analysis, data), **options)


def cut(analysis: Analysis, groups, kept, patches=None):
    plan = plan_of(groups, kept)
    return rewrite(patch(analysis.model, patches or {}), analysis.nodes, plan)


@pytest.mark.parametrize("name", ["chain", "residual_spine", "inverted_residual", "dense_concat"])
def test_refitting_is_closer_than_dropping(name: str):
    model = NETWORKS[name]()
    analysis, feeds = analyze(biased(model, ops.LAYERS)), samples(model)
    kept = [np.arange(g.channels) < max(1, round(0.75 * g.channels)) for g in analysis.groups]
    shares: list[float] = []
    made = compensated(analysis, feeds, kept, progress=shares.append)
    assert [mask.sum() for mask in made.kept] == [mask.sum() for mask in kept]
    assert shares == sorted(shares) and shares[-1] == 1
    base = outputs(model, feeds)
    errors = [
        np.square(outputs(small, feeds) - base).mean()
        for small in (
            cut(analysis, made.groups, made.kept, made.patches),
            cut(analysis, analysis.groups, kept),
        )
    ]
    assert errors[0] < 0.7 * errors[1]


def test_nothing_changes_where_nothing_goes():
    model = NETWORKS["chain"]()
    analysis = analyze(biased(model, ops.LAYERS))
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    made = compensated(analysis, samples(model), kept)
    assert made.patches == {} and all(mask.all() for mask in made.kept)


def test_layers_before_the_first_cut_stay():
    model = NETWORKS["chain"]()
    analysis = analyze(biased(model, ops.LAYERS))
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    kept[1][4:] = False
    made = compensated(analysis, samples(model), kept)
    last = analysis.nodes[-1]
    assert set(made.patches) == {present(tensor).name for tensor in last.inputs[1:]}


def repeated():
    """Six channels in pairs of equal filters, read by one convolution."""
    net = Net(x=("N", 3, 8, 8))
    filters = net.rng.standard_normal((3, 3, 3, 3)).astype(np.float32)
    y = net.op("Conv", "x", net.const(filters.repeat(2, 0)), net.const(np.zeros(6, np.float32)))
    reader = net.op("Conv", net.relu(y), net.weight(4, 6, 3, 3), net.weight(4))
    return net.model(reader)


def test_channels_are_selected_where_one_layer_reads_them():
    """One of each pair stays, whatever was marked, and nothing is lost."""
    model = repeated()
    analysis, feeds = analyze(model), samples(model)
    made = compensated(analysis, feeds, [np.arange(6) < 3])
    assert made.kept[0].reshape(3, 2).sum(1).tolist() == [1, 1, 1]
    small = cut(analysis, made.groups, made.kept, made.patches)
    base = outputs(model, feeds)
    np.testing.assert_allclose(outputs(small, feeds), base, atol=0.02 * np.abs(base).max())


def test_marked_channels_stay_where_several_layers_read_them():
    net = Net(x=("N", 3, 8, 8))
    y = net.relu(net.conv("x", 3, 6))
    model = net.model(net.op("Add", net.conv(y, 6, 4), net.conv(y, 6, 4)))
    analysis = analyze(model)
    (mask,) = compensated(analysis, samples(model), [np.arange(6) % 2 == 0]).kept
    assert mask.tolist() == [True, False] * 3


def test_removed_channels_are_zero_before_they_are_cut():
    """Where others than layers read them too, they are zero from the beginning."""
    model = NETWORKS["residual_spine"]()
    analysis = analyze(biased(model, ops.LAYERS))
    kept = [np.arange(g.channels) < g.channels // 2 for g in analysis.groups]
    made = compensated(analysis, samples(model), kept)
    whole = patch(analysis.model, made.patches)
    small = cut(analysis, made.groups, made.kept, made.patches)
    feeds = samples(model)
    np.testing.assert_allclose(outputs(whole, feeds), outputs(small, feeds), atol=1e-4)


def test_a_layer_that_cannot_be_fitted_keeps_its_weights(monkeypatch):
    """The others are refitted, and the cut is as exact as ever."""
    model = NETWORKS["residual_spine"]()
    analysis, feeds = analyze(biased(model, ops.LAYERS)), samples(model)
    kept = [np.arange(g.channels) < g.channels // 2 for g in analysis.groups]
    whole = compensated(analysis, feeds, kept)
    widths = [_outputs(layer) for layer in analysis.layers]
    width = next(w for w in widths if 0 < widths.count(w) < len(widths))

    def failing(moments, weight, columns):
        if weight.shape[1] == width:
            raise np.linalg.LinAlgError("singular")
        return fit_dense(moments, weight, columns)

    monkeypatch.setattr(reconstruct, "fit_dense", failing)
    made = compensated(analysis, feeds, kept)
    layers = {layer.node.outputs[0].name: layer for layer in analysis.layers}
    lost = {name for name in whole.refitted if _outputs(layers[name]) == width}
    assert made.failed == dict.fromkeys(lost, "singular") and lost
    assert made.refitted == whole.refitted - lost and made.refitted
    names = {layers[name].weight.name for name in lost}
    assert names.isdisjoint(made.patches)
    assert np.isfinite(outputs(cut(analysis, made.groups, made.kept, made.patches), feeds)).all()


def _outputs(layer: Layer) -> int:
    return present(layer.weight.sample)[0]


def test_what_nothing_before_changed_is_not_looked_at():
    """Of two branches one is cut: layers of the other keep their weights and are not refitted."""
    net = Net(x=("N", 3, 8, 8))
    one, two = (net.conv(net.relu(net.conv("x", 3, 6)), 6, 4) for _ in range(2))
    model = net.model(net.op("Concat", one, two, axis=1))
    analysis = analyze(biased(model, ops.LAYERS))
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    cut_one = next(g for g, own in enumerate(analysis.readers) if own.complete)
    kept[cut_one][3:] = False
    made = compensated(analysis, samples(model), kept)
    readers = {layer.node.outputs[0].name for layer in analysis.readers[cut_one].layers}
    assert made.refitted == readers and len(readers) == 1
