"""Quantisation: to and from integers, and onnxruntime's operators that compute on integers.

An integer q stands for (q - zero point) · scale, so zero is the zero point. Both hold one number,
or one for each position of an axis, or one for each block of it, and are cut with that axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnxprune.ops.constants import Numbers, constant, followed, zeros_of
from onnxprune.ops.elementwise import broadcast
from onnxprune.ops.facets import DECODERS, ENCODERS, INTEGER_RESULTS, mark
from onnxprune.ops.norm import softmax
from onnxprune.ops.registry import (
    barrier,
    by_key,
    couples,
    divides,
    jumps,
    quantized,
    same,
    same_but,
    sums,
)
from onnxprune.ops.slicing import concat
from onnxprune.ops.zero_channels import merged_zeros
from onnxprune.types import Axis, Coupling, Fact, Floats, Kernel, Node, Quantized, Tensor

__all__ = ["at", "only", "parameters", "seen_as"]

MS = "com.microsoft:"
TO_INTEGERS = ("QuantizeLinear", f"{MS}QuantizeLinear")
TO_REALS = ("DequantizeLinear", f"{MS}DequantizeLinear")
POOLS = (f"{MS}QLinearAveragePool", f"{MS}QLinearGlobalAveragePool")
#: Operators on one integer tensor: data, its scale and zero point, those of the result.
UNARY = tuple(f"{MS}QLinear{op}" for op in ("LeakyRelu", "Sigmoid", "Softmax"))
#: Operators on two: data, scale and zero point of each, scale and zero point of the result.
BINARY = (f"{MS}QLinearAdd", f"{MS}QLinearMul")


def seen_as(op: str, node: Node, *indices: int) -> Node:
    """The node as the plain operator `op` on some of its inputs."""
    inputs = tuple(node.input(k) for k in indices)
    return Node(node.name, op, inputs, node.outputs, node.attrs, node.opset)


def at(node: Node, index: int | None) -> Tensor | None:
    """Input `index`, None where there is none."""
    return None if index is None else node.input(index)


def only(found: Kernel | Sequence[Kernel] | None) -> Kernel | None:
    """The kernel of an operator that has one at most."""
    return found if isinstance(found, Kernel) else None


def parameters(
    x: Tensor, axis: int, *given: Tensor | None, block: int = 0
) -> list[Coupling] | None:
    """Couplings of scales and zero points along `axis` of `x`, or in blocks of it.

    None if one of them has a shape that says neither: then nothing is known of `x`.
    """
    found: list[Coupling] = []
    for part in (p for p in given if p is not None):
        if part.shape is not None and all(size == 1 for size in part.shape):
            continue
        if part.rank == 1 and x.rank > 0 and part.size(0) is not None and not block:
            if part.size(0) != x.size(axis):
                return None
            found += same(part, 0, x, axis)
            continue
        blocked = _blocks(x, axis % max(x.rank, 1), part, block)
        if blocked is None:
            return None
        found += blocked
    return found


def _blocks(x: Tensor, axis: int, part: Tensor, block: int) -> list[Coupling] | None:
    """A part (…, blocks of the axis, …): whole blocks live and die together."""
    n, m = x.size(axis), part.size(axis)
    if part.rank != x.rank or x.rank < 2 or x.shape is None or part.shape is None or not n or not m:
        return None
    if any(x.shape[k] != part.shape[k] for k in range(x.rank) if k != axis):
        return None
    width = block or -(-n // m)
    if -(-n // width) != m:
        return None
    key = np.arange(n) // width
    return [by_key(x.at(axis), key, part.at(axis), np.arange(m)), *same_but((axis,), part, x)]


def _plain(node: Node, *indices: int) -> bool:
    """Whether these inputs hold one number each."""
    given = (node.input(k) for k in indices)
    return all(t is None or (t.shape is not None and all(d == 1 for d in t.shape)) for t in given)


@couples(*TO_INTEGERS, *TO_REALS)
def linear(node: Node) -> Iterator[Fact]:
    """Element by element; scale and zero point follow `axis`."""
    x, axis = node.inputs[0], node.attrs.get("axis", 1)
    if x is None:
        return
    block = node.attrs.get("block_size", 0)
    along = parameters(x, axis, node.input(1), node.input(2), block=block)
    if along is not None:
        yield from same_but((), x, node.outputs[0])
        yield from along


@quantized(*TO_REALS)
def quantized_linear(node: Node) -> Iterator[Quantized]:
    """What is dequantised."""
    yield Quantized(0, 1, 2, node.attrs.get("axis", 1))


jumps(*TO_INTEGERS, "DynamicQuantizeLinear")
divides(1, *TO_INTEGERS)
divides(2, *TO_INTEGERS)


@couples("DynamicQuantizeLinear")
def dynamic(node: Node) -> Iterator[Fact]:
    """One scale for the whole tensor, from its range and zero."""
    yield from same_but((), node.inputs[0], node.outputs[0])


@sums("DynamicQuantizeLinear")
def dynamic_range(node: Node) -> Iterator[tuple[int, int]]:
    """Every element may set the range, which always includes zero."""
    x = node.inputs[0]
    yield from ((0, k) for k in range(x.rank if x is not None else 0))


@couples(*UNARY)
def unary(node: Node) -> Iterator[Fact]:
    """As on real numbers."""
    if not _plain(node, 1, 2, 3, 4):
        return
    if node.op.endswith("Softmax"):
        opset = node.attrs.get("opset", node.opset)
        view = seen_as("Softmax", node, 0)
        yield from softmax(Node(view.name, view.op, view.inputs, view.outputs, view.attrs, opset))
    else:
        yield from same_but((), node.inputs[0], node.outputs[0])


@couples(*BINARY)
def binary(node: Node) -> Iterator[Fact]:
    """Axes are aligned at the end; an axis of size 1 serves every position."""
    if _plain(node, 1, 2, 4, 5, 6, 7):
        yield from broadcast((node.inputs[0], node.inputs[3]), node.outputs[0])


@couples(f"{MS}QLinearWhere")
def where(node: Node) -> Iterator[Fact]:
    """Condition, and what it chooses from."""
    if _plain(node, 2, 3, 5, 6, 7, 8):
        chosen = (node.inputs[0], node.inputs[1], node.inputs[4])
        yield from broadcast(chosen, node.outputs[0])


@couples(*POOLS)
def pool(node: Node) -> Iterator[Fact]:
    """Samples and channels are independent; channels are the second axis or the last."""
    if _plain(node, 1, 2, 3, 4):
        channel = -1 if node.attrs.get("channels_last", 0) else 1
        yield from same(node.inputs[0], 0, node.outputs[0], 0)
        yield from same(node.inputs[0], channel, node.outputs[0], channel)


@couples(f"{MS}QLinearConcat")
def joined(node: Node) -> Iterator[Fact]:
    """Scale and zero point of the result, then every part with its own."""
    data = range(2, len(node.inputs), 3)
    if _plain(node, *(k for k in range(len(node.inputs)) if k not in data)):
        yield from concat(seen_as("Concat", node, *data))


@quantized(*UNARY, *POOLS)
def quantized_unary(node: Node) -> Iterator[Quantized]:
    """Data, scale, zero point."""
    yield Quantized(0, 1, 2)


@quantized(*BINARY)
def quantized_binary(node: Node) -> Iterator[Quantized]:
    """Twice data, scale, zero point."""
    yield from (Quantized(0, 1, 2), Quantized(3, 4, 5))


@quantized(f"{MS}QLinearWhere")
def quantized_where(node: Node) -> Iterator[Quantized]:
    """Twice data, scale, zero point, behind the condition."""
    yield from (Quantized(1, 2, 3), Quantized(4, 5, 6))


@quantized(f"{MS}QLinearConcat")
def quantized_joined(node: Node) -> Iterator[Quantized]:
    """Every part with its scale and zero point."""
    yield from (Quantized(k, k + 1, k + 2) for k in range(2, len(node.inputs), 3))


@constant(*BINARY)
def constant_binary(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Sums of zeros, and products with zeros."""
    return merged_zeros(node, numbers, (0, 3), product=node.op == BINARY[1])


mark(ENCODERS, *TO_INTEGERS)
mark(DECODERS, *TO_REALS)
mark(
    INTEGER_RESULTS,
    "DynamicQuantizeLinear",
    *UNARY,
    *BINARY,
    *POOLS,
    f"{MS}QLinearWhere",
    f"{MS}QLinearConcat",
)
constant(*TO_REALS, *TO_INTEGERS, "DynamicQuantizeLinear", *POOLS, UNARY[0], f"{MS}QLinearConcat")(
    followed(lambda node, axis, found, reached: zeros_of(found))
)

barrier("onnxruntime has no kernel for it, so nothing can be proved", f"{MS}QLinearReduceMean")
barrier(
    "weights are packed for one kernel",
    *(f"{MS}{op}" for op in ("MatMulBnb4", "MatMulFpQ4", "QMoE", "QOrderedMatMul")),
)
barrier(
    "several layers in one operator share packed weights",
    *(
        f"{MS}{op}"
        for op in """
        MatMulNBitsMlp MatMulNBitsQkv QAttention QEmbedLayerNormalization
        QOrderedAttention QOrderedLongformerAttention
    """.split()
    ),
)
