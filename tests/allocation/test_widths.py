"""Widths by the user's settings, for targets that are counted."""

import numpy as np
import pytest
from networks import NETWORKS, Net

from onnxprune.allocation import widths
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.allocation.widths import widths_for
from onnxprune.errors import InputError, TargetError
from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import channel_rows
from onnxprune.settings import Settings


def wide():
    n = Net(x=(1, 3, 2, 2))
    return analyze(n.model(n.conv(n.relu(n.conv("x", 3, 256, k=1)), 256, 4, k=1)))


@pytest.mark.parametrize("block", [8, 16])
def test_widths_lie_on_the_blocks_of_the_machine(block: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(widths, "kernel_blocks", lambda _device: Blocks(block, block))
    analysis = wide()
    lost = np.arange(256, -1, -1.0)
    wanted = {"macs": 0.6 * analysis.cost.full[0]}
    rows = channel_rows(analysis.groups, [np.minimum(lost, 80)])
    (width,) = widths_for(analysis, rows, wanted, Settings()).tolist()
    assert width == 153 // block * block
    assert widths_for(analysis, rows, wanted, Settings(round_to=1)).tolist() == [153]
    assert widths_for(analysis, rows, wanted, Settings(round_to=10)).tolist() == [150]


def test_a_target_between_the_blocks_is_met_all_the_same():
    analysis = analyze(NETWORKS["chain"]())
    rows = channel_rows(analysis.groups, [np.arange(g.channels, -1, -1.0) for g in analysis.groups])
    none = [np.array([g.channels and 1]) for g in analysis.groups]
    least = analysis.cost.at(np.concatenate(none))[0]
    chosen = widths_for(analysis, rows, {"macs": 1.01 * least}, Settings())
    assert chosen.tolist() == [1] * len(analysis.groups)


def test_blocks_stay_for_a_least_width_and_for_a_ratio():
    analysis = analyze(NETWORKS["residual_spine"]())
    root, block = next(iter(analysis.blocks.items()))
    errors = [np.arange(g.channels, -1, -1.0) for g in analysis.groups]
    errors[root][0] = 0.1  # next to nothing is lost when the block goes
    rows = channel_rows(analysis.groups, errors, {root: block.inside})
    without = analysis.cost.channels.copy()
    without[list(block.inside)] = 0
    wanted = {"macs": 1.001 * analysis.cost.at(without)[0]}
    assert widths_for(analysis, rows, wanted, Settings()).tolist() == without.tolist()
    assert (widths_for(analysis, rows, wanted, Settings(min_channels=2)) > 0).all()
    held = {analysis.groups[root].name: 0.5}
    assert (widths_for(analysis, rows, wanted, Settings(layer_ratio=held)) > 0).all()


def test_groups_that_stay_whole_and_ratios():
    analysis = analyze(NETWORKS["chain"]())
    rows = channel_rows(analysis.groups, [np.arange(g.channels, -1, -1.0) for g in analysis.groups])
    chosen = widths_for(analysis, rows, {"macs": 0.5 * analysis.cost.full[0]}, Settings(), [0])
    assert chosen[0] == analysis.groups[0].channels and chosen[1] < analysis.groups[1].channels
    half = {analysis.groups[1].name: 0.5}
    chosen = widths_for(analysis, rows, {}, Settings(layer_ratio=half))
    assert chosen.tolist() == [16, 8]
    with pytest.raises(InputError, match="no pattern matches a group"):
        widths_for(analysis, rows, {}, Settings(layer_ratio={"nowhere": 0.5}))


def test_out_of_reach_says_how_far_one_gets():
    analysis = analyze(NETWORKS["chain"]())
    rows = channel_rows(analysis.groups, [np.arange(g.channels, -1, -1.0) for g in analysis.groups])
    with pytest.raises(TargetError, match=r"macs .* is out of reach: .* is the least"):
        widths_for(analysis, rows, {"macs": 1.0}, Settings())
    with pytest.raises(TargetError, match=r"macs .* is out of reach: .* is the least"):
        fine = {"macs": 0.3 * analysis.cost.full[0]}  # within reach of widths that 64 rules out
        widths_for(analysis, rows, fine, Settings(round_to=64))
