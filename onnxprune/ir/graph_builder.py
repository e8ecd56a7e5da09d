"""New operators that carry gradients backwards, written down one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.types import Ints, Tensor

__all__ = ["GraphBuilder", "leading"]

#: Since these versions of the operators axes are an input.
AXES_AS_INPUT = {"ReduceMean": 18, "ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}


class GraphBuilder:
    """Operators and constants behind a graph, for operators of one version."""

    def __init__(self, opset: int, dtype: np.dtype[Any]) -> None:
        self.opset, self.dtype = opset, dtype
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.kind = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def emit(self, op: str, *inputs: str, **attrs: Any) -> str:
        """An operator with one output, whose name is returned."""
        name = f"onnxprune/gradient/{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], **attrs))
        return name

    def mask(self, op: str, a: str, b: str) -> str:
        """A comparison as zeros and ones."""
        return self.emit("Cast", self.emit(op, a, b), to=self.kind)

    def constant(self, value: Any, dtype: Any = None) -> str:
        """A stored value, of the type of the weights where none is given."""
        name = f"onnxprune/constant/{len(self.constants)}"
        self.constants[name] = np.asarray(value, self.dtype if dtype is None else dtype)
        return name

    def scaled(self, x: str, factor: float) -> str:
        """`x` times a number."""
        return self.emit("Mul", x, self.constant(factor))

    def mul(self, *factors: str) -> str:
        """The product of all."""
        made = factors[0]
        for factor in factors[1:]:
            made = self.emit("Mul", made, factor)
        return made

    def total(self, terms: Sequence[str]) -> str:
        """The sum of all."""
        made = terms[0]
        for term in terms[1:]:
            made = self.emit("Add", made, term)
        return made

    def over(self, op: str, x: str, axes: Sequence[int], keep: bool = True) -> str:
        """A ReduceSum, ReduceMean, Squeeze or Unsqueeze over `axes`."""
        attrs: dict[str, Any] = {"keepdims": int(keep)} if op.startswith("Reduce") else {}
        if self.opset >= AXES_AS_INPUT[op]:
            return self.emit(op, x, self.constant(list(axes), np.int64), **attrs)
        return self.emit(op, x, axes=list(axes), **attrs)

    def mean(self, x: str, axis: int) -> str:
        """The mean along one axis, which stays with size one."""
        return self.over("ReduceMean", x, [axis])

    def like(self, x: str, tensor: Tensor) -> str:
        """`x` in the shape of a tensor with as many elements."""
        return self.emit("Reshape", x, self.emit("Shape", tensor.name))

    def spread(self, x: str, tensor: Tensor) -> str:
        """`x` repeated to the shape of a tensor."""
        return self.emit("Expand", x, self.emit("Shape", tensor.name))

    def summed(self, dy: str, tensor: Tensor, out: Tensor) -> str:
        """A gradient of `out` summed over the axes along which `tensor` was repeated."""
        if tensor.shape == out.shape:
            return dy
        lead = out.rank - tensor.rank
        ones = [
            lead + k for k in range(tensor.rank) if tensor.size(k) == 1 and out.size(lead + k) != 1
        ]
        axes = [*range(lead), *ones]
        return self.like(self.over("ReduceSum", dy, axes), tensor) if axes else dy

    def take(self, x: str, axis: int, positions: Ints | Sequence[int]) -> str:
        """Positions of one axis, in their order."""
        return self.emit("Gather", x, self.constant(positions, np.int64), axis=axis)

    def placed(self, x: str, axis: int, positions: Sequence[int], size: int) -> str:
        """The inverse of `take`: `x` at `positions` of an axis of `size`, zero elsewhere."""
        if list(positions) == list(range(size)):
            return x
        source = np.full(size, len(positions), np.int64)
        source[list(positions)] = np.arange(len(positions))
        nothing = self.scaled(self.take(x, axis, [0]), 0.0)
        return self.take(self.emit("Concat", x, nothing, axis=axis), axis, source)

    def padded(self, x: str, begin: Sequence[int], end: Sequence[int]) -> str:
        """Zeros before and behind every axis."""
        pads = [*begin, *end]
        if not any(pads):
            return x
        if self.opset >= 11:
            return self.emit("Pad", x, self.constant(pads, np.int64))
        return self.emit("Pad", x, pads=pads)

    def every(
        self, x: str, axis: int, starts: Sequence[int], steps: Sequence[int], counts: Sequence[int]
    ) -> str:
        """Of the axes from `axis` on, `counts` positions each: from `starts` on, every `steps`."""
        ends = [a + s * (n - 1) + 1 for a, s, n in zip(starts, steps, counts, strict=True)]
        bounds = (starts, ends, range(axis, axis + len(starts)), steps)
        return self.emit("Slice", x, *(self.constant(list(v), np.int64) for v in bounds))

    def swapped(self, x: str, rank: int) -> str:
        """The last two axes exchanged."""
        order = [*range(rank - 2), rank - 1, rank - 2]
        return self.emit("Transpose", x, perm=order)


def leading(nodes: Sequence[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """The operators that lead to wanted tensors, in order."""
    kept, wanted = list[NodeProto](), set(wanted)
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
