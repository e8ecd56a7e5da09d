"""Gradients of pools, means, sums and other reductions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, to_first
from onnxprune.ops.windows import Window
from onnxprune.types import Floats, Node, Tensor

__all__ = ["average", "global_maximum", "global_power", "maximum", "mean", "power", "reduction"]


class _Reduced(NamedTuple):
    """What a reduction read, and its result and gradient with the summed axes at size one."""

    x: str
    y: str
    dy: str
    axes: list[int]


def _reduced(t: Builder, node: Node, dy: str) -> _Reduced:
    x, y = tensor_of(node), node.outputs[0].name
    given = node.input(1)
    listed = given.ints() if given is not None else node.attrs.get("axes")
    known = [int(a) % x.rank for a in listed or () if a is not None]
    need(len(known) == len(listed or ()) and (given is None or listed is not None))
    need(known or not node.attrs.get("noop_with_empty_axes", 0))
    axes = known or list(range(x.rank))
    if not int(node.attrs.get("keepdims", 1)):
        y, dy = (t.along("Unsqueeze", name, axes) for name in (y, dy))
    return _Reduced(x.name, y, dy, axes)


def reduction(slope: Callable[[Builder, _Reduced], str]) -> Callable[..., Gradients]:
    """Make the rule of a reduction: dy times a slope that has the shape of the data."""

    def rule(t: Builder, node: Node, dy: str) -> Gradients:
        found = _reduced(t, node, dy)
        return to_first(node, t.mul(found.dy, slope(t, found)))

    return rule


def mean(t: Builder, node: Node, dy: str) -> Gradients:
    """Means and sums over axes, and the global average pool."""
    x = tensor_of(node)
    if node.op == "GlobalAveragePool":
        axes = list(range(2, x.rank))
    else:
        _, _, dy, axes = _reduced(t, node, dy)
    if node.op != "ReduceSum":
        dy = _shared(t, dy, x, axes)
    return to_first(node, t.spread(dy, x))


def _shared(t: Builder, dy: str, x: Tensor, axes: list[int]) -> str:
    """Divide by the number of positions that are averaged."""
    sizes = [x.size(axis) for axis in axes]
    if None in sizes:
        return t.over(dy, t.over(t.count(x.name), t.count(dy)))
    return t.scaled(dy, 1 / math.prod(size for size in sizes if size))


def global_maximum(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy for the largest position of each channel."""
    return [t.mul(dy, t.mask("Equal", tensor_of(node).name, node.outputs[0].name))]


def _steep(t: Builder, x: str, p: float) -> str:
    """The slope of |x|ᵖ, over p."""
    size = t.emit("Abs", x)
    return t.mul(t.emit("Sign", x), t.emit("Pow", size, t.constant(p - 1)))


def _under_root(t: Builder, node: Node, dy: str, p: float) -> str:
    """Dy over yᵖ⁻¹, for y the p-th root of a sum."""
    y = t.emit("Max", node.outputs[0].name, t.constant(1e-7))
    return t.over(dy, t.emit("Pow", y, t.constant(p - 1)))


def global_power(t: Builder, node: Node, dy: str) -> Gradients:
    """The p-norm of each channel."""
    p = float(node.attrs.get("p", 2))
    return [t.mul(_under_root(t, node, dy, p), _steep(t, tensor_of(node).name, p))]


def power(t: Builder, node: Node, dy: str) -> Gradients:
    """The p-norm of each window: dy / yᵖ⁻¹ goes to every position of it."""
    p, window = float(node.attrs.get("p", 2)), Window(node, tuple(node.attrs["kernel_shape"]))
    share = _to_windows(t, node, _under_root(t, node, dy, p), window)
    return [t.mul(share, _steep(t, tensor_of(node).name, p))]


def _to_windows(t: Builder, node: Node, dy: str, window: Window) -> str:
    """Add dy to every position of its window."""
    channels = tensor_of(node).size(1) or 0
    need(channels)
    ones = t.constant(np.ones((channels, 1, *window.kernel)))
    return t.emit("ConvTranspose", dy, ones, group=channels, **window.back())


def average(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy spread evenly over each window."""
    window = Window(node, tuple(node.attrs["kernel_shape"]))
    beyond = not all(r <= p for r, p in zip(window.rest, window.end, strict=True))
    whole = bool(node.attrs.get("count_include_pad", 0))
    need(not (whole and beyond))
    counts = np.float64(math.prod(window.kernel)) if whole else _counts(window)
    return [_to_windows(t, node, t.mul(dy, t.constant(1 / counts)), window)]


def _counts(window: Window) -> Floats:
    """How many positions of the input each window holds, over all spatial axes."""
    each = []
    for k in range(window.rank):
        starts = np.arange(window.out[k]) * window.strides[k] - window.begin[k]
        at = starts[:, None] + np.arange(window.kernel[k]) * window.dilations[k]
        each.append(((at >= 0) & (at < window.sizes[k])).sum(1).astype(np.float64))
    return np.asarray(reduce(np.multiply.outer, each))


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
