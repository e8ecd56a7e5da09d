"""Operators that treat every position alike: unary, and binary with broadcasting.

Functions of one tensor are listed in `activations` and `functions`.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.ops import activations, elementwise_gradient, reshape_gradient
from onnxprune.ops.constants import constant, elementwise, followed, zeros_of
from onnxprune.ops.facets import (
    ARITHMETIC,
    CASTS,
    CHOICES,
    COPIES,
    DECIDING,
    FUNCTIONS,
    ORDERS,
    RANDOM,
    mark,
    state,
)
from onnxprune.ops.gradients import FLAT, gradient
from onnxprune.ops.moments import combined, kept, moments
from onnxprune.ops.registry import couples, divides, jumps, same, same_but
from onnxprune.ops.turning import LINEAR
from onnxprune.types import Coupling, Frozen, Node, Tensor

__all__ = ["broadcast"]

#: Beside the functions of `FUNCTIONS`.
UNARY = """
    BitCast BitwiseNot Cast Ceil Dropout Floor Identity IsInf IsNaN Not OptionalGetElement Round
    Sign
    """.split()
COMPARISONS = "Equal Greater GreaterOrEqual Less LessOrEqual".split()
LOGIC = "And BitShift BitwiseAnd BitwiseOr BitwiseXor Or Xor".split()
BROADCASTING = [
    *COMPARISONS,
    *LOGIC,
    *"Add Div Max Mean Min Mod Mul PRelu Pow Sub Sum SwiGLU Where".split(),
]


@couples(*UNARY, *(op for op in FUNCTIONS if op not in activations.CONTRIBUTED))
def unary(node: Node) -> Iterator[Coupling]:
    """Every output (Dropout has a mask too) has the axes of the first input."""
    for y in node.outputs:
        yield from same_but((), node.input(0), y)


@couples("CastLike")
def cast_like(node: Node) -> Iterator[Coupling]:
    """Only the type of the second input matters."""
    yield from same_but((), node.input(0), node.outputs[0])


@couples(*BROADCASTING)
def broadcasting(node: Node) -> Iterator[Coupling | Frozen]:
    """Axes are aligned at the end; an axis of size 1 serves every position."""
    yield from broadcast(node.inputs, node.outputs[0])


def broadcast(inputs: tuple[Tensor | None, ...], y: Tensor) -> Iterator[Coupling | Frozen]:
    """Couple the axes of `inputs` with those of `y` under numpy's broadcasting rules."""
    for x in (x for x in inputs if x is not None):
        for j in range(y.rank):
            i = j - y.rank + x.rank
            if x.shape is None or (i >= 0 and isinstance(x.shape[i], str)):
                if y.size(j) is not None:
                    yield Frozen(y.at(j), f"'{x.name}' may or may not be broadcast over it")
            elif i >= 0:
                yield from same(x, i, y, j)


jumps("Cast", "Ceil", "Floor", "Mod", "Round", "Sign", *COMPARISONS)
divides(1, "Div", "Mod")
divides(0, "Reciprocal", "Pow", "Log")

state(ARITHMETIC, "+", "Add", "Sum")
state(ARITHMETIC, "-", "Sub")
state(ARITHMETIC, "*", "Mul")
state(ARITHMETIC, "/", "Div")
state(COPIES, "passes", "Dropout", "Identity")
state(LINEAR, False, "Neg")
state(ORDERS, True, "Equal")
state(ORDERS, False, *(op for op in COMPARISONS if op != "Equal"))
mark(CASTS, "Cast", "CastLike")
mark(CHOICES, "Where")
mark(RANDOM, "Dropout")
state(DECIDING, (), "Add", "Cast", "Identity", "Mul", "Neg", "Sub")
state(DECIDING, (0,), "Where")

constant(*ARITHMETIC, "Max", "Mean", "Min", "PRelu", "Pow")(elementwise)
constant("Dropout", "Identity")(followed())
constant("Cast", "CastLike")(followed(lambda node, axis, found, reached: zeros_of(found)))
moments(*ARITHMETIC)(combined)
moments("Dropout", "Identity")(kept)

mark(
    FLAT,
    "BitwiseNot",
    "Ceil",
    "Floor",
    "IsInf",
    "IsNaN",
    "Not",
    "Round",
    "Sign",
    *COMPARISONS,
    *LOGIC,
)
gradient("Add", "Sum")(elementwise_gradient.add)
gradient("Sub")(elementwise_gradient.subtract)
gradient("Mul")(elementwise_gradient.multiply)
gradient("Div")(elementwise_gradient.divide)
gradient("Mean")(elementwise_gradient.average)
gradient("Max", "Min")(elementwise_gradient.extreme)
gradient("Pow")(elementwise_gradient.power)
gradient("PRelu")(elementwise_gradient.prelu)
gradient("Where")(elementwise_gradient.where)
gradient("Dropout", "Identity")(reshape_gradient.passed)
gradient("Cast")(reshape_gradient.cast)
