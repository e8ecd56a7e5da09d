"""Operators written down one by one behind a graph: the arithmetic that gradients are made of.

Whoever holds the graph lends `emit` and `constant`; what differs between versions of an operator
is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Ints, Tensor

__all__ = ["Body", "Builder", "Emitter", "UnknownFormError"]

#: Since these versions of the operators axes are an input.
AXES_AS_INPUT = {"ReduceMean": 18, "ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}
#: Operators of one position: from states and what is scanned to states and what is collected.
Body: TypeAlias = Callable[[list[str], list[str]], tuple[list[str], list[str]]]


class UnknownFormError(Exception):
    """This form of an operator is not covered."""


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

    def results(self, op: str, *inputs: str, shown: Sequence[bool], **attrs: Any) -> list[str]:
        """Add an operator, and return the names of its outputs; those not `shown` are left out."""

    def loop(
        self, op: str, body: Body, states: Sequence[str], scanned: Sequence[str], reverse: bool
    ) -> tuple[list[str], list[str]]:
        """Run operators along the first axis; the last states, and what each position gave."""

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

    def results(self, op: str, *inputs: str, shown: Sequence[bool], **attrs: Any) -> list[str]:
        """Write an operator with several outputs, of which some are left out."""
        return self.graph.results(op, *inputs, shown=shown, **attrs)

    def scan(
        self, body: Body, states: Sequence[str], scanned: Sequence[str], reverse: bool = False
    ) -> tuple[list[str], list[str]]:
        """Run operators along the first axis; the last states, and what each position gave."""
        return self.graph.loop("Scan", body, states, scanned, reverse)

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

    def sizes(self, x: str) -> str:
        """Give the shape."""
        return self.emit("Shape", x)

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
        return self.emit("Reshape", x, self.sizes(tensor.name))

    def spread(self, x: str, tensor: Tensor) -> str:
        """Repeat `x` to the shape of a tensor."""
        return self.emit("Expand", x, self.sizes(tensor.name))

    def summed(self, dy: str, tensor: Tensor, out: Tensor) -> str:
        """Sum a gradient of `out` over the axes along which `tensor` was repeated."""
        if tensor.shape == out.shape:
            return dy
        if tensor.shape is None or out.shape is None:
            raise UnknownFormError
        lead = out.rank - tensor.rank
        pairs = list(enumerate(zip(tensor.shape, out.shape[lead:], strict=True), lead))
        if self.opset >= 13 and any(isinstance(a, str) and a != b for _, (a, b) in pairs):
            return self.like(self._shrunk(dy, tensor, lead), tensor)
        axes = [*range(lead), *(k for k, (a, b) in pairs if a == 1 != b)]
        return self.like(self.along("ReduceSum", dy, axes), tensor) if axes else dy

    def _shrunk(self, dy: str, tensor: Tensor, lead: int) -> str:
        """Sum over the axes along which a run repeats `tensor`, those of other sizes."""
        ones, own = self.constant([1] * lead, np.int64), self.sizes(tensor.name)
        shape = self.emit("Concat", ones, own, axis=0) if lead else own
        same = self.emit("Equal", shape, self.sizes(dy))
        axes = self.emit("NonZero", self.emit("Not", same))
        flat = self.emit("Reshape", axes, self.constant([-1], np.int64))
        return self.emit("ReduceSum", dy, flat, keepdims=1, noop_with_empty_axes=1)

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

    def added(self, x: str, axis: int, places: str, rows: str) -> str:
        """Add `rows` to those of `x` along an axis at `places`, which have size one along others.

        Several may meet at a place: onnxruntime's ScatterND loses some of them then where it runs
        on several threads, ScatterElements does not.
        """
        at = self.emit("Expand", places, self.sizes(rows))
        return self.emit("ScatterElements", x, at, rows, axis=axis, reduction="add")

    def cut(self, x: str, axis: int, start: int, end: int | None) -> str:
        """Take the positions of an axis from `start` to `end`, as Python counts them."""
        bounds = ([start], [2**62 if end is None else end], [axis])
        return self.emit("Slice", x, *(self.constant(v, np.int64) for v in bounds))

    def mixed(self, x: str, rank: int, axis: int, matrix: NDArray[Any]) -> str:
        """Multiply with a stored matrix (size, new size) along an axis."""
        if axis == rank - 1:
            return self.emit("MatMul", x, self.constant(matrix))
        if axis == rank - 2:
            return self.emit("MatMul", self.constant(matrix.T), x)
        order = [*range(axis), *range(axis + 1, rank), axis]
        made = self.emit("Transpose", x, perm=order)
        made = self.emit("MatMul", made, self.constant(matrix))
        return self.emit("Transpose", made, perm=np.argsort(order).tolist())

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
