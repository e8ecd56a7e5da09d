"""Channels that always carry one number, whatever the model is fed: the table, and common rules.

A rule takes a node and what is known of its inputs: one number per position of an axis, the value
that every element there has, NaN where it varies. It gives the same for axes of the results; an
operator without a rule makes everything vary, which is always safe. Most rules are one of those
here; what products make of constants is in `constants_products`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.facets import ARITHMETIC
from onnxprune.ops.registry import COUPLINGS, register
from onnxprune.types import Axis, Choice, Coupling, Floats, Ints, Node, Read, Tensor

__all__ = [
    "CONSTANTS",
    "After",
    "ConstantRule",
    "Numbers",
    "constant",
    "content",
    "elementwise",
    "filled",
    "followed",
    "of_stored",
    "unknown",
    "zeros_of",
]

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Numbers:
    """What a rule may ask: `of` an axis of an input, what is stored, what the operator makes.

    `of` gives (size,) numbers, NaN where they vary. `run` computes a node on rows (n,), one for
    each input that is there; None where it cannot be run.
    """

    of: Callable[[Tensor, int], Floats]
    read: Read
    run: Callable[[Node, Sequence[Array | None]], Array | None]


ConstantRule: TypeAlias = Callable[[Node, Numbers], Iterable[tuple[Axis, Floats]]]
#: What an operator does to numbers (size,) that arrive at an axis of its result, and which
#: positions anything arrives at.
After: TypeAlias = Callable[[Node, int, Floats, NDArray[np.bool_]], Floats]
CONSTANTS: dict[str, ConstantRule] = {}


def constant(*ops: str) -> Callable[[ConstantRule], ConstantRule]:
    """Register what operators make of channels that carry one number."""
    return register(CONSTANTS, ops)


def zeros_of(values: Floats) -> Floats:
    """Keep the zeros of what is known."""
    return np.where(values == 0, 0.0, np.nan)


def unknown(values: Floats) -> Floats:
    """Say that all vary."""
    return np.full_like(values, np.nan)


def of_stored(values: Array) -> Mapping[int, Floats]:
    """Find, for every axis of a stored tensor, the positions that hold one value throughout."""
    found = {}
    for axis in range(values.ndim):
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        if rows.size and np.issubdtype(values.dtype, np.floating):
            low, high = rows.min(1).astype(np.float64), rows.max(1).astype(np.float64)
            found[axis] = np.where(low == high, low, np.nan)
    return found


def content(tensor: Tensor, read: Read) -> Array | None:
    """Give what a tensor always holds: stored, or computed from sizes that never change."""
    if tensor.value is not None and tensor.known is None:
        return tensor.value
    return read(tensor.name) if tensor.constant else None


def filled(y: Tensor, number: Array | None) -> Iterator[tuple[Axis, Floats]]:
    """Say that a result holds one number everywhere, if it is a single real one."""
    if number is not None and number.size == 1 and np.issubdtype(number.dtype, np.floating):
        for k in range(y.rank):
            yield y.at(k), np.full(y.size(k) or 0, float(number.ravel()[0]))


def elementwise(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Run the operator itself on one number per position."""
    y = node.outputs[0]
    for k in range(y.rank):
        size = y.size(k)
        if size is None or size < 2:
            continue
        rows = [None if t is None else _aligned(t, k - y.rank, size, numbers) for t in node.inputs]
        stacked = np.array([row for row in rows if row is not None])
        zero = (stacked == 0).any(0) & (ARITHMETIC.get(node.op) == "*")
        whole = ~np.isnan(stacked).any(0)
        if whole.any():
            operands = map(_operand, node.inputs, rows)
            result = numbers.run(node, list(operands))
            if result is not None:
                made = np.where(np.isfinite(result), result.astype(np.float64), np.nan)
                yield y.at(k), np.where(zero, 0.0, np.where(whole, made, np.nan))
        elif zero.any():
            yield y.at(k), np.where(zero, 0.0, np.nan)


def _operand(tensor: Tensor | None, row: Floats | None) -> Array | None:
    """A row as the operator takes it: a single number stays one, as bounds must be."""
    if tensor is None or row is None:
        return None
    number = tensor.shape is not None and all(size == 1 for size in tensor.shape)
    filled_up = np.nan_to_num(row).astype(np.float32)
    return filled_up[:1].reshape(()) if number else filled_up


def _aligned(tensor: Tensor, axis: int, size: int, numbers: Numbers) -> Floats:
    """One number per position of the result's axis (counted from the end)."""
    if -axis <= tensor.rank and tensor.size(axis) == size:
        return numbers.of(tensor, axis)
    stored = content(tensor, numbers.read)
    single = stored is not None and stored.size == 1
    return np.full(size, float(stored.ravel()[0]) if single and stored is not None else np.nan)


def followed(after: After = lambda node, axis, found, reached: found) -> ConstantRule:
    """Make a rule along the couplings: a position is constant if all that flows into it agrees."""

    def rule(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
        inputs = {t.name: t for t in node.inputs if t is not None}
        flows = _flows(node, inputs)
        for y in node.outputs:
            for k in (k for k in range(y.rank) if y.at(k) in flows):
                found, reached = _merged(flows[y.at(k)], y.size(k) or 0, inputs, numbers)
                yield y.at(k), after(node, k, found, reached)

    return rule


def _flows(node: Node, inputs: Mapping[str, Tensor]) -> dict[Axis, list[tuple[Axis, Ints, Ints]]]:
    """For each axis of the results: axes of inputs, positions there, and where they arrive."""
    flows: dict[Axis, list[tuple[Axis, Ints, Ints]]] = {}
    for fact in COUPLINGS[node.op](node):
        options = fact.options if isinstance(fact, Choice) else ()
        for c in (c for o in options for c in o.couplings) if options else (fact,):
            if isinstance(c, Coupling):
                a, b, a_at, b_at = c.a, c.b, c.a_at, c.b_at
                if a.tensor not in inputs:
                    a, b, a_at, b_at = b, a, b_at, a_at
                if a.tensor in inputs and b.tensor not in inputs:
                    whole = np.arange(inputs[a.tensor].size(a.axis) or 0)
                    at = (whole, whole) if a_at is None or b_at is None else (a_at, b_at)
                    flows.setdefault(b, []).append((a, *at))
    return flows


def _merged(
    flows: Sequence[tuple[Axis, Ints, Ints]],
    size: int,
    inputs: Mapping[str, Tensor],
    numbers: Numbers,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Constants (size,) where every input that flows in agrees, and where any does.

    Axes of one input are different views of the same elements: one that is constant suffices.
    """
    by_input: dict[str, tuple[Floats, NDArray[np.bool_]]] = {}
    for axis, source, at in flows:
        low, high = np.full(size, np.inf), np.full(size, -np.inf)
        arrives = numbers.of(inputs[axis.tensor], axis.axis)[source]
        with np.errstate(invalid="ignore"):  # NaN, for a value that varies, wins
            np.minimum.at(low, at, arrives)
            np.maximum.at(high, at, arrives)
        found, seen = by_input.get(axis.tensor, (np.full(size, np.nan), np.zeros(size, bool)))
        found = np.where(np.isnan(found) & (low == high), low, found)
        by_input[axis.tensor] = found, seen | np.isin(np.arange(size), at)
    least: Floats = np.full(size, np.inf)
    most: Floats = np.full(size, -np.inf)
    for found, seen in by_input.values():
        least = np.where(seen, np.minimum(least, found), least)
        most = np.where(seen, np.maximum(most, found), most)
    return np.where(least == most, least, np.nan), np.isfinite(least) | np.isnan(least)
