"""Gradients of operators that rename positions, or hand on what they read."""

from __future__ import annotations

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, to_first
from onnxprune.types import Node

__all__ = ["cast", "expand", "passed", "reshape", "transpose"]


def reshape(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy in the shape of the data."""
    return to_first(node, t.like(dy, tensor_of(node)))


def transpose(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy with its axes put back."""
    perm = list(node.attrs.get("perm") or reversed(range(tensor_of(node).rank)))
    return [t.emit("Transpose", dy, perm=np.argsort(perm).tolist())]


def expand(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy summed over what was repeated."""
    return to_first(node, t.summed(dy, tensor_of(node), node.outputs[0]))


def passed(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy itself, for what hands on its first input."""
    return to_first(node, dy)


def cast(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy in the type of the weights, behind casts to a real type."""
    need(int(node.attrs["to"]) in (1, 11))
    return to_first(node, t.cast(dy))
