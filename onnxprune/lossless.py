"""Channels that provably contribute nothing, and what must be folded elsewhere to drop them.

A channel goes if everything that reads it has zero weights there, or if it always carries the
same number c. Where c = 0 nothing is left to do. Otherwise its readers' contribution W·c is added
to their bias; a reader with zero padding sees c only inside the border, so there one channel of
the group that carries c′ ≠ 0 stays and takes over the others' weights, W′ += W·c/c′: exact at the
border too. What this kills upstream goes as well, until nothing more does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import graph, ops, runtime, surgery
from onnxprune.graph import ModelProto
from onnxprune.ops import constant
from onnxprune.ops.constant import Floats
from onnxprune.survey import Survey
from onnxprune.types import Axis, Choice, Coupling, Group, Ints, Kernel, Node, Tensor

__all__ = ["TOLERANCE", "Dead", "find", "patch"]

#: Relative difference to the original: the same sums in another order, single precision.
TOLERANCE = 1e-5
Read = Callable[[str], NDArray[Any] | None]


@dataclass(frozen=True)
class Dead:
    """Channels to keep of each group (n_channels,), and new content of weights by name."""

    kept: list[NDArray[np.bool_]]
    patches: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class _Reader:
    """A node that reads a group's channels: sums of taps (out, in), what arrives (in,)."""

    node: Node
    kernel: Kernel
    weight: NDArray[Any]
    taps: Floats
    used: NDArray[np.bool_]
    arrives: Floats
    positions: Ints
    foldable: bool


@dataclass
class _Work:
    """Weights as patched so far."""

    read: Read
    changed: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def weight(self, name: str) -> NDArray[np.float64]:
        """A weight to change in place, in double precision."""
        if name not in self.changed:
            stored = self.read(name)
            assert stored is not None
            self.changed[name] = stored.astype(np.float64)
        return self.changed[name]


def find(found: Survey) -> Dead:
    """Search all groups until no more channels can go."""
    stored = graph.constants(found.model)
    cache: dict[str, NDArray[Any]] = {}

    def read(name: str) -> NDArray[Any] | None:
        if name in stored and name not in cache:
            cache[name] = graph.array(stored[name])
        return cache.get(name)

    values = constants(found.nodes, read)
    work = _Work(read)
    kept = [np.ones(group.channels, bool) for group in found.groups]
    alive: dict[str, NDArray[np.bool_]] = {}
    while True:
        before = sum(int(mask.sum()) for mask in kept)
        for g, group in enumerate(found.groups):
            readers = _readers(found, group, read, values)
            if readers is not None:
                kept[g] = _sift(group, kept[g], readers, alive, work)
        alive = _alive_rows(found, kept)
        if sum(int(mask.sum()) for mask in kept) == before:
            break
    return Dead(kept, work.changed)


def patch(model: ModelProto, patches: Mapping[str, NDArray[Any]]) -> ModelProto:
    """The model with patched weights, in their own types."""
    if not patches:
        return model
    changed = {name: lambda n, old: patches[n].astype(old.dtype) for name in patches}
    return surgery.rebuild(model, changed, (), {})


def constants(nodes: Sequence[Node], read: Read) -> dict[Axis, Floats]:
    """For every axis the number that each position always carries, NaN where it varies."""
    known: dict[Axis, Floats] = {}

    def value(tensor: Tensor, axis: int) -> Floats:
        at, size = tensor.at(axis), tensor.size(axis) or 0
        if at not in known and tensor.constant and (stored := read(tensor.name)) is not None:
            known.update({tensor.at(k): v for k, v in constant.of_stored(stored).items()})
        return known.get(at, np.full(size, np.nan))

    for node in nodes:
        for axis, found in _result(node, value, read):
            if not np.isnan(found).all():
                known[axis] = found
    return known


def _result(
    node: Node, value: Callable[[Tensor, int], Floats], read: Read
) -> Iterable[tuple[Axis, Floats]]:
    """Constants on the axes of a node's result."""
    x, y = node.input(0), node.outputs[0]
    if x is None or all(t is None or t.constant for t in node.inputs):
        return
    if node.op in ops.KERNELS:
        kernel = ops.KERNELS[node.op](node)
        data = node.inputs[1 - kernel.index] if kernel is not None else None
        if kernel is not None and data is not None and y.rank > 0:
            arrives = value(data, kernel.channel)
            found = constant.kernel_constants(node, arrives, read)
            if found is not None and len(found) == y.size(kernel.channel):
                yield y.at(kernel.channel), found
    elif node.op in constant.AFFINE and len(node.outputs) == 1:
        yield y.at(1), constant.scaled(node, value(x, 1), read)
    elif node.op in constant.KEEPS:
        yield from _elementwise(node, value, read)
    else:
        yield from _moved(node, value)


def _moved(node: Node, value: Callable[[Tensor, int], Floats]) -> Iterable[tuple[Axis, Floats]]:
    """Follow the couplings: a position is constant if all that flows into it is, and agrees."""
    inputs = {t.name: t for t in node.inputs if t is not None}
    pairs: dict[Axis, list[tuple[Axis, Ints, Ints]]] = {}
    for fact in ops.COUPLINGS[node.op](node) if node.op in ops.COUPLINGS else ():
        for c in fact.options if isinstance(fact, Choice) else (fact,):
            if isinstance(c, Coupling):
                a, b, a_at, b_at = c.a, c.b, c.a_at, c.b_at
                if a.tensor not in inputs:
                    a, b, a_at, b_at = b, a, b_at, a_at
                if a.tensor in inputs and b.tensor not in inputs:
                    whole = np.arange(inputs[a.tensor].size(a.axis) or 0)
                    at = (whole, whole) if a_at is None or b_at is None else (a_at, b_at)
                    pairs.setdefault(b, []).append((a, *at))
    for y in node.outputs:
        for k in range(y.rank):
            size = y.size(k)
            flows = pairs.get(y.at(k))
            if size is None or not flows:
                continue
            low, high = np.full(size, np.inf), np.full(size, -np.inf)
            for a, a_at, b_at in flows:
                arrives = value(inputs[a.tensor], a.axis)[a_at]
                np.minimum.at(low, b_at, arrives)
                np.maximum.at(high, b_at, arrives)
            found = np.where(low == high, low, np.nan)
            if node.op == "Pad":
                found = _padded(node, found, low > high, k)
            elif node.op not in constant.COPIES | constant.SAME_EVERYWHERE:
                found = constant.same_after(node, found)
            yield y.at(k), found


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
        rows = [None if t is None else _aligned(t, k - y.rank, size, value, read) for t in node.inputs]
        known = [row for row in rows if row is not None]
        zero = np.any([row == 0 for row in known], axis=0) & (node.op == "Mul")
        whole = ~np.isnan(known).any(0)
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
    stored = read(tensor.name) if tensor.constant else None
    single = stored is not None and stored.size == 1
    return np.full(size, float(stored.ravel()[0]) if single and stored is not None else np.nan)


def _run(node: Node, rows: list[Floats | None]) -> Floats | None:
    data = {f"in{k}": row.astype(np.float32) for k, row in enumerate(rows) if row is not None}
    if node.op == "Clip":  # its bounds are scalars
        data = {name: row if name == "in0" else row[:1].reshape(()) for name, row in data.items()}
    names = ["" if row is None else f"in{k}" for k, row in enumerate(rows)]
    model, outputs = graph.single_node(node.op, names, dict(node.attrs), node.opset, data)
    result = runtime.compute(model, outputs)
    return result[outputs[0]].astype(np.float64) if result else None


def _readers(
    found: Survey, group: Group, read: Read, values: Mapping[Axis, Floats]
) -> list[_Reader] | None:
    """Everything that reads the group's channels; None if some of it cannot be looked into."""
    at = dict(group.axes())
    uses = Counter(t.name for n in found.nodes for t in n.inputs if t is not None)
    readers = []
    for node in found.nodes:
        kernel = ops.KERNELS[node.op](node) if node.op in ops.KERNELS else None
        weight = node.inputs[kernel.index] if kernel is not None else None
        if kernel is None or weight is None or kernel.in_axis is None:
            continue
        data = node.inputs[1 - kernel.index]
        if data is None or data.at(kernel.channel) not in at:
            if weight.at(kernel.in_axis) in at:
                return None
            continue
        stored = read(weight.name)
        width = data.size(kernel.channel)
        if stored is None or width is None or stored.ndim < 2 or uses[weight.name] > 1:
            return None
        if node.op == "MatMul" and stored.ndim != 2:
            return None
        bias = node.input(kernel.bias) if kernel.bias is not None else None
        bias_stored = read(bias.name) if bias is not None else None
        n_out = stored.shape[kernel.out_axis] if node.op != "ConvTranspose" else -1
        readers.append(
            _Reader(
                node,
                kernel,
                stored,
                constant.reading(node, stored, width),
                constant.reading(node, np.abs(stored), width) != 0,
                values.get(data.at(kernel.channel), np.full(width, np.nan)),
                at[data.at(kernel.channel)],
                foldable=not constant.padded(node)
                and bias_stored is not None
                and bias is not None
                and bias_stored.size == n_out
                and uses[bias.name] == 1,
            )
        )
    return readers


def _sift(
    group: Group,
    kept: NDArray[np.bool_],
    readers: Sequence[_Reader],
    alive: Mapping[str, NDArray[np.bool_]],
    work: _Work,
) -> NDArray[np.bool_]:
    """Drop what can go now, folding what it carries; at least one channel stays."""
    going, carried = kept.copy(), np.zeros((len(readers), group.channels), bool)
    for r, reader in enumerate(readers):
        rows = alive.get(reader.node.outputs[0].name)
        used = reader.used if rows is None else reader.used[rows]
        reads = used.any(0)[reader.positions]  # (n_channels, k)
        number = reader.arrives[reader.positions]
        silent = ~reads | (number == 0)
        going &= (silent | ~np.isnan(number)).all(1)
        folded = reader.foldable
        carried[r] = ~silent.all(1) & (not folded)
        if not folded and reader.positions.shape[1] > 1:
            going &= ~carried[r]
    going &= kept
    carrier = _carrier(going, carried)
    if carrier is not None:
        going &= ~(carried & ~carried[:, [carrier]]).any(0)
        going[carrier] = False
    if (going == kept).all():
        going[np.flatnonzero(going)[:1]] = False
    for r, reader in enumerate(readers):
        _fold(reader, np.flatnonzero(going), carrier if carried[r][going].any() else None, work)
    return kept & ~going


def _carrier(going: NDArray[np.bool_], carried: NDArray[np.bool_]) -> int | None:
    """The channel that stays to carry the others' constants into padded readers."""
    needs = (carried & going).sum(0)
    return int(needs.argmax()) if needs.any() else None


def _fold(reader: _Reader, gone: Ints, carrier: int | None, work: _Work) -> None:
    """Add what the removed channels bring to the bias, or to the carrier's weights."""
    positions = reader.positions[gone].ravel()
    numbers = np.nan_to_num(reader.arrives[positions])
    if not numbers.any():
        return
    node, kernel = reader.node, reader.kernel
    if carrier is None:
        if reader.foldable and kernel.bias is not None:
            bias = node.inputs[kernel.bias]
            assert bias is not None
            target = work.weight(bias.name)
            scale = float(node.attrs.get("alpha", 1.0)) / float(node.attrs.get("beta", 1.0))
            target += (scale * (reader.taps[:, positions] @ numbers)).reshape(target.shape)
        return
    weight = node.inputs[kernel.index]
    assert weight is not None and kernel.in_axis is not None
    columns = np.moveaxis(work.weight(weight.name), kernel.in_axis, 0)
    home = int(reader.positions[carrier, 0])
    columns[home] += np.tensordot(numbers / reader.arrives[home], columns[positions], 1)


def _alive_rows(
    found: Survey, kept: Sequence[NDArray[np.bool_]]
) -> dict[str, NDArray[np.bool_]]:
    """For every reader's result which of its channels are still there."""
    gone: dict[Axis, Ints] = {}
    for group, mask in zip(found.groups, kept, strict=True):
        for axis, positions in () if mask.all() else group.axes():
            lost = positions[~mask].ravel()
            gone[axis] = np.concatenate([gone[axis], lost]) if axis in gone else lost
    rows = {}
    for node in found.nodes:
        kernel = ops.KERNELS[node.op](node) if node.op in ops.KERNELS else None
        y = node.outputs[0] if node.outputs else None
        if kernel is not None and y is not None and y.rank > 0 and y.at(kernel.channel) in gone:
            rows[y.name] = np.ones(y.size(kernel.channel) or 0, bool)
            rows[y.name][gone[y.at(kernel.channel)]] = False
    return rows
