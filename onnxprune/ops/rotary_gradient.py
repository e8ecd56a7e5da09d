"""Gradients of RotaryEmbedding: the same rotation by the opposite angle."""

from __future__ import annotations

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, tensor_of, to_first
from onnxprune.types import Node

__all__ = ["rotary"]


def rotary(t: Builder, node: Node, dy: str) -> Gradients:
    """Rotate dy back: with -sin in place of sin."""
    domain, _, op = node.op.rpartition(":")
    names = [tensor.name if tensor else "" for tensor in node.inputs]
    at = 3 if domain else 2
    names[0], names[at] = dy, t.emit("Neg", tensor_of(node, at).name)
    return to_first(node, t.emit(op, *names, domain=domain, **node.attrs))
