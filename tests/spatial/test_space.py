"""Axes that hold space are found from shapes alone."""

import pytest
from networks import Net
from spatial_networks import pooled

from onnxprune.groups.analysis import analyze
from onnxprune.spatial.space import any_size, find_space, hints


def test_strides_multiply():
    analysis = analyze(pooled())
    (space,) = find_space(analysis, any_size(analysis))
    assert [(a.axis, a.size, a.stride, a.fixed) for a in space.axes] == [
        (2, 32, 4, True),
        (3, 32, 4, True),
    ]
    assert not space.why and hints(analysis)


def test_sound():
    analysis = analyze(pooled(rank=1, size=64))
    (space,) = find_space(analysis, any_size(analysis))
    assert [(a.axis, a.stride) for a in space.axes] == [(2, 4)]


def test_channels_last():
    n = Net(x=(1, 32, 32, 3))
    y = n.op("Transpose", "x", perm=[0, 3, 1, 2])
    y = n.op("GlobalAveragePool", n.relu(n.conv(y, 3, 8, strides=[2, 2])))
    analysis = analyze(n.model(n.gemm(n.op("Flatten", y), 8, 4)))
    (space,) = find_space(analysis, any_size(analysis))
    assert [(a.axis, a.stride) for a in space.axes] == [(1, 2), (2, 2)]


def test_an_output_that_keeps_space_is_named():
    n = Net(x=("N", 3, 32, 32))
    analysis = analyze(n.model(n.conv(n.relu(n.conv("x", 3, 8)), 8, 2)))
    (space,) = find_space(analysis, any_size(analysis))
    assert not space.axes and not hints(analysis)
    assert space.why[2] == "output 'conv2_0' keeps space: its sizes follow axis 2 of 'x'"


def test_what_has_no_space_has_no_axes():
    n = Net(x=("N", 64))
    analysis = analyze(n.model(n.gemm(n.relu(n.gemm("x", 64, 8)), 8, 4)))
    assert not hints(analysis)


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_only_windows_over_everything_become_global(pads: list[int]):
    n = Net(x=("N", 3, 32, 32))
    y = n.op("AveragePool", n.conv("x", 3, 8), kernel_shape=[32, 32], pads=pads)
    model = n.model(n.op("ReduceMean", y, axes=[2, 3], keepdims=0))
    kinds = [node.op_type for node in any_size(analyze(model)).graph.node]
    assert ("GlobalAveragePool" in kinds) is not any(pads)
