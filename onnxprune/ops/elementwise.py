"""Operators that treat every position alike: unary, and binary with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator

from onnxprune.ops.registry import couples, divides, jumps, same, same_but
from onnxprune.types import Coupling, Frozen, Node, Tensor

__all__ = ["broadcast"]

UNARY = """
    Abs Acos Acosh Asin Asinh Atan Atanh BitCast BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout
    Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not
    OptionalGetElement Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign
    Sqrt Swish Tan Tanh ThresholdedRelu
    """.split()
BROADCASTING = """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less
    LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum SwiGLU Where Xor
    """.split()


@couples(*UNARY)
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


jumps("Cast", "Ceil", "Equal", "Floor", "Mod", "Round", "Sign")
jumps("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
divides(1, "Div", "Mod")
divides(0, "Reciprocal", "Pow", "Log")
