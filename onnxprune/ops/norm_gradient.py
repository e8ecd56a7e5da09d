"""Gradients of normalisations and of Softmax."""

from __future__ import annotations

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, to_first
from onnxprune.types import Node

__all__ = [
    "batch_normalization",
    "layer_normalization",
    "log_softmax",
    "root_mean_square",
    "softmax",
]


def _axis(node: Node) -> int:
    """The axis of a Softmax, which must be a single one."""
    axis = int(node.attrs.get("axis", -1 if node.opset >= 13 else 1))
    need(node.opset >= 13 or axis in (-1, node.outputs[0].rank - 1))
    return axis


def softmax(t: Builder, node: Node, dy: str) -> Gradients:
    """Y · (dy - Σ dy · y)."""
    y = node.outputs[0]
    axis = _axis(node)
    both = t.mul(dy, y.name)
    share = t.along("ReduceSum", both, [axis])
    return [t.minus(both, t.mul(y.name, share))]


def layer_normalization(t: Builder, node: Node, dy: str) -> Gradients:
    """Dx = (g - mean(g) - x̂ mean(g x̂)) / σ with g = dy · scale."""
    x = tensor_of(node)
    need(int(node.attrs.get("axis", -1)) in (-1, x.rank - 1))
    centred = t.minus(x.name, t.mean(x.name, -1))
    variance = t.mean(t.mul(centred, centred), -1)
    epsilon = t.constant(float(node.attrs.get("epsilon", 1e-5)))
    spread = t.emit("Sqrt", t.emit("Add", variance, epsilon))
    unit = t.over(centred, spread)
    g = t.mul(dy, tensor_of(node, 1).name)
    rest = t.minus(t.minus(g, t.mean(g, -1)), t.mul(unit, t.mean(t.mul(g, unit), -1)))
    return to_first(node, t.over(rest, spread))


def batch_normalization(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy times the scale of its channel."""
    need(len(node.outputs) == 1)
    x, (scale, variance) = tensor_of(node), (tensor_of(node, 1), tensor_of(node, 4))
    epsilon = t.constant(float(node.attrs.get("epsilon", 1e-5)))
    slope = t.over(scale.name, t.emit("Sqrt", t.emit("Add", variance.name, epsilon)))
    column = t.along("Unsqueeze", slope, list(range(1, x.rank - 1))) if x.rank > 2 else slope
    return to_first(node, t.mul(dy, column))


def log_softmax(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy - eʸ · Σ dy."""
    y = node.outputs[0]
    axis = _axis(node)
    share = t.along("ReduceSum", dy, [axis])
    return [t.minus(dy, t.mul(t.emit("Exp", y.name), share))]


def root_mean_square(t: Builder, node: Node, dy: str) -> Gradients:
    """Dx = (g - x̂ mean(g x̂)) / σ with g = dy · scale and σ² = mean(x²)."""
    x = tensor_of(node)
    need(int(node.attrs.get("axis", -1)) in (-1, x.rank - 1) and len(node.outputs) == 1)
    square = t.mean(t.mul(x.name, x.name), -1)
    spread = t.emit("Sqrt", t.plus(square, float(node.attrs.get("epsilon", 1e-5))))
    unit = t.over(x.name, spread)
    g = t.mul(dy, tensor_of(node, 1).name)
    rest = t.minus(g, t.mul(unit, t.mean(t.mul(g, unit), -1)))
    return to_first(node, t.over(rest, spread))
