"""Convolutions of integers: a plain one on numbers that stand for reals.

Sums of integers are exact, so that what is removed leaves the others as they were, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnxprune.ops import conv as real
from onnxprune.ops.constants import constant
from onnxprune.ops.constants_products import rounded
from onnxprune.ops.facets import INTEGER_RESULTS, PAIRS, mark, state
from onnxprune.ops.quantized import MS, at, only, parameters
from onnxprune.ops.registry import couples, kernel, macs, quantized, shrinks
from onnxprune.types import (
    Axis,
    Coupling,
    Edit,
    Fact,
    Kept,
    Kernel,
    Node,
    Quantized,
    Tensor,
    Work,
)

INTEGER = "ConvInteger"
ENCODED = ("QLinearConv", f"{MS}QLinearConv")
CONVS = (*ENCODED, INTEGER)


def _conv_inputs(node: Node) -> tuple[Quantized, Quantized, int | None]:
    """Where data and weight lie, with scale and zero point, and the bias."""
    if node.op == INTEGER:
        return Quantized(0, None, 2), Quantized(1, None, 3), None
    return Quantized(0, 1, 2), Quantized(3, 4, 5), 8


def _channels_last(node: Node) -> bool:
    return bool(node.attrs.get("channels_last", 0))


def _conv_view(node: Node) -> Node | None:
    """The node as a plain convolution; axes of data and result in the order of one."""
    x, w, bias = _conv_inputs(node)
    data, weight, y = node.input(x.input), node.input(w.input), node.outputs[0]
    if data is None or weight is None or data.rank < 3 or y.rank != data.rank:
        return None
    if _channels_last(node):
        data, y = _channels_first(data), _channels_first(y)
    inputs = (data, weight, at(node, bias))
    return Node(node.name, "Conv", inputs, (y,), node.attrs, node.opset)


def _channels_first(x: Tensor) -> Tensor:
    order = [0, x.rank - 1, *range(1, x.rank - 1)]
    shape = None if x.shape is None else tuple(x.shape[k] for k in order)
    sample = None if x.sample is None else tuple(x.sample[k] for k in order)
    return Tensor(x.name, shape, sample, constant=x.constant)


@couples(*CONVS)
def conv(node: Node) -> Iterator[Fact]:
    """A convolution; the weight's scale and zero point may differ from filter to filter."""
    view, (x, w, _) = _conv_view(node), _conv_inputs(node)
    if view is None:
        return
    data, weight, _ = view.inputs
    y = view.outputs[0]
    assert data is not None and weight is not None
    along = [
        parameters(data, 1, at(node, x.scale), at(node, x.zero_point)),
        parameters(weight, 0, at(node, w.scale), at(node, w.zero_point)),
        parameters(y, 1, node.input(6), node.input(7)),
    ]
    if None in along:
        return
    facts = [*real.conv(view), *(c for found in along for c in found or ())]
    if not _channels_last(node):
        yield from facts
        return
    order = [0, data.rank - 1, *range(1, data.rank - 1)]

    def moved(axis: Axis) -> Axis:
        mine = axis.tensor in (data.name, y.name)
        return axis._replace(axis=order[axis.axis]) if mine else axis

    for fact in facts:
        if isinstance(fact, Coupling):
            yield fact._replace(a=moved(fact.a), b=moved(fact.b))


@shrinks(*CONVS)
def shrink_conv(node: Node, kept: Kept) -> Edit:
    """`group` is what remains of the data's channels over the channels each group reads."""
    x, w, _ = _conv_inputs(node)
    data, weight = node.inputs[x.input], node.inputs[w.input]
    assert data is not None and weight is not None
    if node.attrs.get("group", 1) == 1:
        return Edit()
    channels = len(kept(data, -1 if _channels_last(node) else 1))
    return Edit(attrs={"group": channels // len(kept(weight, 1))})


@macs(*CONVS)
def macs_conv(node: Node) -> Work | Sequence[Work] | None:
    """Every output pixel times the kernel."""
    view = _conv_view(node)
    return None if view is None else real.macs_conv(view)


@kernel(*CONVS)
def kernel_conv(node: Node) -> Kernel | None:
    """(out, in / group, *kernel)."""
    view, (x, w, bias) = _conv_view(node), _conv_inputs(node)
    if view is None:
        return None
    channel = -1 if _channels_last(node) else 1
    found = only(real.kernel_conv(view))
    return found and replace(found, index=w.input, bias=bias, channel=channel, data=x.input)


@quantized(*CONVS)
def quantized_conv(node: Node) -> Iterator[Quantized]:
    """Data, and weight by filter."""
    yield from _conv_inputs(node)[:2]


mark(INTEGER_RESULTS, *ENCODED)
constant(*CONVS)(rounded)
state(PAIRS, ((Quantized(3, 4, 5), Quantized(0, 1, 2)),), *ENCODED)
# kernels take its weight as the unsigned factor
state(PAIRS, ((Quantized(0, None, 2), Quantized(1, None, 3)),), INTEGER)
