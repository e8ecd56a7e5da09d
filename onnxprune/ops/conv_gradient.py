"""Gradients of convolutions; sizes must be static."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, sizes_of, tensor_of
from onnxprune.ops.windows import Window
from onnxprune.types import Node, Tensor

__all__ = ["conv", "conv_transpose"]

#: Positions of the last axis from which on products of whole images are faster than a Conv on them.
WIDE = 8


@dataclass(frozen=True)
class _Pair:
    """What a kernel correlates: data (n, c, …) that its windows see, gradients (n, o, …) at them.

    Attributes:
        data: name.
        grads: name.
        weight: the kernel (o, c / groups, taps …).
        window: how it slides over the data.
        groups: of channels.
    """

    data: str
    grads: str
    weight: Tensor
    window: Window
    groups: int

    @property
    def apart(self) -> bool:
        """Whether windows lie side by side, and cover the data."""
        w = self.window
        sizes = zip(w.out, w.kernel, strict=True)
        side_by_side = list(w.strides) == list(w.kernel) and not any(w.begin)
        return self.groups == 1 and side_by_side and w.sizes == tuple(o * k for o, k in sizes)


def conv(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy convolved with the kernel turned round, and the data correlated with dy."""
    x, w = tensor_of(node), tensor_of(node, 1)
    window, groups = Window(node, sizes_of(w)[2:]), int(node.attrs.get("group", 1))
    found: Gradients = [
        _data(t, node, dy, window),
        _weight(t, _Pair(x.name, dy, w, window, groups)),
    ]
    if node.input(2) is not None:
        found.append(_bias(t, dy, x.rank))
    return found


def conv_transpose(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy convolved with the kernel, and dy, as the data, correlated with x."""
    x, w = tensor_of(node), tensor_of(node, 1)
    window, groups = Window(node, sizes_of(w)[2:], transposed=True), int(node.attrs.get("group", 1))
    pads = [*window.begin, *(max(r, 0) for r in window.rest)]
    slides = {"strides": window.strides, "dilations": window.dilations}
    to_x = t.emit("Conv", dy, w.name, group=groups, pads=pads, **slides)
    for axis, (size, rest) in enumerate(zip(window.out, window.rest, strict=True), 2):
        to_x = t.cut(to_x, axis, 0, size) if rest < 0 else to_x
    found: Gradients = [to_x, _weight(t, _Pair(dy, x.name, w, window, groups))]
    if node.input(2) is not None:
        found.append(_bias(t, dy, x.rank))
    return found


def _bias(t: Builder, dy: str, rank: int) -> str:
    return t.along("ReduceSum", dy, [0, *range(2, rank)], keep=False)


def _data(t: Builder, node: Node, dy: str, window: Window) -> str:
    """Without strides a Conv with the kernel turned round, which is faster."""
    w, rank = tensor_of(node, 1), window.rank
    group = int(node.attrs.get("group", 1))
    reach = [(k - 1) * d for k, d in zip(window.kernel, window.dilations, strict=True)]
    begin = [r - b for r, b in zip(reach, window.begin, strict=True)]
    sizes = zip(window.sizes, window.out, window.begin, strict=True)
    pads = [*begin, *(n - out + b for n, out, b in sizes)]
    if group > 1 or set(window.strides) != {1} or min(pads) < 0:
        return t.emit("ConvTranspose", dy, w.name, group=group, **window.back())
    turned = t.emit("Transpose", w.name, perm=[1, 0, *range(2, rank + 2)])
    for k, taps in enumerate(window.kernel):
        turned = t.take(turned, 2 + k, range(taps)[::-1]) if taps > 1 else turned
    return t.emit("Conv", dy, turned, dilations=window.dilations, pads=pads)


def _weight(t: Builder, pair: _Pair) -> str:
    """The gradient of the kernel."""
    outputs, per_group = sizes_of(pair.weight)[:2]
    if per_group == 1 and outputs == pair.groups > 1:
        slow = set(pair.window.strides) != {1} or pair.window.out[-1] < WIDE
        return (_correlated if slow else _depthwise)(t, pair)
    return _patches(t, pair) if pair.apart else _tap_by_tap(t, pair)


def _patches(t: Builder, pair: _Pair) -> str:
    """Multiply gradients with data whose windows do not overlap: one product per sample."""
    window, rank = pair.window, pair.window.rank
    flat = t.constant([0, 0, -1], np.int64)
    rows, columns = t.emit("Reshape", pair.grads, flat), pair.data
    if math.prod(window.kernel) > 1:  # (n, c, out, taps, …) to (n, c, taps …, out …)
        cut = [v for both in zip(window.out, window.kernel, strict=True) for v in both]
        columns = t.emit("Reshape", columns, t.constant([0, 0, *cut], np.int64))
        places, taps = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
        columns = t.emit("Transpose", columns, perm=[0, 1, *taps, *places])
        flat = t.constant([0, -1, math.prod(window.out)], np.int64)
    columns = t.emit("Reshape", columns, flat)
    made = t.along("ReduceSum", t.times_turned(rows, columns), [0])
    return t.like(made, pair.weight)


def _tap_by_tap(t: Builder, pair: _Pair) -> str:
    """Multiply gradients with data moved to where a tap sees them, one tap after the other.

    One matrix product per sample and group is faster than data correlated by a Conv; a product over
    all samples at once would be long and narrow, which keeps one thread busy only.
    """
    window, groups, rank = pair.window, pair.groups, pair.window.rank
    outputs, inputs = sizes_of(pair.weight)[:2]
    apart, order = [0, groups, inputs, *window.sizes], [0, 1, *range(3, rank + 3), 2]
    image = t.emit("Reshape", pair.data, t.constant(apart, np.int64)) if groups > 1 else pair.data
    order = order if groups > 1 else [0, *range(2, rank + 2), 1]
    lead, image = len(order) - rank - 1, t.emit("Transpose", image, perm=order)
    zeros, ends = [0] * lead, [max(r, 0) for r in window.rest]
    image = t.padded(image, [*zeros, *window.begin, 0], [*zeros, *ends, 0])
    places, split = math.prod(window.out), [groups] if groups > 1 else []
    shape = t.constant([-1, *split, outputs // groups, places], np.int64)
    rows = t.emit("Reshape", pair.grads, shape)
    flat, taps = t.constant([-1, *split, places, inputs], np.int64), []
    for offset in np.ndindex(*window.kernel):
        starts = [at * d for at, d in zip(offset, window.dilations, strict=True)]
        seen = t.every(image, lead, starts, window.strides, window.out)
        taps.append(t.emit("MatMul", rows, t.emit("Reshape", seen, flat)))
    made = t.along("ReduceSum", t.emit("Concat", *taps, axis=lead + 1), [0])
    made = t.emit("Reshape", made, t.constant([outputs, -1, inputs], np.int64))
    return t.like(t.swapped(made, 3), pair.weight)


def _depthwise(t: Builder, pair: _Pair) -> str:
    """Sum products of gradients with what a tap sees, one tap after the other."""
    window, rank = pair.window, pair.window.rank
    ends = [max(r, 0) for r in window.rest]
    image, taps = t.padded(pair.data, [0, 0, *window.begin], [0, 0, *ends]), []
    for offset in np.ndindex(*window.kernel):
        starts = [at * d for at, d in zip(offset, window.dilations, strict=True)]
        seen = t.mul(t.every(image, 2, starts, window.strides, window.out), pair.grads)
        taps.append(t.along("ReduceSum", seen, [0, *range(2, rank + 2)]))
    return t.like(t.emit("Concat", *taps, axis=2), pair.weight)


def _correlated(t: Builder, pair: _Pair) -> str:
    """Convolve data with gradients: every channel is an image whose samples are channels."""
    window, turn = pair.window, [1, 0, *range(2, pair.window.rank + 2)]
    image, kernel = (t.emit("Transpose", name, perm=turn) for name in (pair.data, pair.grads))
    image = t.emit("Reshape", image, t.constant([1, -1, *window.sizes], np.int64))
    made = t.emit(
        "Conv",
        image,
        kernel,
        group=pair.groups,
        strides=window.dilations,
        dilations=window.strides,
        pads=[*window.begin, *(max(r, 0) for r in window.rest)],
    )
    for axis, (taps, r) in enumerate(zip(window.kernel, window.rest, strict=True), 2):
        if r < 0:  # what no window reaches
            made = t.take(made, axis, range(taps))
    return t.like(made, pair.weight)
