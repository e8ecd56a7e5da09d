"""What stored numbers stand for: (q - zero point) · scale where operators read them as that.

A removed position of a quantised weight is zero when it holds its zero point, and how much a
channel matters is a question about real numbers, not about the integers that encode them. Some
exporters write the decoding as arithmetic on constants: Cast, Sub of the zero point, Mul by the
scale. It is read as what it is, so that the integers stay as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.facets import ARITHMETIC, CASTS, COPIES, DECODERS, ENCODERS
from onnxprune.ops.registry import DIVISORS, QUANTIZED
from onnxprune.types import Node, Quantized, Read, Tensor

__all__ = ["as_real", "contents", "fixed", "makers", "source", "zeros"]

Array: TypeAlias = NDArray[Any]


class _Use(NamedTuple):
    """How a tensor is read: the node, the rule's word on it, which own axis each input axis is.

    `made_by` has the node that makes each tensor.
    """

    node: Node
    quantized: Quantized
    axes: tuple[int, ...]
    made_by: Mapping[str, Node]

    def content(self, index: int, read: Read) -> Array | None:
        """A scale or zero point, which may have another type where it is stored."""
        tensor = self.node.input(index)
        if tensor is None or tensor.value is not None:
            return None if tensor is None else np.asarray(tensor.value)
        return read(source(tensor, self.made_by, encoded=False)[0].name)


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
        decoded = _decoded(node, made_by)
        x = node.input(decoded.input) if decoded is not None else x
        same = copy == "passes" or node.op in CASTS or decoded is not None
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
    weights, where no stored number need be zero, are zeroed themselves, and factors of constants.
    """
    made_by, found = makers(nodes), set[str]()
    for node in nodes:
        indices: list[int | None] = list(DIVISORS.get(node.op, ()))
        for q in _facts(node):
            indices += [] if q.bits else [q.scale, q.zero_point]
        decoded = _decoded(node, made_by)
        indices += [] if decoded is None else [decoded.zero_point]
        for tensor in (node.input(k) for k in indices if k is not None):
            if tensor is not None:
                found |= {tensor.name, source(tensor, made_by)[0].name}
    return found


def zeros(nodes: Sequence[Node], read: Read) -> Callable[[str], Array | None]:
    """A function from a tensor's name to its zero, shaped to be broadcast; None for plain zeros."""
    uses = _uses(nodes)

    def zero(name: str) -> Array | None:
        use = uses[name][0] if name in uses else None
        if use is None or use.quantized.bits:
            return None
        return _spread(use, use.quantized.zero_point, read)

    return zero


def as_real(nodes: Sequence[Node], read: Read) -> Read:
    """Reads stored tensors as the real numbers that they stand for."""
    uses = _uses(nodes)

    def real(name: str) -> Array | None:
        stored, steps = read(name), uses.get(name)
        if stored is None:
            return None
        if steps is None:  # bfloat16, float8 and their like are no numbers to numpy
            return stored.astype(np.float32) if stored.dtype.kind == "V" else stored
        if steps[0].quantized.bits:
            return _unpacked(steps[0], stored, read)
        values = stored.astype(np.float32)
        for use in steps:
            zero = _spread(use, use.quantized.zero_point, read)
            scale = _spread(use, use.quantized.scale, read)
            values = values if zero is None else values - zero.astype(np.float32)
            values = values if scale is None else values * scale.astype(np.float32)
        return values

    return real


def contents(nodes: Sequence[Node], read: Read) -> Read:
    """Reads constant tensors as real numbers, also those made of stored ones.

    Rows of packed bytes come as (rows, columns), the last block filled up.
    """
    made_by, real = makers(nodes), as_real(nodes, read)

    def content(name: str) -> Array | None:
        if name not in made_by:
            values = real(name)
            packed = values is not None and name in uses and uses[name][0].quantized.bits
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


def _decoded(node: Node, made_by: Mapping[str, Node]) -> Quantized | None:
    """What arithmetic on constants says of an input that is cast: minus zero point, or times scale.

    Both have as many axes as the input, or follow its last one.
    """
    sign = ARITHMETIC.get(node.op)
    if sign not in ("-", "*") or len(node.inputs) != 2:
        return None
    if any(x is None or not x.constant for x in node.inputs):
        return None
    for index in (0, 1) if sign == "*" else (0,):
        x = node.inputs[index]
        if x is not None and x.shape == node.outputs[0].shape and _is_cast(x, made_by):
            other = 1 - index
            return (
                Quantized(index, None, other, -1)
                if sign == "-"
                else Quantized(index, other, None, -1)
            )
    return None


def _is_cast(x: Tensor, made_by: Mapping[str, Node]) -> bool:
    """Whether a constant is another one in another type, less a zero point or not."""
    node = made_by.get(x.name)
    if node is None or x.rank < 1:
        return False
    if node.op in CASTS:
        return True
    return ARITHMETIC.get(node.op) == "-" and _decoded(node, made_by) is not None


def _uses(nodes: Sequence[Node]) -> dict[str, list[_Use]]:
    """How each tensor is read as quantised, step after step; the first reader counts."""
    made_by, found = makers(nodes), dict[str, list[_Use]]()
    for node in nodes:
        decoded = _decoded(node, made_by)
        for q in (*_facts(node), *([] if decoded is None else [decoded])):
            tensor = node.input(q.input)
            if tensor is None:
                continue
            origin, axes = source(tensor, made_by, encoded=False)
            steps = found.setdefault(origin.name, [])
            if not steps or tensor.name in {y.name for y in steps[-1].node.outputs}:
                steps.append(_Use(node, q, axes, made_by))
    return found


def _spread(use: _Use, index: int | None, read: Read) -> Array | None:
    """A scale or zero point, shaped to be broadcast over the tensor as it is stored."""
    values = use.content(index, read) if index is not None else None
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
    elif x.sample is not None and values.shape == x.sample[:axis] + x.sample[axis + 1 :]:
        values = np.expand_dims(values, axis)
    else:
        return None
    spread: Array = values.transpose(np.argsort(use.axes))
    return spread


def _unpacked(use: _Use, stored: Array, read: Read) -> Array:
    """(rows, blocks, numbers per block) real numbers of bytes (rows, blocks, bytes)."""
    bits, rows, blocks = use.quantized.bits, len(stored), stored.shape[1]
    values = _split_bytes(stored, bits).astype(np.float32)
    q = use.quantized
    given = None if q.zero_point is None else use.content(q.zero_point, read)
    scale = None if q.scale is None else use.content(q.scale, read)
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
