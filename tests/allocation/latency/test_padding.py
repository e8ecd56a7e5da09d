"""Channels of zeros where they make a model faster."""

from pathlib import Path

import numpy as np
from clock import Clock, widths_of
from networks import Net
from present import present

import onnxprune
from onnxprune.allocation.latency import padding
from onnxprune.groups.analysis import analyze
from onnxprune.settings import Settings


def odd_depthwise():
    """A depthwise layer of 12 channels between others of 16 and 32."""
    n = Net(x=(1, 3, 12, 12))
    y = n.relu(n.conv("x", 3, 12))
    y = n.relu(n.conv(y, 12, 12, group=12))
    y = n.relu(n.conv(y, 12, 32))
    y = n.relu(n.conv(y, 32, 16))
    return n.model(n.op("GlobalAveragePool", n.conv(y, 16, 4)))


def test_zeros_fill_blocks_where_that_is_faster(clock: Clock, tmp_path: Path):
    clock.block, clock.odd = 4, 3.0
    model = odd_depthwise()
    result = onnxprune.prune(model, {"latency": 0.7}, min_channels=12)
    assert clock.ratio(model.SerializeToString(), result.model.SerializeToString()) <= 0.7
    assert any("first 4 channels of zeros in 1 groups" in note for note in result.report.notes)
    assert widths_of(result)[0][0] == 16
    (tmp_path / "plan.json").write_text(result.plan_json)
    again = onnxprune.apply(model, tmp_path / "plan.json")
    shapes = [[list(t.dims) for t in r.model.graph.initializer] for r in (result, again)]
    assert shapes[0] == shapes[1] and [16, 1, 3, 3] in shapes[0]


def test_zeros_alone_reach_a_target(clock: Clock):
    clock.block, clock.odd = 4, 3.0
    model = odd_depthwise()
    result = onnxprune.prune(model, {"latency": 0.98})
    assert all(kept == n for n, kept in widths_of(result))
    assert present(result.report.fidelity).cosine > 1 - 1e-9
    assert result.report.after.macs > result.report.before.macs
    assert widths_of(result)[0][0] == 12  # no further stage, whose model has 16


def test_no_zeros_where_they_gain_nothing(clock: Clock):
    result = onnxprune.prune(odd_depthwise(), {"latency": 0.8})
    assert not any("zeros" in note for note in result.report.notes)
    assert widths_of(result)[0][0] == 12


def test_zeros_in_what_divides_are_ones_again(clock: Clock):
    clock.block, clock.odd = 4, 3.0
    n = Net(x=(1, 3, 12, 12))
    y = n.op("Div", n.conv("x", 3, 12), n.weight(12, 1, 1))
    y = n.bn(n.conv(n.relu(y), 12, 12, group=12), 12)
    model = n.model(n.conv(n.relu(y), 12, 32))
    analysis = analyze(model, Settings())
    stage = padding.filled(analysis, {0: 16}, Settings())
    assert stage.proof.passed and np.isfinite(next(iter(stage.pruned.values()))).all()
