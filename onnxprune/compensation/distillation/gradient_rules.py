"""What a gradient becomes on its way back through an operator.

A rule takes the gradient dy of the operator's (first) output and gives that of every input, None
where none is needed. Operators without a rule stop gradients: what lies before them is not tuned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from onnxprune.ir.graph_builder import GraphBuilder
from onnxprune.types import Node, Tensor

__all__ = ["FLAT", "RULES", "Grads", "Rule", "UnknownFormError", "need", "sizes_of", "tensor_of"]

Grads: TypeAlias = list[str | None]
Rule: TypeAlias = Callable[[GraphBuilder, Node, str], Grads]
#: Operators whose results do not move with their inputs.
FLAT = frozenset(
    "Shape Size ConstantOfShape Equal Greater GreaterOrEqual Less LessOrEqual Not And Or ArgMax "
    "ArgMin Range NonZero Sign Floor Ceil Round IsNaN".split()
)


class UnknownFormError(Exception):
    """The rule does not cover this form of the operator."""


def need(value: object) -> None:
    """Refuse a form that a rule does not cover."""
    if not value:
        raise UnknownFormError


def tensor_of(node: Node, index: int = 0) -> Tensor:
    """Input `index`, whose rank must be known."""
    tensor = node.input(index)
    need(tensor is not None and tensor.rank >= 0)
    assert tensor is not None
    return tensor


def _elementwise(slope: Callable[[GraphBuilder, str, str, Node], str]) -> Rule:
    """Dy times a slope made of x and y."""

    def rule(t: GraphBuilder, node: Node, dy: str) -> Grads:
        return [t.emit("Mul", dy, slope(t, tensor_of(node).name, node.outputs[0].name, node))]

    return rule


def _relu(t: GraphBuilder, x: str, y: str, node: Node) -> str:
    """One where y is positive: a steep ramp, which is faster than Sign."""
    steep = 1e30 if t.dtype.itemsize > 2 else 6e4
    return t.emit("Clip", t.scaled(y, steep), t.constant(0.0), t.constant(1.0))


def _leaky(t: GraphBuilder, x: str, y: str, node: Node) -> str:
    alpha = float(node.attrs.get("alpha", 0.01))
    above = t.mask("Greater", x, t.constant(0.0))
    return t.emit("Add", t.scaled(above, 1 - alpha), t.constant(alpha))


def _gelu(t: GraphBuilder, x: str, y: str, node: Node) -> str:
    need(node.attrs.get("approximate", "none") in ("none", b"none"))
    phi = t.emit("Add", t.emit("Erf", t.scaled(x, math.sqrt(0.5))), t.constant(1.0))
    bell = t.emit("Exp", t.scaled(t.mul(x, x), -0.5))
    return t.emit("Add", t.scaled(phi, 0.5), t.scaled(t.mul(x, bell), 1 / math.sqrt(2 * math.pi)))


def _hard_sigmoid(t: GraphBuilder, x: str, y: str, node: Node) -> str:
    inside = t.mul(t.mask("Greater", y, t.constant(0.0)), t.mask("Less", y, t.constant(1.0)))
    return t.scaled(inside, float(node.attrs.get("alpha", 0.2)))


def _hard_swish(t: GraphBuilder, x: str, y: str, node: Node) -> str:
    gate = t.emit("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    inside = t.mul(t.mask("Greater", gate, t.constant(0.0)), t.mask("Less", gate, t.constant(1.0)))
    return t.emit("Add", gate, t.scaled(t.mul(x, inside), 1 / 6))


def _power(t: GraphBuilder, node: Node, dy: str) -> Grads:
    exponent = tensor_of(node, 1)
    need(exponent.value is not None and exponent.value.size == 1)
    p = float(np.asarray(exponent.value).ravel()[0])
    x = tensor_of(node).name
    slope = x if p == 2 else t.emit("Pow", x, t.constant(p - 1))
    return [t.scaled(t.mul(dy, slope), p), None]


def _add(t: GraphBuilder, node: Node, dy: str) -> Grads:
    out = node.outputs[0]
    return [t.summed(dy, tensor_of(node, k), out) for k in range(len(node.inputs))]


def _sub(t: GraphBuilder, node: Node, dy: str) -> Grads:
    out = node.outputs[0]
    return [
        t.summed(dy, tensor_of(node), out),
        t.summed(t.emit("Neg", dy), tensor_of(node, 1), out),
    ]


def _mul(t: GraphBuilder, node: Node, dy: str) -> Grads:
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    return [t.summed(t.mul(dy, b.name), a, out), t.summed(t.mul(dy, a.name), b, out)]


def _div(t: GraphBuilder, node: Node, dy: str) -> Grads:
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    over = t.emit("Div", dy, b.name)
    below = t.emit("Neg", t.mul(over, out.name))
    return [t.summed(over, a, out), t.summed(below, b, out)]


def _where(t: GraphBuilder, node: Node, dy: str) -> Grads:
    chosen, out, zero = tensor_of(node).name, node.outputs[0], t.constant(0.0)
    a, b = t.emit("Where", chosen, dy, zero), t.emit("Where", chosen, zero, dy)
    return [None, t.summed(a, tensor_of(node, 1), out), t.summed(b, tensor_of(node, 2), out)]


def _softmax(t: GraphBuilder, node: Node, dy: str) -> Grads:
    y = node.outputs[0]
    axis = int(node.attrs.get("axis", -1 if node.opset >= 13 else 1))
    need(node.opset >= 13 or axis in (-1, y.rank - 1))
    both = t.mul(dy, y.name)
    share = t.over("ReduceSum", both, [axis])
    return [t.emit("Sub", both, t.mul(y.name, share))]


def _layer_norm(t: GraphBuilder, node: Node, dy: str) -> Grads:
    """Dx = (g - mean(g) - x̂ mean(g x̂)) / σ with g = dy · scale."""
    x = tensor_of(node)
    need(int(node.attrs.get("axis", -1)) in (-1, x.rank - 1))
    centred = t.emit("Sub", x.name, t.mean(x.name, -1))
    variance = t.mean(t.mul(centred, centred), -1)
    epsilon = t.constant(float(node.attrs.get("epsilon", 1e-5)))
    spread = t.emit("Sqrt", t.emit("Add", variance, epsilon))
    unit = t.emit("Div", centred, spread)
    g = t.mul(dy, tensor_of(node, 1).name)
    rest = t.emit("Sub", t.emit("Sub", g, t.mean(g, -1)), t.mul(unit, t.mean(t.mul(g, unit), -1)))
    return [t.emit("Div", rest, spread), *[None] * (len(node.inputs) - 1)]


def _batch_norm(t: GraphBuilder, node: Node, dy: str) -> Grads:
    need(len(node.outputs) == 1)
    x, (scale, variance) = tensor_of(node), (tensor_of(node, 1), tensor_of(node, 4))
    epsilon = t.constant(float(node.attrs.get("epsilon", 1e-5)))
    slope = t.emit("Div", scale.name, t.emit("Sqrt", t.emit("Add", variance.name, epsilon)))
    column = t.over("Unsqueeze", slope, list(range(1, x.rank - 1))) if x.rank > 2 else slope
    return [t.mul(dy, column), None, None, None, None]


def _matmul(t: GraphBuilder, node: Node, dy: str) -> Grads:
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    need(a.rank >= 2 and b.rank >= 2)
    to_a = t.emit("MatMul", dy, t.swapped(b.name, b.rank))
    if b.rank == 2:
        k, n = (t.constant([-1, size], np.int64) for size in sizes_of(b))
        rows, grads = t.emit("Reshape", a.name, k), t.emit("Reshape", dy, n)
        return [to_a, t.emit("Gemm", rows, grads, transA=1)]
    to_b = t.emit("MatMul", t.swapped(a.name, a.rank), dy)
    return [t.summed(to_a, a, _batched(out, a)), t.summed(to_b, b, _batched(out, b))]


def _batched(out: Tensor, like: Tensor) -> Tensor:
    """The shape of a gradient of `like` before it is summed over batches."""
    assert out.shape is not None and like.shape is not None
    return Tensor("", (*out.shape[:-2], *like.shape[-2:]))


def sizes_of(tensor: Tensor) -> tuple[int, ...]:
    """All sizes, which must be static."""
    sizes = tuple(tensor.size(k) or 0 for k in range(tensor.rank))
    need(all(sizes))
    return sizes


def _gemm(t: GraphBuilder, node: Node, dy: str) -> Grads:
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    plain = node.attrs.get("alpha", 1.0) == 1 and node.attrs.get("beta", 1.0) == 1
    need(plain and not node.attrs.get("transA", 0))
    turned = int(node.attrs.get("transB", 0))
    to_a = t.emit("Gemm", dy, b.name, transB=1 - turned)
    pair = (dy, a.name) if turned else (a.name, dy)
    found: Grads = [to_a, t.emit("Gemm", *pair, transA=1)]
    if len(node.inputs) > 2:
        found.append(t.summed(dy, tensor_of(node, 2), out))
    return found


def _reshaped(t: GraphBuilder, node: Node, dy: str) -> Grads:
    return [t.like(dy, tensor_of(node)), *[None] * (len(node.inputs) - 1)]


def _transpose(t: GraphBuilder, node: Node, dy: str) -> Grads:
    perm = list(node.attrs.get("perm") or reversed(range(tensor_of(node).rank)))
    return [t.emit("Transpose", dy, perm=np.argsort(perm).tolist())]


def _mean(t: GraphBuilder, node: Node, dy: str) -> Grads:
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
        dy = t.over("Unsqueeze", dy, axes)
    if node.op != "ReduceSum":
        dy = t.scaled(dy, 1 / math.prod(_some(x, axes)))
    return [t.spread(dy, x), *[None] * (len(node.inputs) - 1)]


def _some(x: Tensor, axes: list[int]) -> list[int]:
    sizes = [x.size(axis) or 0 for axis in axes]
    need(all(sizes))
    return sizes


_SLOPES: Mapping[str, Callable[[GraphBuilder, str, str, Node], str]] = {
    "Relu": _relu,
    "LeakyRelu": _leaky,
    "Abs": lambda t, x, y, n: t.emit("Sign", x),
    "Neg": lambda t, x, y, n: t.constant(-1.0),
    "Sqrt": lambda t, x, y, n: t.emit("Div", t.constant(0.5), y),
    "Exp": lambda t, x, y, n: y,
    "Log": lambda t, x, y, n: t.emit("Reciprocal", x),
    "Reciprocal": lambda t, x, y, n: t.emit("Neg", t.mul(y, y)),
    "Sigmoid": lambda t, x, y, n: t.mul(y, t.emit("Sub", t.constant(1.0), y)),
    "Tanh": lambda t, x, y, n: t.emit("Sub", t.constant(1.0), t.mul(y, y)),
    "Softplus": lambda t, x, y, n: t.emit("Sigmoid", x),
    "Erf": lambda t, x, y, n: t.scaled(
        t.emit("Exp", t.emit("Neg", t.mul(x, x))), 2 / math.sqrt(math.pi)
    ),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
}


def _clip(t: GraphBuilder, node: Node, dy: str) -> Grads:
    same = t.mask("Equal", tensor_of(node).name, node.outputs[0].name)
    return [t.mul(dy, same), *[None] * (len(node.inputs) - 1)]


def _through(t: GraphBuilder, node: Node, dy: str) -> Grads:
    return [dy, *[None] * (len(node.inputs) - 1)]


def _expand(t: GraphBuilder, node: Node, dy: str) -> Grads:
    return [t.summed(dy, tensor_of(node), node.outputs[0]), None]


RULES: dict[str, Rule] = {
    **{op: _elementwise(slope) for op, slope in _SLOPES.items()},
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshaped),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "GlobalAveragePool"), _mean),
    **dict.fromkeys(("Identity", "Dropout"), _through),
    **dict.fromkeys(("Add", "Sum"), _add),
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Pow": _power,
    "Where": _where,
    "Clip": _clip,
    "Expand": _expand,
    "Softmax": _softmax,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Transpose": _transpose,
}
