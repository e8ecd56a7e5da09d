"""What a gradient becomes on its way back through an operator: the table, and what rules share.

A rule takes the gradient dy of the operator's (first) result and gives that of every input, None
where none is needed. Operators without a rule stop gradients: what lies before them is not tuned.
The rules stand in `<family>_gradient`, those of elementwise functions beside the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from onnxprune.ops.builder import Builder
from onnxprune.ops.registry import register
from onnxprune.types import Node, Tensor

__all__ = [
    "FLAT",
    "GRADIENTS",
    "GradientRule",
    "Gradients",
    "Slope",
    "UnknownFormError",
    "by_slope",
    "gradient",
    "need",
    "ramp",
    "sizes_of",
    "tensor_of",
    "to_first",
]

Gradients: TypeAlias = list[str | None]
GradientRule: TypeAlias = Callable[[Builder, Node, str], Gradients]
#: f′(x) of an elementwise function, from the names of x and y = f(x).
Slope: TypeAlias = Callable[[Builder, str, str, Node], str]

GRADIENTS: dict[str, GradientRule] = {}
#: Operators whose results do not move with their inputs: steps, comparisons, sizes and places.
FLAT: set[str] = set()


class UnknownFormError(Exception):
    """The rule does not cover this form of the operator."""


def gradient(*ops: str) -> Callable[[GradientRule], GradientRule]:
    """Register how gradients pass operators."""
    return register(GRADIENTS, ops)


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


def to_first(node: Node, grad: str) -> Gradients:
    """Give the first input a gradient and all others none."""
    return [grad, *[None] * (len(node.inputs) - 1)]


def by_slope(slope: Slope) -> GradientRule:
    """Make the rule of an elementwise function: dy times its slope."""

    def rule(t: Builder, node: Node, dy: str) -> Gradients:
        x, y = tensor_of(node).name, node.outputs[0].name
        return to_first(node, t.mul(dy, slope(t, x, y, node)))

    return rule


def ramp(t: Builder, y: str) -> str:
    """Mark where y is positive with ones: a steep ramp, which is faster than a comparison."""
    steep = 1e30 if t.dtype.itemsize > 2 else 6e4
    return t.emit("Clip", t.scaled(y, steep), t.constant(0.0), t.constant(1.0))
