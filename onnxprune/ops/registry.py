"""The tables of what is known about operators, and the families most of them belong to.

A rule is a pure function of one node. It *couples* positions of axes that live and die
together, and mentions no axis that must stay whole: silence means frozen. More facets sit beside
it where they differ from nothing: `shrinks` (attributes and shape inputs that hold a width),
`macs` (multiply-accumulates), `kernel` (where the weight lies) and others below. What stages
beyond cutting know of an operator is registered beside this too, in the tables of `facets`,
`constants`, `moments` and `gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from onnxprune.types import (
    Axis,
    Coupling,
    Edit,
    Fact,
    Free,
    Ints,
    Kept,
    Kernel,
    Node,
    Quantized,
    Tensor,
    Work,
)

__all__ = [
    "BARRIERS",
    "COUPLINGS",
    "DIVISORS",
    "JUMPS",
    "KERNELS",
    "MACS",
    "PLACES",
    "QUANTIZED",
    "SCALES",
    "SHRINKS",
    "SUMS",
    "barrier",
    "by_key",
    "couples",
    "divides",
    "free",
    "inexact",
    "kernel",
    "kernels_of",
    "macs",
    "places",
    "quantized",
    "register",
    "same",
    "same_but",
    "shrinks",
    "stored_entries",
    "sums",
    "works_of",
]

Rule: TypeAlias = Callable[[Node], Iterable[Fact]]
ShrinkRule: TypeAlias = Callable[[Node, Kept], Edit]
WorkRule: TypeAlias = Callable[[Node], Work | Sequence[Work] | None]
KernelRule: TypeAlias = Callable[[Node], Kernel | Sequence[Kernel] | None]
#: By axis the position of the first input at each position of the result, -1 where a zero stands;
#: axes that are not mentioned are as they were. None: unknown, or not zero.
PlaceRule: TypeAlias = Callable[[Node], Mapping[int, Ints] | None]
SumRule: TypeAlias = Callable[[Node], Iterable[tuple[int, int]]]
QuantizedRule: TypeAlias = Callable[[Node], Iterable[Quantized]]
F = TypeVar("F", bound=Callable[..., object])

COUPLINGS: dict[str, Rule] = {}
SHRINKS: dict[str, ShrinkRule] = {}
MACS: dict[str, WorkRule] = {}
KERNELS: dict[str, KernelRule] = {}
#: Operators that can never have a rule, and why; for the table and for messages.
BARRIERS: dict[str, str] = {}
SUMS: dict[str, SumRule] = {}
PLACES: dict[str, PlaceRule] = {}
QUANTIZED: dict[str, QuantizedRule] = {}
#: Inputs that must not be zero, or the masked reference would divide by it.
DIVISORS: dict[str, tuple[int, ...]] = {}
#: Operators that turn a difference in the last bit into a larger one.
JUMPS: set[str] = set()
#: The input that holds one learnt scale per channel.
SCALES: dict[str, int] = {}


def register(table: dict[str, F], ops: tuple[str, ...]) -> Callable[[F], F]:
    """Enter one rule of several operators into a table, once."""

    def add(function: F) -> F:
        for op in ops:
            if op in table:
                raise ValueError(f"{op} is registered twice: {table[op]} and {function}")
            table[op] = function
        return function

    return add


def couples(*ops: str) -> Callable[[Rule], Rule]:
    """Register a coupling rule for operators, `Op` or `domain:Op`."""
    return register(COUPLINGS, ops)


def shrinks(*ops: str) -> Callable[[ShrinkRule], ShrinkRule]:
    """Register what else changes in a node whose tensors lose positions."""
    return register(SHRINKS, ops)


def macs(*ops: str) -> Callable[[WorkRule], WorkRule]:
    """Register the multiply-accumulates of operators; unlisted operators count none."""
    return register(MACS, ops)


def kernel(*ops: str) -> Callable[[KernelRule], KernelRule]:
    """Register where operators keep their weight."""
    return register(KERNELS, ops)


def works_of(node: Node) -> tuple[Work, ...]:
    """The multiply-accumulates of a node; a recurrent layer has two products."""
    count = MACS.get(node.op)
    found = count(node) if count else None
    return (found,) if isinstance(found, Work) else tuple(found or ())


def kernels_of(node: Node) -> tuple[Kernel, ...]:
    """The weights of a node; a recurrent layer has two."""
    find = KERNELS.get(node.op)
    found = find(node) if find else None
    return (found,) if isinstance(found, Kernel) else tuple(found or ())


def places(*ops: str) -> Callable[[PlaceRule], PlaceRule]:
    """Register which positions operators take along some axes, and where they put zeros."""
    return register(PLACES, ops)


def sums(*ops: str) -> Callable[[SumRule], SumRule]:
    """Register which (input, axis) are summed over: dead positions there must be zero.

    Needed only where no stored weight takes part in the sum; the reference masks them.
    """
    return register(SUMS, ops)


def quantized(*ops: str) -> Callable[[QuantizedRule], QuantizedRule]:
    """Register which inputs are integers that stand for real numbers: zero is their zero point."""
    return register(QUANTIZED, ops)


def barrier(reason: str, *ops: str) -> None:
    """Declare that all axes of operators stay whole, and why."""
    for op in ops:
        if op in BARRIERS or op in COUPLINGS:
            raise ValueError(f"{op} is registered twice")
        BARRIERS[op] = reason


def divides(index: int, *ops: str) -> None:
    """Declare input `index` of operators a divisor."""
    for op in ops:
        DIVISORS[op] = (*DIVISORS.get(op, ()), index)


def jumps(*ops: str) -> None:
    """Declare that operators round or compare: their results jump where their inputs do not."""
    JUMPS.update(ops)


def same(x: Tensor | None, i: int, y: Tensor | None, j: int) -> Iterator[Coupling]:
    """Axis `i` of `x` is axis `j` of `y`, position by position, if both sizes are static."""
    if x is not None and y is not None and x.size(i) is not None and x.size(i) == y.size(j):
        yield Coupling(x.at(i), y.at(j))


def same_but(axes: Iterable[int], x: Tensor | None, y: Tensor) -> Iterator[Coupling]:
    """Every axis of `x` is the same axis of `y`, except `axes`."""
    if x is None or x.rank != y.rank:
        return
    left_out = {axis % max(x.rank, 1) for axis in axes}
    for axis in range(x.rank):
        if axis not in left_out:
            yield from same(x, axis, y, axis)


def inexact(what: str, couplings: Iterable[Coupling]) -> Iterator[Coupling]:
    """The same couplings, whose removal changes `what` for the positions that stay."""
    return (coupling._replace(inexact=what) for coupling in couplings)


def free(tensor: Tensor | None) -> Iterator[Free]:
    """No static axis of `tensor` matters to the operator."""
    if tensor is not None:
        yield from (Free(tensor.at(i)) for i in range(tensor.rank) if tensor.size(i) is not None)


def stored_entries(tensor: Tensor | None, n: int) -> tuple[int | None, ...]:
    """Entries of a shape input of `n` entries; None for all of one that the graph computes."""
    entries = tensor.ints() if tensor is not None and tensor.constant else None
    if entries is not None:
        return entries
    computed = tensor.size(0) if tensor is not None and tensor.rank == 1 else None
    return (None,) * (n if computed is None else computed)


def by_key(a: Axis, a_key: Ints, b: Axis, b_key: Ints) -> Coupling:
    """Positions of both axes with equal keys live and die together; keys are 0 … n - 1 in both."""
    first_a, first_b = (np.unique(key, return_index=True)[1] for key in (a_key, b_key))
    return Coupling(
        a,
        b,
        np.concatenate([np.arange(len(a_key)), first_a[b_key]]),
        np.concatenate([first_b[a_key], np.arange(len(b_key))]),
    )
