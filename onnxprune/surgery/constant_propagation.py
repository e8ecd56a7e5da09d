"""Which channels always carry one number, whatever the model is fed.

Walks the graph once with one number per position of every axis, NaN where it varies. What each
operator makes of such numbers is in `onnxprune.ops.constant_channels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.ir import runtime, skeleton
from onnxprune.ops import constant_channels, recurrent, zero_channels
from onnxprune.ops.registry import QUANTIZED
from onnxprune.types import Axis, Choice, Coupling, Floats, Ints, Node, Read, Tensor

__all__ = ["constants"]


#: Operators whose results are integers that stand for real numbers; that hand such integers on;
#: that read them as what they stand for. To all others they are integers.
ENCODES = frozenset(op for op in QUANTIZED if "QLinear" in op) | constant_channels.ENCODES
CARRIES = constant_channels.COPIES | {"GlobalMaxPool", "MaxPool", "Resize", "Upsample"}
DECODES = frozenset(QUANTIZED)


def constants(nodes: Sequence[Node], read: Read) -> dict[Axis, Floats]:
    """For every axis the number that each position always carries, NaN where it varies."""
    known: dict[Axis, Floats] = {}
    encoded: set[str] = set()

    def value(tensor: Tensor, axis: int) -> Floats:
        at, size = tensor.at(axis), tensor.size(axis) or 0
        if at not in known and (stored := _content(tensor, read)) is not None:
            known.update({tensor.at(k): v for k, v in constant_channels.of_stored(stored).items()})
        return known.get(at, np.full(size, np.nan))

    for node in nodes:
        coded = encoded.intersection(t.name for t in node.inputs if t is not None)
        if node.op in ENCODES or (coded and node.op in CARRIES):
            encoded.add(node.outputs[0].name)
        elif coded and node.op not in DECODES:
            continue
        for axis, found in _result(node, value, read):
            if not np.isnan(found).all():
                known[axis] = found
    return known


def _result(
    node: Node, value: Callable[[Tensor, int], Floats], read: Read
) -> Iterable[tuple[Axis, Floats]]:
    """Constants on the axes of a node's result."""
    x, y = node.input(0), node.outputs[0]
    yield from _filled(node, read)
    if x is None or all(t is None or t.constant for t in node.inputs):
        return
    if node.op in zero_channels.ZEROS:
        known = list(_multiplied(node, value, read)) if node.op in ops.KERNELS else []
        yield from known or zero_channels.ZEROS[node.op](node, value)
    elif node.op in ops.KERNELS and node.op not in constant_channels.COPIES:
        yield from _multiplied(node, value, read)
    elif node.op in constant_channels.AFFINE and len(node.outputs) == 1 and x.size(1):
        yield y.at(1), constant_channels.scaled(node, value(x, 1), read)
    elif node.op in constant_channels.KEEPS:
        yield from _elementwise(node, value, read)
    else:
        yield from _moved(node, value)


def _filled(node: Node, read: Read) -> Iterable[tuple[Axis, Floats]]:
    """One number everywhere, in a result whose shape alone is computed."""
    x, y = node.input(0), node.outputs[0]
    number: Any = None
    if node.op == "ConstantOfShape":
        number = np.asarray(node.attrs.get("value", np.float32(0)))
    elif node.op == "Expand" and x is not None:
        number = _content(x, read)
    if number is not None and number.size == 1 and np.issubdtype(number.dtype, np.floating):
        for k in range(y.rank):
            yield y.at(k), np.full(y.size(k) or 0, float(number.ravel()[0]))


def _multiplied(
    node: Node, value: Callable[[Tensor, int], Floats], read: Read
) -> Iterable[tuple[Axis, Floats]]:
    """Constants behind a convolution, a matrix product or a recurrent layer."""
    if node.op in recurrent.GATES:
        zero = recurrent.zero_units(node, value, read)
        if zero is not None:
            yield from ((y.at(-1), np.where(zero, 0.0, np.nan)) for y in node.outputs)
        return
    y = node.outputs[0]
    for kernel in ops.kernels_of(node):
        data = kernel.operand(node)
        if data is not None and data.size(kernel.channel) and y.rank > 0:
            found = constant_channels.kernel_constants(node, value(data, kernel.channel), read)
            if found is not None and node.op == "com.microsoft:FusedConv" and node.input(3):
                added = node.inputs[3]
                found = found + (
                    0.0 if added is None else constant_channels.zeros_of(value(added, 1))
                )
            if found is not None and len(found) == y.size(kernel.channel):
                yield y.at(kernel.channel), found


def _moved(node: Node, value: Callable[[Tensor, int], Floats]) -> Iterable[tuple[Axis, Floats]]:
    """Follow the couplings: a position is constant if all that flows into it is, and agrees."""
    inputs = {t.name: t for t in node.inputs if t is not None}
    flows: dict[Axis, list[tuple[Axis, Ints, Ints]]] = {}
    for fact in ops.COUPLINGS[node.op](node) if node.op in ops.COUPLINGS else ():
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
    for y in node.outputs:
        for k in (k for k in range(y.rank) if y.at(k) in flows):
            found, reached = _merged(flows[y.at(k)], y.size(k) or 0, inputs, value)
            if node.op == "Pad":
                found = _padded(node, found, ~reached, k)
            elif node.op not in constant_channels.COPIES | constant_channels.SAME_EVERYWHERE:
                found = constant_channels.same_after(node, found)
            yield y.at(k), found


def _merged(
    flows: Sequence[tuple[Axis, Ints, Ints]],
    size: int,
    inputs: Mapping[str, Tensor],
    value: Callable[[Tensor, int], Floats],
) -> tuple[Floats, NDArray[np.bool_]]:
    """Constants (size,) where every input that flows in agrees, and where any does.

    Axes of one input are different views of the same elements: one that is constant suffices.
    """
    by_input: dict[str, tuple[Floats, NDArray[np.bool_]]] = {}
    for axis, source, at in flows:
        low, high = np.full(size, np.inf), np.full(size, -np.inf)
        arrives = value(inputs[axis.tensor], axis.axis)[source]
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


def _padded(node: Node, found: Floats, added: NDArray[np.bool_], axis: int) -> Floats:
    """Zeros added along this axis are constant; zeros beside other axes spoil what is not zero."""
    third = node.input(2)
    fill = node.attrs.get("value", 0.0) if third is None else third.value
    entries = node.attrs.get("pads") or (node.input(1).ints() if node.input(1) else None)  # type: ignore[union-attr]
    if fill is None or entries is None or node.input(3) is not None:
        return np.full_like(found, np.nan)
    if node.attrs.get("mode", "constant") != "constant":
        return found
    number, half = float(np.ravel(fill)[0]), len(entries) // 2
    found = np.where(added, number, found)
    beside = any(e != 0 for k, e in enumerate(entries) if k % half != axis)
    return np.where(found == number, found, np.nan) if beside else found


def _elementwise(
    node: Node, value: Callable[[Tensor, int], Floats], read: Read
) -> Iterable[tuple[Axis, Floats]]:
    """Run the operator itself on one number per position."""
    y = node.outputs[0]
    for k in range(y.rank):
        size = y.size(k)
        if size is None or size < 2:
            continue
        rows = [
            None if t is None else _aligned(t, k - y.rank, size, value, read) for t in node.inputs
        ]
        known = [row for row in rows if row is not None]
        stacked = np.array(known)
        zero = (stacked == 0).any(0) & (node.op == "Mul")
        whole = ~np.isnan(stacked).any(0)
        if whole.any():
            result = _run(node, [None if r is None else np.nan_to_num(r) for r in rows])
            if result is not None:
                yield y.at(k), np.where(zero, 0.0, np.where(whole, result, np.nan))
        elif zero.any():
            yield y.at(k), np.where(zero, 0.0, np.nan)


def _aligned(
    tensor: Tensor, axis: int, size: int, value: Callable[[Tensor, int], Floats], read: Read
) -> Floats:
    """One number per position of the result's axis (counted from the end)."""
    if -axis <= tensor.rank and tensor.size(axis) == size:
        return value(tensor, axis)
    stored = _content(tensor, read)
    single = stored is not None and stored.size == 1
    return np.full(size, float(stored.ravel()[0]) if single and stored is not None else np.nan)


def _content(tensor: Tensor, read: Read) -> NDArray[Any] | None:
    """What a tensor always holds: stored, or computed from sizes that never change."""
    if tensor.value is not None and tensor.known is None:
        return tensor.value
    return read(tensor.name) if tensor.constant else None


def _run(node: Node, rows: list[Floats | None]) -> Floats | None:
    data = {f"in{k}": row.astype(np.float32) for k, row in enumerate(rows) if row is not None}
    if node.op == "Clip":  # its bounds are scalars
        data = {name: row if name == "in0" else row[:1].reshape(()) for name, row in data.items()}
    names = ["" if row is None else f"in{k}" for k, row in enumerate(rows)]
    model, outputs = skeleton.single_node(node.op, names, dict(node.attrs), node.opset, data)
    result = runtime.compute(model, outputs)
    return result[outputs[0]].astype(np.float64) if result else None
