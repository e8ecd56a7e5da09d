"""Convolutions of any rank: plain, grouped, depthwise, transposed.

A grouped convolution can lose whole groups (positions of one group are one channel) or the same
offsets in every group (equal count everywhere); whichever leaves more channels to choose from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from onnxprune.ops import contrib_gradient, conv_gradient
from onnxprune.ops.constants import Numbers, constant, zeros_of
from onnxprune.ops.constants_products import linear, rounded
from onnxprune.ops.facets import LAYERS, LayerForm, state
from onnxprune.ops.gradients import gradient
from onnxprune.ops.moments import moments
from onnxprune.ops.moments_layers import multiplied
from onnxprune.ops.registry import by_key, couples, kernel, macs, same, shrinks
from onnxprune.types import Axis, Coupling, Edit, Floats, Kept, Kernel, Node, Tensor, Work

CONVS = ("Conv", "com.microsoft:FusedConv")


def _parts(node: Node) -> tuple[Tensor, Tensor, Tensor, int] | None:
    """Data, weight, result and number of groups; None where a size varies or does not fit."""
    x, w, y = node.input(0), node.input(1), node.outputs[0]
    if x is None or w is None or w.size(0) is None or w.size(1) is None:
        return None
    groups = int(node.attrs.get("group", 1))
    if groups < 1 or any(not t.size(1) or (t.size(1) or 0) % groups for t in (x, y)):
        return None
    return x, w, y, groups


def _whole(groups: int, x: Tensor, y: Tensor) -> Coupling:
    """Group i of both channel axes, `size / groups` positions each, is one channel."""
    keys = (np.repeat(np.arange(groups), (t.size(1) or 0) // groups) for t in (x, y))
    return by_key(x.at(1), next(keys), y.at(1), next(keys))


def _offsets(groups: int, axis: Axis, size: int, shared: Axis | None = None) -> Coupling:
    """The same offset in every group is one channel, on `axis` and, once, on `shared`."""
    width = size // groups
    key = np.tile(np.arange(width), groups)
    return by_key(axis, key, shared or axis, np.arange(width) if shared else key)


@couples(*CONVS)
def conv(node: Node) -> Iterator[Coupling]:
    """Weight axis 0 makes the result's channels, axis 1 reads the data's; space is silent."""
    parts = _parts(node)
    if parts is None:
        return
    x, w, y, groups = parts
    yield from same(x, 0, y, 0)
    yield from same(w, 0, y, 1)
    yield from same(node.input(2), 0, y, 1)
    for axis in (0, 1):  # FusedConv adds its fourth input to the result
        yield from same(node.input(3), axis, y, axis)
    n_in, n_out, width = int(x.shape[1]), int(y.shape[1]), int(w.shape[1])  # type: ignore[index]
    if not w.constant:
        return
    if groups == 1:
        yield from same(w, 1, x, 1)
    elif width == 1 or groups >= max(width, n_out // groups):
        yield _whole(groups, x, y)
    else:
        yield _offsets(groups, x.at(1), n_in, w.at(1))
        yield _offsets(groups, y.at(1), n_out)


@couples("ConvTranspose")
def conv_transpose(node: Node) -> Iterator[Coupling]:
    """Weight axis 0 reads the data's channels, axis 1 makes the result's."""
    parts = _parts(node)
    if parts is None:
        return
    x, w, y, groups = parts
    yield from same(x, 0, y, 0)
    yield from same(node.input(2), 0, y, 1)
    n_in, n_out, width = int(x.shape[1]), int(y.shape[1]), int(w.shape[1])  # type: ignore[index]
    if not w.constant:
        return
    yield from same(w, 0, x, 1)
    if groups == 1:
        yield from same(w, 1, y, 1)
    elif groups >= max(n_in // groups, width):
        yield _whole(groups, x, y)
    else:
        yield _offsets(groups, y.at(1), n_out, w.at(1))
        yield _offsets(groups, x.at(1), n_in)


def _group_attr(node: Node, n_in: int, per_group: int) -> Edit:
    return Edit(attrs={"group": n_in // per_group}) if node.attrs.get("group", 1) != 1 else Edit()


@shrinks(*CONVS)
def shrink_conv(node: Node, kept: Kept) -> Edit:
    """`group` is what remains of the data's channels over the channels each group reads."""
    x, w = node.inputs[0], node.inputs[1]
    assert x is not None and w is not None
    return _group_attr(node, len(kept(x, 1)), len(kept(w, 1)))


@shrinks("ConvTranspose")
def shrink_conv_transpose(node: Node, kept: Kept) -> Edit:
    """`group` is what remains of the result's channels over the channels each group makes."""
    w = node.inputs[1]
    assert w is not None
    return _group_attr(node, len(kept(node.outputs[0], 1)), len(kept(w, 1)))


def _space(sizes: tuple[int, ...]) -> int:
    return math.prod(sizes[2:]) * sizes[0]


@macs(*CONVS)
def macs_conv(node: Node) -> Work | None:
    """Every output pixel times the kernel."""
    w, y = node.inputs[1], node.outputs[0]
    if w is None or w.sample is None or y.sample is None:
        return None
    return Work(_space(y.sample) * math.prod(w.sample), (w.at(0), w.at(1)))


@macs("ConvTranspose")
def macs_conv_transpose(node: Node) -> Work | None:
    """Every input pixel times the kernel."""
    x, w = node.inputs[0], node.inputs[1]
    if x is None or w is None or w.sample is None or x.sample is None:
        return None
    return Work(_space(x.sample) * math.prod(w.sample), (w.at(0), w.at(1)))


@kernel(*CONVS)
def kernel_conv(node: Node) -> Kernel:
    """(out, in / group, *kernel)."""
    w = node.inputs[1]
    depthwise = w is not None and w.size(1) == 1 and node.attrs.get("group", 1) > 1
    return Kernel(1, 0, None if depthwise else 1, bias=2)


@kernel("ConvTranspose")
def kernel_conv_transpose(node: Node) -> Kernel:
    """(in, out / group, *kernel)."""
    w, group = node.inputs[1], node.attrs.get("group", 1)
    depthwise = w is not None and w.size(1) == 1 and 1 < group == w.size(0)
    return Kernel(1, 0 if depthwise else 1, None if depthwise else 0, bias=2)


@constant("com.microsoft:FusedConv")
def constant_fused(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Zeros behind a product whose activation keeps them; what is added must be zero too."""
    added = node.input(3)
    for axis, found in rounded(node, numbers):
        yield axis, found if added is None else found + zeros_of(numbers.of(added, 1))


state(LAYERS, LayerForm("convolution", 2, lambda attrs, shape: shape[0]), "Conv")
state(
    LAYERS,
    LayerForm("transposed", 2, lambda attrs, shape: shape[1] * int(attrs.get("group", 1))),
    "ConvTranspose",
)
constant("Conv", "ConvTranspose")(linear)
moments("Conv")(multiplied)
gradient("Conv")(conv_gradient.conv)
gradient("ConvTranspose")(conv_gradient.conv_transpose)
gradient("com.microsoft:FusedConv")(contrib_gradient.fused_conv)
