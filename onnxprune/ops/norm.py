"""Normalisations and other operators that mix positions along some axes only.

Softmax and its like take statistics over the axes they normalise: removing a position there changes
all others, so such couplings are inexact. Zeros change no sum, though, so what is summed may go
where it is zero, and what is averaged if the sum is still divided by the old width
(`scaled_statistics`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.ops import norm_gradient, scaled_statistics, sharing_gradient
from onnxprune.ops.constants import constant
from onnxprune.ops.facets import AFFINE, AVERAGES, NORMALISATIONS, PROBABILITIES, mark, state
from onnxprune.ops.gradients import gradient
from onnxprune.ops.moments import moments
from onnxprune.ops.moments_layers import normalised
from onnxprune.ops.norm_constants import affine, by_channel, by_group, by_stored
from onnxprune.ops.registry import (
    SCALES,
    by_key,
    centres,
    couples,
    divides,
    inexact,
    same,
    same_but,
    shrinks,
    sums,
)
from onnxprune.ops.turning import NORMS, Norm
from onnxprune.ops.zero_channels import summed_zeros
from onnxprune.types import Coupling, Edit, Ints, Kept, Node, Tensor

#: Axes of data whose groups of channels are normalised as instances: samples, groups, all else.
GROUPED = 3


@couples("BatchNormalization")
def batch_normalization(node: Node) -> Iterator[Coupling]:
    """Inference: an affine map per channel. Training updates statistics and stays silent."""
    if len(node.outputs) > 1 or node.attrs.get("training_mode", 0):
        return
    (y,) = node.outputs
    yield from same_but((), node.inputs[0], y)
    for parameter in node.inputs[1:]:
        yield from same(parameter, 0, y, 1)


@couples("InstanceNormalization")
def instance_normalization(node: Node) -> Iterator[Coupling]:
    """Statistics over space, per sample and channel.

    Where space is one axis it may hold the channels of groups, as exporters normalise those.
    """
    y = node.outputs[0]
    mixed = range(2, y.rank) if y.rank != GROUPED or not scaled_statistics.keeps(node) else ()
    yield from same_but(mixed, node.inputs[0], y)
    for parameter in node.inputs[1:]:
        yield from same(parameter, 0, y, 1)


@centres("InstanceNormalization")
def grouped_squares(node: Node) -> Iterator[tuple[int, int]]:
    """The one axis whose squares are averaged behind the mean."""
    if node.outputs[0].rank == GROUPED and scaled_statistics.keeps(node):
        yield 0, 2


@shrinks("InstanceNormalization")
def shrink_instance_normalization(node: Node, kept: Kept) -> Edit:
    """The squares of fewer positions, divided by the extent before."""
    if node.outputs[0].rank != GROUPED:
        return Edit()
    return scaled_statistics.rescaled(node, kept, (1, 1e-5))


@couples("LogSoftmax", "Softmax", "Hardmax")
def softmax(node: Node) -> Iterator[Coupling]:
    """Mixes `axis`; before opset 13 every axis from `axis` on."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None:
        return
    old = node.opset < 13
    axis = node.attrs.get("axis", 1 if old else -1) % max(x.rank, 1)
    mixed = range(axis, x.rank) if old else (axis,)
    yield from same_but(mixed, x, y)
    if len(mixed) == 1:
        yield from inexact(f"the sum of {node.op}", same(x, axis, y, axis))


@couples("LayerNormalization", "RMSNormalization")
def layer_normalization(node: Node) -> Iterator[Coupling]:
    """Mixes every axis from `axis` on; mean and deviation, where asked for, have size 1 there."""
    x = node.inputs[0]
    if x is not None:
        axis = node.attrs.get("axis", -1) % max(x.rank, 1)
        for y in node.outputs:
            yield from same_but(range(axis, x.rank), x, y)
        if axis == x.rank - 1:
            for other in node.inputs:
                last = same(other, -1, node.outputs[0], -1)
                kept = scaled_statistics.keeps(node, node.outputs[1:])
                yield from last if kept else inexact(f"the statistics of {node.op}", last)


@sums("RMSNormalization")
def squares(node: Node) -> Iterator[tuple[int, int]]:
    """The last axis, whose squares are averaged."""
    return scaled_statistics.last_axis(node, (0,), node.outputs[1:])


@centres("LayerNormalization")
def centred_squares(node: Node) -> Iterator[tuple[int, int]]:
    """The last axis, whose squares are averaged behind the mean."""
    return scaled_statistics.last_axis(node, (0,), node.outputs[1:])


@shrinks("LayerNormalization", "RMSNormalization")
def shrink_normalization(node: Node, kept: Kept) -> Edit:
    """The squares of fewer positions, divided by the width before."""
    return scaled_statistics.rescaled(node, kept, (1, 1e-5), node.outputs[1:])


def _group_keys(node: Node) -> tuple[Tensor, int, Ints] | None:
    """The data, how many groups it has, and the group of each channel."""
    x, groups = node.inputs[0], int(node.attrs["num_groups"])
    size = x.size(1) if x is not None else None
    if x is None or size is None or groups < 1 or size % groups:
        return None
    return x, groups, np.repeat(np.arange(groups), size // groups)


@couples("GroupNormalization")
def group_normalization(node: Node) -> Iterator[Coupling]:
    """Statistics over space and a group's channels: groups go as a whole.

    Scale and bias have one entry per channel, before opset 21 one per group.
    """
    parts, y = _group_keys(node), node.outputs[0]
    if parts is None or y.size(1) is None:
        return
    x, groups, key = parts
    yield from same(x, 0, y, 0)
    yield by_key(x.at(1), key, y.at(1), key)
    for parameter in (p for p in node.inputs[1:] if p is not None):
        own = key if node.opset >= 21 else np.arange(groups)
        if parameter.size(0) == len(own):
            yield by_key(parameter.at(0), own, y.at(1), key)


@shrinks("GroupNormalization")
def shrink_group_normalization(node: Node, kept: Kept) -> Edit:
    """As many groups as still have channels."""
    parts = _group_keys(node)
    if parts is None:
        return Edit()
    x, groups, key = parts
    left = len(np.unique(key[kept(x, 1)]))
    return Edit() if left == groups else Edit(attrs={"num_groups": left})


@couples("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Iterator[Coupling]:
    """Mixes `axes`: samples and space, if none are named."""
    axes = node.attrs.get("axes", (0, 2, 3))
    yield from same_but(axes, node.inputs[0], node.outputs[0])


def _axis(node: Node) -> int | None:
    """The axis along which an operator works, an attribute or an input; None where unknown."""
    if node.op == "LpNormalization":
        return int(node.attrs.get("axis", -1))
    given = node.inputs[1].ints() if node.inputs[1] is not None else None
    return given[0] if given else None


@couples("LpNormalization", "CumSum")
def sums_along_one_axis(node: Node) -> Iterator[Coupling]:
    """Zeros add nothing to the sums along the axis."""
    if _axis(node) is not None:
        yield from same_but((), node.inputs[0], node.outputs[0])


@sums("LpNormalization", "CumSum")
def summed_axis(node: Node) -> Iterator[tuple[int, int]]:
    """The axis itself."""
    x, axis = node.inputs[0], _axis(node)
    if x is not None and x.rank > 0 and axis is not None and not x.constant:
        yield 0, axis % x.rank


@couples("CumProd")
def multiplies_along_one_axis(node: Node) -> Iterator[Coupling]:
    """A zero on the axis would end all products."""
    axis = _axis(node)
    if axis is not None:
        yield from same_but((axis,), node.inputs[0], node.outputs[0])


@couples("LRN")
def local_response(node: Node) -> Iterator[Coupling]:
    """Mixes neighbouring channels: only samples are independent."""
    x, y = node.inputs[0], node.outputs[0]
    yield from same(x, 0, y, 0)
    yield from inexact("the neighbours in LRN", same(x, 1, y, 1))


SCALES.update(BatchNormalization=1, GroupNormalization=1, InstanceNormalization=1)
divides(4, "BatchNormalization")
mark(
    NORMALISATIONS,
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization"),
    *("LayerNormalization", "LRN", "LpNormalization", "MeanVarianceNormalization"),
    *("RMSNormalization", "SimplifiedLayerNormalization"),
)
mark(AVERAGES, "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
state(NORMS, Norm(1, 2, True), "LayerNormalization")
state(NORMS, Norm(1, None, False), "RMSNormalization", "SimplifiedLayerNormalization")
mark(PROBABILITIES, "Softmax")
state(AFFINE, affine, "BatchNormalization")
constant("BatchNormalization")(by_stored)
constant("InstanceNormalization")(by_channel)
constant("GroupNormalization")(by_group)
constant("LpNormalization")(summed_zeros)
moments("BatchNormalization")(normalised)
gradient("BatchNormalization")(norm_gradient.batch_normalization)
gradient("GroupNormalization")(norm_gradient.group_normalization)
gradient("InstanceNormalization")(norm_gradient.instance_normalization)
gradient("LayerNormalization")(norm_gradient.layer_normalization)
gradient("LpNormalization")(norm_gradient.lp_normalization)
gradient("LRN")(norm_gradient.local_response)
gradient("MeanVarianceNormalization")(norm_gradient.mean_variance)
gradient("RMSNormalization", "SimplifiedLayerNormalization")(norm_gradient.root_mean_square)
gradient("Softmax")(sharing_gradient.softmax)
gradient("LogSoftmax")(sharing_gradient.log_softmax)
gradient("CumSum")(sharing_gradient.running_sum)
