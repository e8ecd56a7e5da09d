"""What a gradient becomes on its way back through an operator: the table, and what rules share.

A rule takes the gradient dy of the operator's first result and gives that of every input, None
where it has none. A joint rule takes the gradients of all results. Operators without a rule stop
gradients: what lies before them is not tuned. The rules stand in `<family>_gradient`, those of
elementwise functions beside the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from onnxprune.ops.builder import Builder, UnknownFormError
from onnxprune.ops.registry import register
from onnxprune.types import Node, Tensor

__all__ = [
    "CHANGED",
    "FLAT",
    "GRADIENTS",
    "GradientRule",
    "Gradients",
    "JointRule",
    "Slope",
    "behind_bias",
    "by_slope",
    "first",
    "gradient",
    "joint_gradient",
    "need",
    "ramp",
    "sizes_of",
    "tensor_of",
    "text_of",
    "to_first",
]

Gradients: TypeAlias = list[str | None]
GradientRule: TypeAlias = Callable[[Builder, Node, str], Gradients]
#: Takes the gradient of each result, also of omitted ones; None where nothing that is compared
#: depends on it.
JointRule: TypeAlias = Callable[[Builder, Node, Sequence[str | None]], Gradients]
#: f′(x) of an elementwise function, from the names of x and y = f(x).
Slope: TypeAlias = Callable[[Builder, str, str, Node], str]

GRADIENTS: dict[str, JointRule] = {}
#: Operators whose results do not move with their inputs: steps, comparisons, sizes and places.
FLAT: set[str] = set()
#: Operators that onnx takes to later versions with another meaning.
CHANGED: frozenset[str] = frozenset({"Resize", "RoiAlign", "Upsample"})


def gradient(*ops: str) -> Callable[[GradientRule], GradientRule]:
    """Register how gradients pass operators, from their first result."""

    def add(rule: GradientRule) -> GradientRule:
        register(GRADIENTS, ops)(first(rule))
        return rule

    return add


def joint_gradient(*ops: str) -> Callable[[JointRule], JointRule]:
    """Register how gradients pass operators, from any of their results."""
    return register(GRADIENTS, ops)


def first(rule: GradientRule) -> JointRule:
    """Make a rule one of all results, which refuses gradients of others than the first."""

    def joint(t: Builder, node: Node, grads: Sequence[str | None]) -> Gradients:
        dy, *others = grads
        need(dy and not any(others))
        return rule(t, node, dy or "")

    return joint


def need(value: object) -> None:
    """Refuse a form that a rule does not cover."""
    if not value:
        raise UnknownFormError


def tensor_of(node: Node, index: int = 0) -> Tensor:
    """Give input `index`, whose rank must be known."""
    tensor = node.input(index)
    need(tensor is not None and tensor.rank >= 0)
    assert tensor is not None
    return tensor


def sizes_of(tensor: Tensor) -> tuple[int, ...]:
    """Give all sizes, which must be static."""
    sizes = tuple(tensor.size(k) or 0 for k in range(tensor.rank))
    need(all(sizes))
    return sizes


def text_of(node: Node, name: str, usual: str = "") -> str:
    """Give an attribute that holds text."""
    value = node.attrs.get(name, usual)
    return value.decode() if isinstance(value, bytes) else str(value)


def to_first(node: Node, grad: str) -> Gradients:
    """Give the first input a gradient and all others none."""
    return [grad, *[None] * (len(node.inputs) - 1)]


def by_slope(slope: Slope) -> GradientRule:
    """Make the rule of an elementwise function: dy times its slope."""

    def rule(t: Builder, node: Node, dy: str) -> Gradients:
        x, y = tensor_of(node).name, node.outputs[0].name
        return to_first(node, t.mul(dy, slope(t, x, y, node)))

    return rule


def behind_bias(slope: Callable[[Builder, str], str]) -> GradientRule:
    """Make the rule of a function of data plus a bias, if there is one, from its slope."""

    def rule(t: Builder, node: Node, dy: str) -> Gradients:
        x, bias = tensor_of(node), node.input(1)
        if bias is None:
            return to_first(node, t.mul(dy, slope(t, x.name)))
        grad = t.mul(dy, slope(t, t.emit("Add", x.name, bias.name)))
        return [grad, t.summed(grad, bias, x)]

    return rule


def ramp(t: Builder, y: str) -> str:
    """Mark where y is positive with ones: a steep ramp, which is faster than a comparison."""
    steep = 1e30 if t.dtype.itemsize > 2 else 6e4
    return t.emit("Clip", t.scaled(y, steep), t.constant(0.0), t.constant(1.0))
