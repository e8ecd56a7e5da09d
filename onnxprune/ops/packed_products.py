"""Products with packed weights: rows of blocks, a few bits a number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from onnxprune.ops.constants import constant
from onnxprune.ops.constants_products import rounded
from onnxprune.ops.quantized import MS
from onnxprune.ops.registry import (
    by_key,
    couples,
    jumps,
    kernel,
    macs,
    quantized,
    same,
    shrinks,
)
from onnxprune.types import Coupling, Edit, Fact, Kept, Kernel, Node, Quantized, Tensor, Work

NBITS = f"{MS}MatMulNBits"


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


jumps(NBITS)  # it quantises what it reads
constant(NBITS)(rounded)
