"""Relatives of the convolution: deformable, and causal with a state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from onnxprune.ops.conv import conv, kernel_conv, shrink_conv
from onnxprune.ops.registry import by_key, couples, kernel, macs, same, shrinks
from onnxprune.types import Coupling, Edit, Fact, Kept, Kernel, Node, Work


def _plain(node: Node) -> Node:
    """The convolution without offsets and mask, which are inputs 2 and 4."""
    return replace(node, inputs=(*node.inputs[:2], node.input(3)))


@couples("DeformConv")
def deform_conv(node: Node) -> Iterator[Fact]:
    """Blocks of channels share offsets: what goes from one block goes from all."""
    x, y, blocks = node.inputs[0], node.outputs[0], int(node.attrs.get("offset_group", 1))
    yield from conv(_plain(node))
    for other in (node.input(2), node.input(4)):
        yield from same(other, 0, y, 0)
    if blocks > 1 and x is not None and x.size(1) is not None:
        key = np.tile(np.arange((x.size(1) or 0) // blocks), blocks)
        yield by_key(x.at(1), key, x.at(1), key)


@shrinks("DeformConv")
def shrink_deform_conv(node: Node, kept: Kept) -> Edit:
    """`group` as in a plain convolution; `offset_group` stays."""
    return shrink_conv(_plain(node), kept)


@couples("CausalConvWithState")
def causal_conv(node: Node) -> Iterator[Coupling]:
    """Every channel has a kernel of its own, and a state of the last positions."""
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    for other in (x, node.input(3), *node.outputs[1:]):
        yield from same(other, 0, y, 0)
        yield from same(other, 1, y, 1)
    for parameter in (w, node.input(2)):
        yield from same(parameter, 0, y, 1)


@macs("DeformConv", "CausalConvWithState")
def macs_per_position(node: Node) -> Work | None:
    """Every position of the result times the kernel."""
    w, y = node.inputs[1], node.outputs[0]
    if w is None or w.sample is None or y.sample is None:
        return None
    places = y.sample[0] * math.prod(y.sample[2:])
    return Work(float(places * math.prod(w.sample)), (w.at(0), w.at(1)))


@kernel("DeformConv")
def kernel_deform_conv(node: Node) -> Kernel:
    """(out, in / group, *kernel)."""
    plain = kernel_conv(node)
    assert isinstance(plain, Kernel)
    return replace(plain, bias=3)


@kernel("CausalConvWithState")
def kernel_causal_conv(node: Node) -> Kernel:
    """(channels, 1, length)."""
    return Kernel(1, 0, None, bias=2)
