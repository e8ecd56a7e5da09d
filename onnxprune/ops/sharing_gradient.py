"""Gradients of operators along an axis: shares (Softmax) and running sums."""

from __future__ import annotations

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, to_first
from onnxprune.types import Node

__all__ = ["log_softmax", "running_sum", "softmax"]


def _axes(node: Node) -> list[int]:
    """The axes of a Softmax: before version 13 all from the one it names on."""
    rank = node.outputs[0].rank
    need(rank > 0)
    axis = int(node.attrs.get("axis", -1 if node.opset >= 13 else 1)) % rank
    return [axis] if node.opset >= 13 else list(range(axis, rank))


def softmax(t: Builder, node: Node, dy: str) -> Gradients:
    """Y · (dy - Σ dy · y)."""
    y = node.outputs[0].name
    both = t.mul(dy, y)
    share = t.along("ReduceSum", both, _axes(node))
    return [t.minus(both, t.mul(y, share))]


def log_softmax(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy - eʸ · Σ dy."""
    share = t.along("ReduceSum", dy, _axes(node))
    return [t.minus(dy, t.mul(t.emit("Exp", node.outputs[0].name), share))]


def running_sum(t: Builder, node: Node, dy: str) -> Gradients:
    """The same from the other end."""
    axis, turned = tensor_of(node, 1).name, 1 - int(node.attrs.get("reverse", 0))
    exclusive = int(node.attrs.get("exclusive", 0))
    return to_first(node, t.emit("CumSum", dy, axis, reverse=turned, exclusive=exclusive))
