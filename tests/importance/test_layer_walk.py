"""What layers read, measured a few layers at a time."""

import numpy as np
import pytest
from networks import NETWORKS, Net, samples_of

from onnxprune.calibration.moments import Statistics
from onnxprune.calibration.samples import calibration
from onnxprune.groups.analysis import analyze
from onnxprune.importance import layer_walk
from onnxprune.importance.layer_walk import LayerWalk
from onnxprune.settings import Settings


def walked(model, together: int, monkeypatch):
    monkeypatch.setattr(layer_walk, "LAYERS", together)
    analysis = analyze(model)
    feeds = samples_of(model, np.random.default_rng(4))
    data = calibration(feeds, model, Settings(), analysis.nodes)
    walk = LayerWalk(analysis, analysis.layers, data)
    assert max(map(len, walk.steps)) <= together
    found = dict[str, Statistics]()
    for step in walk.steps:
        found |= walk.advance(step)
    return found


def any_size():
    n = Net(x=("N", 3, "H", "W"))
    y = n.relu(n.conv(n.relu(n.conv("x", 3, 8)), 8, 6))
    return n.model(n.op("GlobalAveragePool", y))


@pytest.mark.parametrize("name", ["residual_spine", "vision_transformer", "any_size"])
def test_layers_together_give_what_each_alone_gives(monkeypatch, name: str):
    model = {**NETWORKS, "any_size": any_size}[name]()
    alone, together = (walked(model, count, monkeypatch) for count in (1, 8))
    assert list(alone) == list(together) and len(alone) > 1
    for key, one in alone.items():
        other = together[key]
        assert one.count == other.count
        scale = np.abs(one.cov).max()
        np.testing.assert_allclose(one.cov, other.cov, atol=1e-4 * scale)
        np.testing.assert_allclose(one.mean_x, other.mean_x, atol=1e-4 * scale**0.5)


def test_wide_layers_are_measured_alone(monkeypatch):
    monkeypatch.setattr(layer_walk, "NUMBERS", 1)
    analysis = analyze(NETWORKS["chain"]())
    feeds = samples_of(analysis.original, np.random.default_rng(0))
    data = calibration(feeds, analysis.original, Settings(), analysis.nodes)
    assert all(len(step) == 1 for step in LayerWalk(analysis, analysis.layers, data).steps)
