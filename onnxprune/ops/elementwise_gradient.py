"""Gradients of elementwise operators on several tensors, with broadcasting."""

from __future__ import annotations

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, tensor_of
from onnxprune.types import Node

__all__ = ["add", "average", "divide", "extreme", "multiply", "power", "prelu", "subtract", "where"]


def add(t: Builder, node: Node, dy: str) -> Gradients:
    """Give every addend dy."""
    out = node.outputs[0]
    return [t.summed(dy, tensor_of(node, k), out) for k in range(len(node.inputs))]


def average(t: Builder, node: Node, dy: str) -> Gradients:
    """Give every one of n inputs dy / n."""
    return add(t, node, t.scaled(dy, 1 / len(node.inputs)))


def subtract(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy, and -dy for what is subtracted."""
    out = node.outputs[0]
    return [
        t.summed(dy, tensor_of(node), out),
        t.summed(t.emit("Neg", dy), tensor_of(node, 1), out),
    ]


def multiply(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy times the other factor."""
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    return [t.summed(t.mul(dy, b.name), a, out), t.summed(t.mul(dy, a.name), b, out)]


def divide(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy / b, and -dy · y / b for the divisor."""
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    over = t.over(dy, b.name)
    below = t.emit("Neg", t.mul(over, out.name))
    return [t.summed(over, a, out), t.summed(below, b, out)]


def power(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy · p · xᵖ⁻¹; the exponent is not tuned."""
    x, exponent, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    if exponent.value is not None and exponent.value.size == 1 and exponent.known is None:
        p = float(np.asarray(exponent.value).ravel()[0])
        slope = x.name if p == 2 else t.emit("Pow", x.name, t.constant(p - 1))
        slope = t.scaled(slope, p)
    else:
        given = t.cast(exponent.name)
        slope = t.mul(t.emit("Pow", x.name, t.plus(given, -1.0)), given)
    return [t.summed(t.mul(dy, slope), x, out), None]


def where(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy for what is chosen, zero for the other."""
    chosen, out, zero = tensor_of(node).name, node.outputs[0], t.constant(0.0)
    a, b = t.emit("Where", chosen, dy, zero), t.emit("Where", chosen, zero, dy)
    return [None, t.summed(a, tensor_of(node, 1), out), t.summed(b, tensor_of(node, 2), out)]


def extreme(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy for the inputs that hold the largest, or smallest, element."""
    out = node.outputs[0]
    inputs = [tensor_of(node, k) for k in range(len(node.inputs))]
    hits = [t.mul(dy, t.mask("Equal", x.name, out.name)) for x in inputs]
    return [t.summed(hit, x, out) for hit, x in zip(hits, inputs, strict=True)]


def prelu(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy above zero, dy · slope below; the slope gets dy · x there."""
    x, slope, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    zero = t.constant(0.0)
    positive = t.emit("Greater", x.name, zero)
    to_x = t.emit("Where", positive, dy, t.mul(dy, slope.name))
    to_slope = t.emit("Where", positive, zero, t.mul(dy, x.name))
    return [t.summed(to_x, x, out), t.summed(to_slope, slope, out)]
