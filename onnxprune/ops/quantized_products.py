"""Convolutions and matrix products of integers, and of reals with packed integer weights.

Sums of integers are exact, so that what is removed leaves the others as they were, bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxprune.ops import conv as real
from onnxprune.ops.matmul import gemm, kernel_gemm, kernel_matmul, macs_gemm, macs_matmul, matmul
from onnxprune.ops.quantized import MS, parameters, seen_as
from onnxprune.ops.registry import (
    by_key,
    couples,
    jumps,
    kernel,
    macs,
    quantized,
    same,
    shrinks,
    sums,
)
from onnxprune.types import Axis, Coupling, Edit, Fact, Kept, Kernel, Node, Quantized, Tensor, Work

CONVS = ("QLinearConv", f"{MS}QLinearConv", "ConvInteger")
#: For each product of matrices: inputs A, B, then scale and zero point of A, of B and of the
#: result, then the bias.
PRODUCTS: dict[str, tuple[int | None, ...]] = {
    "QLinearMatMul": (0, 3, 1, 2, 4, 5, 6, 7, None),
    "MatMulInteger": (0, 1, None, 2, None, 3, None, None, None),
    f"{MS}MatMulIntegerToFloat": (0, 1, 2, 4, 3, 5, None, None, 6),
    f"{MS}DynamicQuantizeMatMul": (0, 1, None, None, 2, 3, None, None, 4),
}
NBITS = f"{MS}MatMulNBits"


def _conv_inputs(node: Node) -> tuple[Quantized, Quantized, int | None]:
    """Where data and weight lie, with scale and zero point, and the bias."""
    if node.op == "ConvInteger":
        return Quantized(0, None, 2), Quantized(1, None, 3), None
    return Quantized(0, 1, 2), Quantized(3, 4, 5), 8


def _at(node: Node, index: int | None) -> Tensor | None:
    return None if index is None else node.input(index)


def _channels_last(node: Node) -> bool:
    return bool(node.attrs.get("channels_last", 0))


def _conv_view(node: Node) -> Node | None:
    """The node as a plain convolution; axes of data and result in the order of one."""
    x, w, bias = _conv_inputs(node)
    data, weight, y = node.input(x.input), node.input(w.input), node.outputs[0]
    if data is None or weight is None or data.rank < 3 or y.rank != data.rank:
        return None
    if _channels_last(node):
        data, y = _channels_first(data), _channels_first(y)
    inputs = (data, weight, _at(node, bias))
    return Node(node.name, "Conv", inputs, (y,), node.attrs, node.opset)


def _channels_first(x: Tensor) -> Tensor:
    order = [0, x.rank - 1, *range(1, x.rank - 1)]
    shape = None if x.shape is None else tuple(x.shape[k] for k in order)
    sample = None if x.sample is None else tuple(x.sample[k] for k in order)
    return Tensor(x.name, shape, sample, constant=x.constant)


@couples(*CONVS)
def conv(node: Node) -> Iterator[Fact]:
    """A convolution; the weight's scale and zero point may differ from filter to filter."""
    view, (x, w, _) = _conv_view(node), _conv_inputs(node)
    if view is None:
        return
    data, weight, _ = view.inputs
    y = view.outputs[0]
    assert data is not None and weight is not None
    along = [
        parameters(data, 1, _at(node, x.scale), _at(node, x.zero_point)),
        parameters(weight, 0, _at(node, w.scale), _at(node, w.zero_point)),
        parameters(y, 1, node.input(6), node.input(7)),
    ]
    if None in along:
        return
    facts = [*real.conv(view), *(c for found in along for c in found or ())]
    if not _channels_last(node):
        yield from facts
        return
    order = [0, data.rank - 1, *range(1, data.rank - 1)]

    def moved(axis: Axis) -> Axis:
        mine = axis.tensor in (data.name, y.name)
        return axis._replace(axis=order[axis.axis]) if mine else axis

    for fact in facts:
        if isinstance(fact, Coupling):
            yield fact._replace(a=moved(fact.a), b=moved(fact.b))


@shrinks(*CONVS)
def shrink_conv(node: Node, kept: Kept) -> Edit:
    """`group` is what remains of the data's channels over the channels each group reads."""
    x, w, _ = _conv_inputs(node)
    data, weight = node.inputs[x.input], node.inputs[w.input]
    assert data is not None and weight is not None
    if node.attrs.get("group", 1) == 1:
        return Edit()
    channels = len(kept(data, -1 if _channels_last(node) else 1))
    return Edit(attrs={"group": channels // len(kept(weight, 1))})


@macs(*CONVS)
def macs_conv(node: Node) -> Work | Sequence[Work] | None:
    """Every output pixel times the kernel."""
    view = _conv_view(node)
    return None if view is None else real.macs_conv(view)


@kernel(*CONVS)
def kernel_conv(node: Node) -> Kernel | None:
    """(out, in / group, *kernel)."""
    view, (x, w, bias) = _conv_view(node), _conv_inputs(node)
    if view is None:
        return None
    channel = -1 if _channels_last(node) else 1
    found = _only(real.kernel_conv(view))
    return found and replace(found, index=w.input, bias=bias, channel=channel, data=x.input)


def _only(found: Kernel | Sequence[Kernel] | None) -> Kernel | None:
    return found if isinstance(found, Kernel) else None


@quantized(*CONVS)
def quantized_conv(node: Node) -> Iterator[Quantized]:
    """Data, and weight by filter."""
    yield from _conv_inputs(node)[:2]


def _product(node: Node) -> tuple[Node, list[Coupling] | None]:
    """The node as MatMul, and the couplings of its scales and zero points."""
    a, b, *given, bias = PRODUCTS[node.op]
    assert a is not None and b is not None
    view = seen_as("MatMul", node, a, b)
    left, right = view.inputs
    y, parts = view.outputs[0], [_at(node, k) for k in given]
    if left is None or right is None or left.rank < 1 or right.rank < 1 or y.rank < 1:
        return view, None
    along = [
        parameters(left, -2, *parts[:2]),
        parameters(right, -1, *parts[2:4]),
        parameters(y, -2, *parts[4:]),
        parameters(y, -1, _at(node, bias)),
    ]
    return view, None if None in along else [c for found in along for c in found or ()]


@couples(*PRODUCTS)
def product(node: Node) -> Iterator[Fact]:
    """A by rows, B by columns; the summed axis where one of them is stored."""
    view, along = _product(node)
    a, b = view.inputs
    if along is None or a is None or b is None:
        return
    summed = {a.at(-1), b.at(-2 if b.rank > 1 else -1)}
    stored = a.constant or b.constant
    for fact in matmul(view):
        if stored or not (isinstance(fact, Coupling) and {fact.a, fact.b} & summed):
            yield fact
    yield from along


jumps(NBITS, f"{MS}DynamicQuantizeMatMul")  # they quantise what they read


@sums(f"{MS}DynamicQuantizeMatMul")
def sums_dynamic(node: Node) -> Iterator[tuple[int, int]]:
    """A is quantised by its range, which always includes zero."""
    a = node.inputs[0]
    yield from ((0, k) for k in range(a.rank if a is not None else 0))


@macs(*PRODUCTS)
def macs_product(node: Node) -> Work | Sequence[Work] | None:
    """Every entry of the result times the summed axis."""
    return macs_matmul(_product(node)[0])


@kernel(*PRODUCTS)
def kernel_product(node: Node) -> Kernel | None:
    """The constant operand."""
    found = _only(kernel_matmul(_product(node)[0]))
    if found is None:
        return None
    a, b, *_, bias = PRODUCTS[node.op]
    assert a is not None and b is not None
    index, data = (b, a) if found.index == 1 else (a, b)
    return replace(found, index=index, data=data, bias=bias)


@quantized(*PRODUCTS)
def quantized_product(node: Node) -> Iterator[Quantized]:
    """Rows of A, columns of B."""
    a, b, a_scale, a_zero, b_scale, b_zero, *_ = PRODUCTS[node.op]
    assert a is not None and b is not None
    if a_zero is not None:
        yield Quantized(a, a_scale, a_zero, -2)
    yield Quantized(b, b_scale, b_zero, -1)


def _gemm_column(node: Node) -> int:
    """The axis of B that makes the result's columns."""
    return 0 if node.attrs.get("transB", 0) else 1


@couples(f"{MS}QGemm")
def q_gemm(node: Node) -> Iterator[Fact]:
    """Gemm; B's scale and zero point may differ from column to column."""
    a, b, y = node.input(0), node.input(3), node.outputs[0]
    if a is None or b is None or not (a.constant or b.constant):
        return
    along = [
        parameters(a, 0, node.input(1), node.input(2)),
        parameters(b, _gemm_column(node), node.input(4), node.input(5)),
        parameters(y, 0, node.input(7), node.input(8)),
    ]
    if None not in along:
        yield from gemm(seen_as("Gemm", node, 0, 3, 6))
        yield from (c for found in along for c in found or ())


@macs(f"{MS}QGemm")
def macs_q_gemm(node: Node) -> Work | Sequence[Work] | None:
    """M · n · k."""
    return macs_gemm(seen_as("Gemm", node, 0, 3))


@kernel(f"{MS}QGemm")
def kernel_q_gemm(node: Node) -> Kernel | None:
    """(in, out), or (out, in) when transposed."""
    found = _only(kernel_gemm(seen_as("Gemm", node, 0, 3)))
    return found and replace(found, index=3, bias=6, data=0)


@quantized(f"{MS}QGemm")
def quantized_gemm(node: Node) -> Iterator[Quantized]:
    """Data, and weight by column."""
    yield from (Quantized(0, 1, 2), Quantized(3, 4, 5, _gemm_column(node)))


@couples(NBITS)
def n_bits(node: Node) -> Iterator[Fact]:
    """A (…, K) times packed rows (N, blocks of K, bytes): rows one by one, K in whole blocks."""
    a, b, scales, zero, order, bias = (node.input(k) for k in range(6))
    y, width = node.outputs[0], node.attrs["block_size"]
    if a is None or b is None or scales is None or b.rank != 3 or a.rank < 1:
        return
    n, blocks, k = b.size(0), b.size(1), a.size(-1)
    if n is None or blocks is None or k is None or y.size(-1) != n:
        return
    rows = [_rows(b, part) for part in (scales, zero) if part is not None]
    if None in rows:
        return
    for axis in range(a.rank - 1):
        yield from same(a, axis, y, axis)
    yield from same(b, 0, y, -1)
    yield from same(bias, 0, y, -1)
    yield from (c for c in rows if c is not None)
    if order is None and -(-k // width) == blocks:
        yield from _whole_blocks(node, blocks, k)


def _whole_blocks(node: Node, blocks: int, k: int) -> Iterator[Fact]:
    """Blocks of K with their scales; zero points of several blocks may share a byte."""
    a, b, scales, zero = (node.input(i) for i in range(4))
    assert a is not None and b is not None
    share = 8 // node.attrs.get("bits", 4)
    packed = zero is not None and zero.rank == 2 and zero.size(1) == -(-blocks // share) != blocks
    plain = (scales,) if packed else (scales, zero)
    if not all(p is None or (p.rank == 2 and p.size(1) == blocks) for p in plain):
        return
    together = share if packed else 1
    key, width = np.arange(blocks) // together, node.attrs["block_size"] * together
    yield by_key(a.at(-1), np.arange(k) // width, b.at(1), key)
    yield from same(scales, 1, b, 1)
    if zero is not None and packed:
        yield by_key(zero.at(1), np.arange(zero.size(1) or 0), b.at(1), key)
    else:
        yield from same(zero, 1, b, 1)


def _rows(b: Tensor, part: Tensor) -> Coupling | None:
    """Row i of the weight is row i of a matrix, or the i-th of equal pieces of a vector."""
    n, size = b.size(0) or 1, part.size(0)
    if part.rank == 2 and size == n:
        return Coupling(part.at(0), b.at(0))
    if part.rank != 1 or not size or size % n:
        return None
    return by_key(part.at(0), np.arange(size) // (size // n), b.at(0), np.arange(n))


@shrinks(NBITS)
def shrink_n_bits(node: Node, kept: Kept) -> Edit:
    """`K` and `N` are the widths."""
    a = node.inputs[0]
    assert a is not None
    return Edit(attrs={"K": len(kept(a, -1)), "N": len(kept(node.outputs[0], -1))})


@macs(NBITS)
def macs_n_bits(node: Node) -> Work | Sequence[Work] | None:
    """Every entry of the result times the summed axis."""
    a, y = node.inputs[0], node.outputs[0]
    if a is None or not a.sample or y.sample is None:
        return None
    every = (y.at(axis) for axis in range(y.rank))
    return Work(float(math.prod(y.sample) * a.sample[-1]), (a.at(-1), *every))


@kernel(NBITS)
def kernel_n_bits(node: Node) -> Kernel:
    """(out, blocks of in, bytes)."""
    return Kernel(1, 0, 1, bias=5, channel=-1, data=0)


@quantized(NBITS)
def quantized_n_bits(node: Node) -> Iterator[Quantized]:
    """Packed rows."""
    yield Quantized(1, 2, 3, 0, bits=node.attrs.get("bits", 4))
