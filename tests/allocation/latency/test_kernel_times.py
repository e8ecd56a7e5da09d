"""Predicted times: whole blocks count, and what stands between them costs as much or more."""

import numpy as np
import pytest
from networks import NETWORKS, Net

from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.allocation.latency.kernel_times import group_blocks, kernel_times
from onnxprune.allocation.latency.time_model import Move
from onnxprune.groups.analysis import Analysis, analyze


def chain(width: int = 64) -> Analysis:
    n = Net(x=(1, 64, 14, 14))
    made = n.relu(n.conv("x", 64, width, k=3, pads=[1, 1, 1, 1]))
    return analyze(n.model(n.conv(made, width, 64, k=3, pads=[1, 1, 1, 1])))


@pytest.mark.parametrize("block", [8, 16])
def test_time_falls_in_steps(block: int):
    times = kernel_times(chain(), Blocks(block, block))
    taken = [times.at(np.array([width])) for width in range(1, 65)]
    aligned = taken[3::4]
    for k, time in enumerate(aligned, 1):
        above = -(-4 * k // block) * block
        assert time <= taken[above - 1] + 1e-12
    assert taken[-1] == pytest.approx(1)
    assert len({round(t, 6) for t in taken[block - 1 :: block]}) == 64 // block
    assert np.diff(taken[block - 1 :: block]).min() > 0


def test_what_is_not_aligned_is_slower_than_the_next_block():
    times = kernel_times(chain(), Blocks(16, 16))
    assert times.at(np.array([47])) > times.at(np.array([48]))
    assert times.at(np.array([63])) > 1


@pytest.mark.parametrize("name", ["chain", "residual_spine", "dense_concat", "inverted_residual"])
def test_changes_add_up(name: str):
    analysis = analyze(NETWORKS[name]())
    times = kernel_times(analysis, Blocks(16, 16))
    widths = analysis.cost.channels.copy()
    total = times.at(widths)
    assert total == pytest.approx(1)
    for g, width in enumerate(widths.tolist()):
        here, others = analysis.cost.axis_sizes(widths), [width, width // 2, width // 4]
        axes, there = analysis.cost.touched[g][0], np.repeat(widths[None], 3, 0)
        there[:, g] = others
        sizes = np.array([analysis.cost.axis_sizes(plan)[axes] for plan in there])
        changes = times.change(widths, here, Move(g, there[:, g], sizes))
        assert changes == pytest.approx([times.at(plan) - total for plan in there])
        widths[g], total = width // 2, total + float(changes[1])
        assert total == pytest.approx(times.at(widths))


def test_a_model_without_products_takes_what_it_takes():
    n = Net(x=(1, 4))
    analysis = analyze(n.model(n.relu("x")))
    assert kernel_times(analysis, Blocks(16, 16)).at(analysis.cost.channels) == 0


def test_groups_have_the_blocks_of_the_kernels_that_see_them():
    analysis = chain()
    assert group_blocks(kernel_times(analysis, Blocks(16, 8)), analysis.groups) == [16]
    n = Net(x=(2, 8))
    made = n.relu(n.gemm("x", 8, 32))
    products = analyze(n.model(n.gemm(made, 32, 4)))
    assert group_blocks(kernel_times(products, Blocks(16, 8)), products.groups) == [8]
