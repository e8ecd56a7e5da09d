"""Gradients of onnxruntime's products and convolutions with an activation behind them.

The activation's slope follows from its result, for what stands before it is not kept.
"""

from __future__ import annotations

from onnxprune.ops.builder import Builder
from onnxprune.ops.conv_gradient import conv
from onnxprune.ops.gradients import Gradients, need, ramp, text_of
from onnxprune.ops.matmul_gradient import gemm
from onnxprune.types import Node

__all__ = ["fused_conv", "fused_gemm"]


def _before(t: Builder, node: Node, dy: str) -> str:
    """The gradient in front of a node's activation."""
    kind, y = text_of(node, "activation"), node.outputs[0].name
    if not kind:
        return dy
    given = [float(v) for v in node.attrs.get("activation_params", ())]
    if kind == "Relu":
        slope = ramp(t, y)
    elif kind == "Tanh":
        slope = t.minus(t.constant(1.0), t.mul(y, y))
    elif kind == "Sigmoid":
        slope = t.mul(y, t.minus(t.constant(1.0), y))
    elif kind == "LeakyRelu":
        alpha = given[0] if given else float(node.attrs.get("activation_alpha", 0.01))
        slope = t.plus(t.scaled(t.above(y, 0.0), 1 - alpha), alpha)
    else:
        need(kind == "Clip" and len(given) == 2)
        slope = t.mul(t.above(y, given[0]), t.mask("Less", y, t.constant(given[1])))
    return t.mul(dy, slope)


def fused_conv(t: Builder, node: Node, dy: str) -> Gradients:
    """A convolution, a tensor that is added, and an activation."""
    dy = _before(t, node, dy)
    found = conv(t, node, dy)
    return [*found, *[None] * (3 - len(found)), dy] if node.input(3) is not None else found


def fused_gemm(t: Builder, node: Node, dy: str) -> Gradients:
    """A product of matrices and an activation."""
    return gemm(t, node, _before(t, node, dy))
