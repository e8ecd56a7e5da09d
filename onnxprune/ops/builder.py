"""Operators written down one by one behind a graph: the arithmetic that gradients are made of.

Whoever holds the graph lends `emit` and `constant`; what differs between versions of an operator
is known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from onnxprune.types import Ints, Tensor

__all__ = ["Builder", "Emitter"]

#: Since these versions of the operators axes are an input.
AXES_AS_INPUT = {"ReduceMean": 18, "ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}


class Emitter(Protocol):
    """A graph that grows; `kind` is ONNX's number of the type `dtype` of its weights."""

    @property
    def opset(self) -> int:
        """Version of ONNX's operators."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the weights."""

    @property
    def kind(self) -> int:
        """ONNX's number of that type."""

    def emit(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Add an operator with one output, whose name is returned."""

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a stored value, of the type of the weights where none is given."""


@dataclass(frozen=True)
class Builder:
    """Arithmetic on tensors by name; every method returns the name of its result."""

    graph: Emitter

    @property
    def opset(self) -> int:
        """Version of ONNX's operators."""
        return self.graph.opset

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the weights."""
        return self.graph.dtype

    def emit(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Write an operator with one output."""
        return self.graph.emit(op, *inputs, **attrs)

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Store a value, of the type of the weights where none is given."""
        return self.graph.constant(value, dtype)

    def cast(self, x: str) -> str:
        """Convert to the type of the weights."""
        return self.emit("Cast", x, to=self.graph.kind)

    def mask(self, op: str, a: str, b: str) -> str:
        """Compare, with zeros and ones for false and true."""
        return self.cast(self.emit(op, a, b))

    def above(self, x: str, limit: float) -> str:
        """Mark where `x` is greater than a number with ones, all else with zeros."""
        return self.mask("Greater", x, self.constant(limit))

    def plus(self, x: str, number: float) -> str:
        """Add a number."""
        return self.emit("Add", x, self.constant(number))

    def scaled(self, x: str, factor: float) -> str:
        """Multiply by a number."""
        return self.emit("Mul", x, self.constant(factor))

    def minus(self, a: str, b: str) -> str:
        """Subtract `b` from `a`."""
        return self.emit("Sub", a, b)

    def over(self, a: str, b: str) -> str:
        """Divide `a` by `b`."""
        return self.emit("Div", a, b)

    def mul(self, *factors: str) -> str:
        """Multiply all."""
        made = factors[0]
        for factor in factors[1:]:
            made = self.emit("Mul", made, factor)
        return made

    def total(self, terms: Sequence[str]) -> str:
        """Add all."""
        made = terms[0]
        for term in terms[1:]:
            made = self.emit("Add", made, term)
        return made

    def count(self, x: str) -> str:
        """Count the elements."""
        return self.cast(self.emit("Size", x))

    def shares(self, scores: str, axis: int) -> str:
        """Turn scores along an axis into probabilities."""
        return self.emit("Softmax", scores, axis=axis)

    def along(self, op: str, x: str, axes: Sequence[int], keep: bool = True) -> str:
        """Apply ReduceSum, ReduceMean, Squeeze or Unsqueeze to `axes`."""
        attrs: dict[str, Any] = {"keepdims": int(keep)} if op.startswith("Reduce") else {}
        if self.opset >= AXES_AS_INPUT[op]:
            return self.emit(op, x, self.constant(list(axes), np.int64), **attrs)
        return self.emit(op, x, axes=list(axes), **attrs)

    def mean(self, x: str, axis: int) -> str:
        """Average along one axis, which stays with size one."""
        return self.along("ReduceMean", x, [axis])

    def like(self, x: str, tensor: Tensor) -> str:
        """Give `x` the shape of a tensor with as many elements."""
        return self.emit("Reshape", x, self.emit("Shape", tensor.name))

    def spread(self, x: str, tensor: Tensor) -> str:
        """Repeat `x` to the shape of a tensor."""
        return self.emit("Expand", x, self.emit("Shape", tensor.name))

    def summed(self, dy: str, tensor: Tensor, out: Tensor) -> str:
        """Sum a gradient of `out` over the axes along which `tensor` was repeated."""
        if tensor.shape == out.shape:
            return dy
        lead = out.rank - tensor.rank
        ones = [
            lead + k for k in range(tensor.rank) if tensor.size(k) == 1 and out.size(lead + k) != 1
        ]
        axes = [*range(lead), *ones]
        return self.like(self.along("ReduceSum", dy, axes), tensor) if axes else dy

    def take(self, x: str, axis: int, positions: Ints | Sequence[int]) -> str:
        """Pick positions of one axis, in their order."""
        return self.emit("Gather", x, self.constant(positions, np.int64), axis=axis)

    def placed(self, x: str, axis: int, positions: Sequence[int], size: int) -> str:
        """Put `x` at `positions` of an axis of `size`, zero elsewhere: the inverse of `take`."""
        if list(positions) == list(range(size)):
            return x
        source = np.full(size, len(positions), np.int64)
        source[list(positions)] = np.arange(len(positions))
        nothing = self.scaled(self.take(x, axis, [0]), 0.0)
        return self.take(self.emit("Concat", x, nothing, axis=axis), axis, source)

    def padded(self, x: str, begin: Sequence[int], end: Sequence[int]) -> str:
        """Put zeros before and behind every axis; below zero is how many positions go."""
        pads = [*begin, *end]
        if not any(pads):
            return x
        if self.opset >= 11:
            return self.emit("Pad", x, self.constant(pads, np.int64))
        return self.emit("Pad", x, pads=pads)

    def every(
        self, x: str, axis: int, starts: Sequence[int], steps: Sequence[int], counts: Sequence[int]
    ) -> str:
        """Pick, on the axes from `axis` on, `counts` positions from `starts` on, every `steps`."""
        ends = [a + s * (n - 1) + 1 for a, s, n in zip(starts, steps, counts, strict=True)]
        bounds = (starts, ends, range(axis, axis + len(starts)), steps)
        return self.emit("Slice", x, *(self.constant(list(v), np.int64) for v in bounds))

    def times_turned(self, a: str, b: str) -> str:
        """Multiply `a` (n, i, k) with `b` (n, j, k) turned round, sample by sample."""
        return self.emit("MatMul", a, self.swapped(b, 3))

    def swapped(self, x: str, rank: int) -> str:
        """Exchange the last two axes."""
        order = [*range(rank - 2), rank - 1, rank - 2]
        return self.emit("Transpose", x, perm=order)

    def mean_of_all(self, x: str) -> str:
        """Average all elements into one number."""
        flat = self.emit("Reshape", x, self.constant([-1], np.int64))
        return self.over(self.along("ReduceSum", flat, [0], keep=False), self.count(x))

    def reordered(self, x: str, order: Sequence[int]) -> str:
        """Put axes into another order."""
        return self.emit("Transpose", x, perm=list(order))

    def within(self, x: str, low: float, high: float) -> str:
        """Limit numbers to a range."""
        return self.emit("Clip", x, self.constant(low), self.constant(high))

    def logistic(self, x: str) -> str:
        """1 / (1 + e⁻ˣ)."""
        return self.emit("Sigmoid", x)
