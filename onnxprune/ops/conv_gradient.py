"""Gradients of convolutions; sizes must be static."""

from __future__ import annotations

import math

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, sizes_of, tensor_of
from onnxprune.types import Node

__all__ = ["Window", "conv"]

#: Positions of the last axis from which on products of whole images are faster than a Conv on them.
WIDE = 8


class Window:
    """How a kernel slides over an input: sizes per spatial axis."""

    def __init__(self, node: Node, kernel: tuple[int, ...]) -> None:
        x, y, rank = tensor_of(node), node.outputs[0], len(kernel)
        self.kernel, self.rank = kernel, rank
        self.sizes = tuple(x.size(2 + k) or 0 for k in range(rank))
        self.out = tuple(y.size(2 + k) or 0 for k in range(rank))
        need(all(self.sizes) and all(self.out) and x.rank == rank + 2)
        self.strides = list(node.attrs.get("strides") or [1] * rank)
        self.dilations = list(node.attrs.get("dilations") or [1] * rank)
        self.begin = self._begin(node)
        reach = zip(self.out, self.strides, kernel, self.dilations, strict=True)
        #: positions that the windows span, from the first padded one
        self.span = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in reach]
        ends = zip(self.sizes, self.begin, self.span, strict=True)
        #: how far the windows reach beyond the input's end; below zero where they do not get there
        self.rest = [s - n - b for n, b, s in ends]

    def _begin(self, node: Node) -> list[int]:
        auto = node.attrs.get("auto_pad", "NOTSET")
        auto = auto.decode() if isinstance(auto, bytes) else auto
        if auto == "NOTSET":
            return list(node.attrs.get("pads") or [0] * 2 * self.rank)[: self.rank]
        found = []
        rows = zip(self.out, self.strides, self.kernel, self.dilations, self.sizes, strict=True)
        for o, s, k, d, n in rows:
            total = max((o - 1) * s + (k - 1) * d + 1 - n, 0) if auto != "VALID" else 0
            found.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
        return found

    def back(self) -> dict[str, list[int]]:
        """Attributes of the transposed convolution that gives the input's gradient.

        What the windows span may end before the input does; those positions get zeros.
        """
        end = [max(r, 0) for r in self.rest]
        missing = [max(-r, 0) for r in self.rest]
        need(
            all(
                m < max(s, d) for m, s, d in zip(missing, self.strides, self.dilations, strict=True)
            )
        )
        return {
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": [*self.begin, *end],
            "output_padding": missing,
        }


def conv(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy convolved with the kernel turned round, and the data correlated with dy."""
    x, w = tensor_of(node), tensor_of(node, 1)
    shape = sizes_of(w)
    window = Window(node, shape[2:])
    group = int(node.attrs.get("group", 1))
    to_x = _data(t, node, dy, window)
    to_w = None
    if group == 1:
        to_w = _dense_weight(t, node, dy, window)
    elif shape[1] == 1:
        to_w = _grouped_weight(t, node, dy, window)
    found: Gradients = [to_x, to_w]
    if len(node.inputs) > 2:
        axes = [0, *range(2, x.rank)]
        found.append(t.along("ReduceSum", dy, axes, keep=False))
    return found


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


def _dense_weight(t: Builder, node: Node, dy: str, window: Window) -> str:
    """One matrix product per tap and sample, faster than inputs correlated by a Conv.

    A product over all samples at once would be long and narrow, which keeps one thread busy only.
    """
    x, w = tensor_of(node), tensor_of(node, 1)
    if math.prod(window.kernel) > 1 or window.sizes != window.out:
        return _tap_by_tap(t, node, dy, window)
    flat = t.constant([0, 0, -1], np.int64)
    rows, columns = (t.emit("Reshape", name, flat) for name in (dy, x.name))
    return t.like(t.along("ReduceSum", t.times_turned(rows, columns), [0]), w)


def _tap_by_tap(t: Builder, node: Node, dy: str, window: Window) -> str:
    """(o, n, …) gradients with inputs moved to where a tap sees them, one tap after the other."""
    x, w, rank = tensor_of(node), tensor_of(node, 1), window.rank
    outputs, inputs = sizes_of(w)[:2]
    image = t.emit("Transpose", x.name, perm=[0, *range(2, rank + 2), 1])
    image = t.padded(image, [0, *window.begin, 0], [0, *(max(r, 0) for r in window.rest), 0])
    places = math.prod(window.out)
    rows = t.emit("Reshape", dy, t.constant([-1, outputs, places], np.int64))
    flat, taps = t.constant([-1, places, inputs], np.int64), []
    for offset in np.ndindex(*window.kernel):
        starts = [at * d for at, d in zip(offset, window.dilations, strict=True)]
        seen = t.every(image, 1, starts, window.strides, window.out)
        taps.append(t.emit("MatMul", rows, t.emit("Reshape", seen, flat)))
    made = t.along("ReduceSum", t.emit("Concat", *taps, axis=2), [0])
    made = t.emit("Reshape", made, t.constant([outputs, -1, inputs], np.int64))
    return t.like(t.swapped(made, 3), w)


def _depthwise_weight(t: Builder, node: Node, dy: str, window: Window) -> str:
    """Sum products of gradients with what a tap sees, one tap after the other."""
    x, w, rank = tensor_of(node), tensor_of(node, 1), window.rank
    ends = [max(r, 0) for r in window.rest]
    image, taps = t.padded(x.name, [0, 0, *window.begin], [0, 0, *ends]), []
    for offset in np.ndindex(*window.kernel):
        starts = [at * d for at, d in zip(offset, window.dilations, strict=True)]
        seen = t.mul(t.every(image, 2, starts, window.strides, window.out), dy)
        taps.append(t.along("ReduceSum", seen, [0, *range(2, rank + 2)]))
    return t.like(t.emit("Concat", *taps, axis=2), w)


def _grouped_weight(t: Builder, node: Node, dy: str, window: Window) -> str:
    """Inputs correlated with gradients: every channel is an image whose samples are channels."""
    x, w, group = tensor_of(node), tensor_of(node, 1), int(node.attrs.get("group", 1))
    if set(window.strides) == {1} and w.size(0) == x.size(1) and window.out[-1] >= WIDE:
        return _depthwise_weight(t, node, dy, window)
    turn = [1, 0, *range(2, x.rank)]
    image, kernel = t.emit("Transpose", x.name, perm=turn), t.emit("Transpose", dy, perm=turn)
    need(w.size(0) == group)
    image = t.emit("Reshape", image, t.constant([1, -1, *window.sizes], np.int64))
    rest = window.rest
    made = t.emit(
        "Conv",
        image,
        kernel,
        group=group,
        strides=window.dilations,
        dilations=window.strides,
        pads=[*window.begin, *(max(r, 0) for r in rest)],
    )
    for axis, (taps, r) in enumerate(zip(window.kernel, rest, strict=True), 2):
        if r < 0:  # what no window reaches
            made = t.take(made, axis, range(taps))
    return t.like(made, w)
