"""The tables of plain facts about operators.

Facts that are rules stand in `registry`, `constants`, `moments` and `gradients`. Sets of operators
that a stage asks for are derived from these tables (`onnxprune.ops.derived`), so that an operator
whose family states its facts is known everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from onnxprune.types import Floats, Node, Pairs, Read

__all__ = [
    "AFFINE",
    "ARITHMETIC",
    "AVERAGES",
    "CASTS",
    "CHOICES",
    "COPIES",
    "DECIDING",
    "DECODERS",
    "ENCODERS",
    "EQUIVARIANT",
    "FILLS",
    "FUNCTIONS",
    "INTEGER_RESULTS",
    "LARGEST",
    "LAYERS",
    "LOOKUPS",
    "MOVES",
    "NORMALISATIONS",
    "ORDERS",
    "PAIRS",
    "PROBABILITIES",
    "RANDOM",
    "SIZES",
    "Function",
    "LayerForm",
    "mark",
    "state",
]

V = TypeVar("V")


class Function(NamedTuple):
    """An elementwise function f of one tensor; what else the operator reads are single numbers.

    Attributes:
        zero: f(0) = 0, whatever its attributes.
        activation: networks have it as the non-linearity behind a layer.
        rectifies: f(x) = 0 for every x ≤ 0.
    """

    zero: bool = False
    activation: bool = False
    rectifies: bool = False


class LayerForm(NamedTuple):
    """How an operator with a stored weight multiplies.

    Attributes:
        kind: `dense` is a product of matrices; a `convolution` slides a window (out, in, …) over
            its data, a `transposed` one lays the window (in, out, …) down for every position.
        bias: the input that takes a bias, None if there is none.
        width: the number of channels made, from attributes and the shape of the weight.
    """

    kind: Literal["dense", "convolution", "transposed"]
    bias: int | None
    width: Callable[[Mapping[str, Any], Sequence[int]], int]


#: `passes`: the result is the first input. `permutes`, `reshapes` and `picks` hold each element of
#: it once at most, `repeats` holds some several times, `joins` holds those of all inputs.
Copy: TypeAlias = Literal["passes", "permutes", "reshapes", "picks", "repeats", "joins"]
Sign: TypeAlias = Literal["+", "-", "*", "/"]
#: (scale, shift), one number for each position of axis 1; None where they are not stored.
AffineRule: TypeAlias = Callable[[Node, Read], tuple[Floats, Floats] | None]

FUNCTIONS: dict[str, Function] = {}
#: Elementwise sums, differences, products and quotients of all inputs, with broadcasting.
ARITHMETIC: dict[str, Sign] = {}
LAYERS: dict[str, LayerForm] = {}
#: Every element of the result is an element of an input.
COPIES: dict[str, Copy] = {}
#: Further operators that move values or put fixed ones beside them, and compute none.
MOVES: set[str] = set()
#: The result holds elements of either of two inputs, as a third one says.
CHOICES: set[str] = set()
#: f(a·x + b) = a·f(x) + b: done to integers it is done to the reals that they stand for.
EQUIVARIANT: set[str] = set()
#: The result is the first input in another number type.
CASTS: set[str] = set()
#: One number everywhere; the shape alone is computed.
FILLS: set[str] = set()
#: The result says how large the first input is, not what it holds.
SIZES: set[str] = set()
#: Rows of a table are looked up: the input that holds their numbers.
LOOKUPS: dict[str, int] = {}
#: Operators that compare two numbers: True where they ask for equality alone.
ORDERS: dict[str, bool] = {}
#: Operators that say where the largest or smallest number is, and not which it is.
LARGEST: set[str] = set()
#: Operators that shift and scale what they read, by stored or by its own statistics.
NORMALISATIONS: set[str] = set()
#: Those of them that are scale · x + shift per channel.
AFFINE: dict[str, AffineRule] = {}
#: Operators that divide what they add up by a width, and go on dividing by the old one (`shrinks`).
AVERAGES: set[str] = set()
#: Scores become shares of one, which do not see what all scores have in common.
PROBABILITIES: set[str] = set()
#: Which inputs must be equal for two samples so that equal results are no coincidence; others:
#: all. What only moves entries, adds or multiplies them is judged by its result.
DECIDING: dict[str, tuple[int, ...]] = {}
#: Operators that give other numbers on every run.
RANDOM: set[str] = set()
#: Operators that turn reals into integers which stand for them, by a scale that they are given, and
#: such integers into reals.
ENCODERS: set[str] = set()
DECODERS: set[str] = set()
#: Further operators whose first result holds such integers.
INTEGER_RESULTS: set[str] = set()
#: Products of bytes whose kernels add up pairs in 16 bits on some processors: where factors lie.
PAIRS: dict[str, tuple[Pairs, ...]] = {}


def mark(table: set[str], *ops: str) -> None:
    """Add operators to a table of those for which one fact holds."""
    for op in ops:
        if op in table:
            raise ValueError(f"{op} is registered twice")
        table.add(op)


def state(table: dict[str, V], value: V, *ops: str) -> None:
    """Enter one fact of several operators into a table."""
    for op in ops:
        if op in table:
            raise ValueError(f"{op} is registered twice: {table[op]} and {value}")
        table[op] = value
