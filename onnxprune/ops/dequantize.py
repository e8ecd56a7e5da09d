"""What stored numbers stand for: (q - zero point) · scale where operators read them as that.

A removed position of a quantised weight is zero when it holds its zero point, and how much a
channel matters is a question about real numbers, not about the integers that encode them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.facets import CASTS, COPIES, DECODERS, ENCODERS
from onnxprune.ops.registry import DIVISORS, QUANTIZED
from onnxprune.types import Node, Quantized, Read, Tensor

__all__ = ["as_real", "contents", "fixed", "makers", "source", "zeros"]

Array: TypeAlias = NDArray[Any]


class _Use(NamedTuple):
    """How a tensor is read: the node, the rule's word on it, which own axis each input axis is."""

    node: Node
    quantized: Quantized
    axes: tuple[int, ...]


def makers(nodes: Sequence[Node]) -> dict[str, Node]:
    """The node that makes each tensor."""
    return {tensor.name: node for node in nodes for tensor in node.outputs}


def source(
    tensor: Tensor, made_by: Mapping[str, Node], encoded: bool = True
) -> tuple[Tensor, tuple[int, ...]]:
    """Find the constant that a tensor is, up to the order of axes; which of its axes each axis is.

    A tensor that depends on inputs is its own source. With `encoded` its numbers may have been
    turned into integers that stand for them, or back.
    """
    axes = tuple(range(max(tensor.rank, 0)))
    while tensor.constant and (node := made_by.get(tensor.name)) is not None:
        x = node.input(0)
        copy = COPIES.get(node.op)
        same = copy == "passes" or node.op in CASTS
        same = same or (encoded and (node.op in ENCODERS or node.op in DECODERS))
        if x is None or x.rank != tensor.rank or not (same or copy == "permutes"):
            break
        if copy == "permutes":
            perm = node.attrs.get("perm") or range(x.rank)[::-1]
            axes = tuple(perm[axis] for axis in axes)
        tensor = x
    return tensor, axes


def fixed(nodes: Sequence[Node]) -> set[str]:
    """Tensors that keep their values in the reference.

    Zeroed divisors would give NaN. Scales and zero points say what zero is; only those of packed
    weights, where no stored number need be zero, are zeroed themselves.
    """
    made_by, found = makers(nodes), set[str]()
    for node in nodes:
        indices: list[int | None] = list(DIVISORS.get(node.op, ()))
        for q in _facts(node):
            indices += [] if q.bits else [q.scale, q.zero_point]
        for tensor in (node.input(k) for k in indices if k is not None):
            if tensor is not None:
                found |= {tensor.name, source(tensor, made_by)[0].name}
    return found


def zeros(nodes: Sequence[Node], read: Read) -> Callable[[str], Array | None]:
    """A function from a tensor's name to its zero, shaped to be broadcast; None for plain zeros."""
    uses = _uses(nodes)

    def zero(name: str) -> Array | None:
        use = uses.get(name)
        if use is None or use.quantized.bits:
            return None
        return _spread(use, use.quantized.zero_point, read)

    return zero


def as_real(nodes: Sequence[Node], read: Read) -> Read:
    """Reads stored tensors as the real numbers that they stand for."""
    uses = _uses(nodes)

    def real(name: str) -> Array | None:
        stored, use = read(name), uses.get(name)
        if stored is None:
            return None
        if use is None:  # bfloat16, float8 and their like are no numbers to numpy
            return stored.astype(np.float32) if stored.dtype.kind == "V" else stored
        if use.quantized.bits:
            return _unpacked(use, stored, read)
        values = stored.astype(np.float32)
        zero = _spread(use, use.quantized.zero_point, read)
        scale = _spread(use, use.quantized.scale, read)
        values = values if zero is None else values - zero.astype(np.float32)
        return values if scale is None else values * scale.astype(np.float32)

    return real


def contents(nodes: Sequence[Node], read: Read) -> Read:
    """Reads constant tensors as real numbers, also those made of stored ones.

    Rows of packed bytes come as (rows, columns), the last block filled up.
    """
    made_by, real = makers(nodes), as_real(nodes, read)

    def content(name: str) -> Array | None:
        if name not in made_by:
            values, use = real(name), uses.get(name)
            packed = values is not None and use is not None and use.quantized.bits
            return values.reshape(len(values), -1) if values is not None and packed else values
        tensor = next(t for t in made_by[name].outputs if t.name == name)
        origin, axes = source(tensor, made_by)
        known = tensor.constant and origin.name not in made_by
        values = content(origin.name) if known else None
        return None if values is None or values.ndim != len(axes) else values.transpose(axes)

    uses = _uses(nodes)
    return content


def _facts(node: Node) -> Sequence[Quantized]:
    return tuple(QUANTIZED[node.op](node)) if node.op in QUANTIZED else ()


def _uses(nodes: Sequence[Node]) -> dict[str, _Use]:
    """How each tensor is read as quantised; the first node counts."""
    made_by, found = makers(nodes), dict[str, _Use]()
    for node in nodes:
        for q in _facts(node):
            tensor = node.input(q.input)
            if tensor is not None:
                origin, axes = source(tensor, made_by, encoded=False)
                found.setdefault(origin.name, _Use(node, q, axes))
    return found


def _content(tensor: Tensor | None, read: Read) -> Array | None:
    if tensor is None:
        return None
    return read(tensor.name) if tensor.value is None else np.asarray(tensor.value)


def _spread(use: _Use, index: int | None, read: Read) -> Array | None:
    """A scale or zero point, shaped to be broadcast over the tensor as it is stored."""
    values = _content(use.node.input(index), read) if index is not None else None
    x = use.node.inputs[use.quantized.input]
    if values is None or x is None or values.size == 1:
        return None if values is None else values.reshape(())
    axis, rank = use.quantized.axis % x.rank, x.rank
    if values.ndim == 1 and (rank > 1 or x.size(0) == len(values)):
        values = values.reshape([-1 if k == axis else 1 for k in range(rank)])
    elif values.ndim == rank and x.sample is not None:
        size = x.sample[axis]
        block = use.node.attrs.get("block_size") or -(-size // values.shape[axis])
        values = np.repeat(values, block, axis)[(slice(None),) * axis + (slice(size),)]
    else:
        return None
    spread: Array = values.transpose(np.argsort(use.axes))
    return spread


def _unpacked(use: _Use, stored: Array, read: Read) -> Array:
    """(rows, blocks, numbers per block) real numbers of bytes (rows, blocks, bytes)."""
    bits, rows, blocks = use.quantized.bits, len(stored), stored.shape[1]
    values = _split_bytes(stored, bits).astype(np.float32)
    q = use.quantized
    given = None if q.zero_point is None else _content(use.node.input(q.zero_point), read)
    scale = None if q.scale is None else _content(use.node.input(q.scale), read)
    if given is None:
        values -= 2 ** (bits - 1)
    else:
        given = given.reshape(rows, -1)
        packed = given.dtype == np.uint8
        zero = _split_bytes(given, bits)[:, :blocks] if packed else given
        values -= zero.astype(np.float32)[:, :, None]
    return values if scale is None else values * scale.reshape(rows, blocks, 1).astype(np.float32)


def _split_bytes(packed: Array, bits: int) -> NDArray[np.uint8]:
    """(…, n · 8 / bits) numbers of bytes (…, n), low bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers: NDArray[np.uint8] = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return numbers.reshape(*packed.shape[:-1], -1)
