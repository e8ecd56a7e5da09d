"""Normalisations and other operators that mix positions along some axes only.

LayerNormalization, GroupNormalization, Softmax and their like take statistics over the axes
they normalise: removing a position there changes all others, so those axes stay silent.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.ops.registry import SCALES, couples, divides, same, same_but
from onnxprune.types import Coupling, Node


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
    """Statistics over space, per sample and channel."""
    y = node.outputs[0]
    yield from same(node.inputs[0], 0, y, 0)
    yield from same(node.inputs[0], 1, y, 1)
    for parameter in node.inputs[1:]:
        yield from same(parameter, 0, y, 1)


@couples("LogSoftmax", "Softmax", "Hardmax")
def softmax(node: Node) -> Iterator[Coupling]:
    """Mixes `axis`; before opset 13 every axis from `axis` on."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None:
        return
    old = node.opset < 13
    axis = node.attrs.get("axis", 1 if old else -1) % max(x.rank, 1)
    yield from same_but(range(axis, x.rank) if old else (axis,), x, y)


@couples("LayerNormalization", "RMSNormalization")
def layer_normalization(node: Node) -> Iterator[Coupling]:
    """Mixes every axis from `axis` on."""
    x = node.inputs[0]
    if x is not None:
        axis = node.attrs.get("axis", -1) % max(x.rank, 1)
        yield from same_but(range(axis, x.rank), x, node.outputs[0])


@couples("LpNormalization", "CumSum")
def along_one_axis(node: Node) -> Iterator[Coupling]:
    """Mixes one axis, an attribute or (CumSum) an input."""
    axis: int | None = node.attrs.get("axis", -1)
    if node.op == "CumSum":
        second = node.inputs[1].ints() if node.inputs[1] is not None else None
        axis = second[0] if second else None
    if axis is not None:
        yield from same_but((axis,), node.inputs[0], node.outputs[0])


@couples("LRN")
def local_response(node: Node) -> Iterator[Coupling]:
    """Mixes neighbouring channels: only samples are independent."""
    yield from same(node.inputs[0], 0, node.outputs[0], 0)


SCALES.update(BatchNormalization=1, InstanceNormalization=1)
divides(4, "BatchNormalization")
