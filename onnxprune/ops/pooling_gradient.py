"""Gradients of pools, means and sums; sizes must be static."""

from __future__ import annotations

import math

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.conv_gradient import Window
from onnxprune.ops.gradients import Gradients, need, tensor_of, to_first
from onnxprune.types import Node, Tensor

__all__ = ["average", "maximum", "mean"]


def mean(t: Builder, node: Node, dy: str) -> Gradients:
    """Means and sums over axes, and the global average pool."""
    x = tensor_of(node)
    if node.op == "GlobalAveragePool":
        axes, keep = list(range(2, x.rank)), 1
    else:
        given = node.input(1)
        listed = given.ints() if given is not None else node.attrs.get("axes")
        known = [int(a) for a in listed or () if a is not None]
        need(known and len(known) == len(listed or ()))
        axes, keep = [a % x.rank for a in known], int(node.attrs.get("keepdims", 1))
    if not keep:
        dy = t.along("Unsqueeze", dy, axes)
    if node.op != "ReduceSum":
        dy = t.scaled(dy, 1 / math.prod(_some(x, axes)))
    return to_first(node, t.spread(dy, x))


def _some(x: Tensor, axes: list[int]) -> list[int]:
    """Sizes of axes, which must be static."""
    sizes = [x.size(axis) or 0 for axis in axes]
    need(all(sizes))
    return sizes


def average(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy spread evenly over each window."""
    x, kernel = tensor_of(node), tuple(node.attrs["kernel_shape"])
    window = Window(node, kernel)
    padded = any(window.begin) or any(
        s > n + b for n, b, s in zip(window.sizes, window.begin, window.span, strict=True)
    )
    need(not padded or node.attrs.get("count_include_pad", 0))
    channels = x.size(1) or 0
    need(channels)
    share = t.constant(np.full((channels, 1, *kernel), 1 / math.prod(kernel)))
    return [t.emit("ConvTranspose", dy, share, group=channels, **window.back())]


def maximum(t: Builder, node: Node, dy: str) -> Gradients:
    """Each place of the window in turn: where it holds the maximum it gets the gradient."""
    window = Window(node, tuple(node.attrs["kernel_shape"]))
    x, y, terms = tensor_of(node), node.outputs[0], []
    for offset in np.ndindex(*window.kernel):
        seen, grads, places = x.name, dy, []
        top = y.name
        for k in range(window.rank):
            start = offset[k] * window.dilations[k] - window.begin[k]
            at = start + np.arange(window.out[k]) * window.strides[k]
            inside = np.flatnonzero((at >= 0) & (at < window.sizes[k]))
            places.append(at[inside])
            seen = t.take(seen, 2 + k, at[inside])
            grads, top = t.take(grads, 2 + k, inside), t.take(top, 2 + k, inside)
        hit = t.mask("Equal", seen, top)
        term = t.mul(grads, hit)
        for k, at in enumerate(places):
            term = t.placed(term, 2 + k, at.tolist(), window.sizes[k])
        terms.append(term)
    return [t.total(terms)]
