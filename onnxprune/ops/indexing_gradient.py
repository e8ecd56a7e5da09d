"""Gradients of operators that pick or put elements at places which a run tells."""

from __future__ import annotations

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, text_of, to_first
from onnxprune.types import Node, Tensor

__all__ = [
    "gather_elements",
    "gather_nd",
    "largest",
    "reverse_sequence",
    "scatter_elements",
    "scatter_nd",
    "triangle",
]


def gather_elements(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy added to where each element was read."""
    need(t.opset >= 16)
    x, axis = tensor_of(node), int(node.attrs.get("axis", 0))
    zeros, at = t.spread(t.constant(0.0), x), tensor_of(node, 1).name
    return to_first(node, t.emit("ScatterElements", zeros, at, dy, axis=axis, reduction="add"))


def gather_nd(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy added to where each slice was read."""
    x, index = tensor_of(node), tensor_of(node, 1)
    depth = index.size(-1) or 0
    need(t.opset >= 16 and depth and not node.attrs.get("batch_dims", 0))
    sizes, some = t.sizes(x.name), t.constant([-1], np.int64)
    rest = t.cut(sizes, 0, depth, None)
    width = t.emit("ReduceProd", rest) if depth < x.rank else t.constant([1], np.int64)
    rows = t.emit("Concat", some, width, axis=0)
    places = t.emit("Reshape", _numbers(t, index, depth, sizes), t.constant([-1, 1], np.int64))
    zeros = t.emit("Reshape", t.spread(t.constant(0.0), x), rows)
    made = t.added(zeros, 0, places, t.emit("Reshape", dy, rows))
    return to_first(node, t.emit("Reshape", made, sizes))


def _numbers(t: Builder, index: Tensor, depth: int, sizes: str) -> str:
    """The number of each place among all of the first `depth` axes, from its position on each."""
    zero = number = t.constant(0, np.int64)
    for k in range(depth):
        size, at = t.take(sizes, 0, [k]), t.take(index.name, index.rank - 1, [k])
        from_end = t.emit("Where", t.emit("Less", at, zero), size, zero)
        number = t.total([t.mul(number, size), at, from_end])
    return number


def scatter_elements(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy without what was overwritten, and what was written there."""
    need(text_of(node, "reduction", "none") == "none")
    at, axis = tensor_of(node, 1).name, int(node.attrs.get("axis", 0))
    nothing = t.spread(t.constant(0.0), tensor_of(node, 1))
    to_x = t.emit("ScatterElements", dy, at, nothing, axis=axis)
    return [to_x, None, t.emit("GatherElements", dy, at, axis=axis)]


def scatter_nd(t: Builder, node: Node, dy: str) -> Gradients:
    """The same for slices."""
    need(text_of(node, "reduction", "none") == "none")
    at = tensor_of(node, 1).name
    nothing = t.spread(t.constant(0.0), tensor_of(node, 2))
    return [t.emit("ScatterND", dy, at, nothing), None, t.emit("GatherND", dy, at)]


def largest(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy put back to where the largest elements stood, which the second result tells."""
    need(len(node.outputs) == 2)
    x, places = tensor_of(node), node.outputs[1].name
    zeros, axis = t.spread(t.constant(0.0), x), int(node.attrs.get("axis", -1))
    return to_first(node, t.emit("ScatterElements", zeros, places, dy, axis=axis))


def triangle(t: Builder, node: Node, dy: str) -> Gradients:
    """The same triangle of dy."""
    given = node.input(1)
    at = [] if given is None else [given.name]
    return to_first(node, t.emit("Trilu", dy, *at, upper=int(node.attrs.get("upper", 1))))


def reverse_sequence(t: Builder, node: Node, dy: str) -> Gradients:
    """Turned round once more."""
    axes = {k: int(node.attrs[k]) for k in ("batch_axis", "time_axis") if k in node.attrs}
    return to_first(node, t.emit("ReverseSequence", dy, tensor_of(node, 1).name, **axes))
