"""Operators that join, cut and pick positions: the index maps with offsets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.registry import by_key, couples, kernel, same, same_but, shrinks, stored_entries
from onnxprune.types import Coupling, Edit, Free, Ints, Kept, Kernel, Node, Tensor


@couples("Concat")
def concat(node: Node) -> Iterator[Coupling]:
    """Each input's positions keep their order inside the result's `axis`."""
    y, start = node.outputs[0], 0
    axis = node.attrs["axis"] % max(y.rank, 1)
    static = y.size(axis) is not None
    for x in node.inputs:
        if x is None or x.rank != y.rank:
            return
        yield from same_but((axis,), x, y)
        size = x.size(axis)
        if static and size:
            at = np.arange(size)
            yield Coupling(x.at(axis), y.at(axis), at, start + at)
            start += size


@couples("Split")
def split(node: Node) -> Iterator[Coupling]:
    """The reverse of Concat; the results' shapes say where it cuts."""
    x, start = node.inputs[0], 0
    if x is None or x.rank < 0:
        return
    axis = node.attrs.get("axis", 0) % max(x.rank, 1)
    static = all(y.size(axis) is not None for y in node.outputs) and x.size(axis) is not None
    for y in node.outputs:
        yield from same_but((axis,), x, y)
        if static:
            at = np.arange(y.size(axis) or 0)
            yield Coupling(x.at(axis), y.at(axis), start + at, at)
            start += len(at)


@shrinks("Split")
def shrink_split(node: Node, kept: Kept) -> Edit:
    """Write the sizes out: an input from opset 13 on, an attribute before."""
    axis = node.attrs.get("axis", 0)
    full = tuple(y.size(axis) for y in node.outputs)
    sizes = full if None in full else tuple(len(kept(y, axis)) for y in node.outputs)
    if sizes == full:
        return Edit()
    if node.opset < 13:
        return Edit(attrs={"split": sizes})
    return Edit(attrs={"num_outputs": None}, inputs={1: sizes})


def _slices(node: Node) -> dict[int, tuple[int, Ints]] | None:
    """For each sliced axis: entry number and positions taken (none where they may vary)."""
    x = node.inputs[0]
    if x is None or x.rank < 0:
        return None
    if node.opset < 10:
        cut = [node.attrs.get(k) for k in ("starts", "ends", "axes", "steps")]
        starts, ends, axes, steps = (None if v is None else tuple(v) for v in cut)
    else:
        given = [node.input(k) for k in range(1, 5)]
        starts, ends, axes, steps = (None if t is None else t.ints() for t in given)
        if given[2] is not None and (axes is None or None in axes):
            return None
    count = next((len(v) for v in (starts, ends, axes) if v is not None), 0)
    unknown = (None,) * count
    axes = axes or tuple(range(count))
    if len(node.inputs) > 4 and node.inputs[4] is not None and steps is None:
        steps = unknown
    rows = zip(axes, starts or unknown, ends or unknown, steps or (1,) * count, strict=True)
    return {int(a) % x.rank: (k, _taken(x, a, s)) for k, (a, *s) in enumerate(rows)}


def _taken(x: Tensor, axis: int, cut: list[int | None]) -> Ints:
    """Positions that start, end and step take; none where they vary."""
    size, (start, end, step) = x.size(axis), cut
    if size is None or start is None or end is None or not step:
        return np.arange(0)
    return np.arange(size)[slice(*_bounds(start, end, step, size))]


def _bounds(start: int, end: int, step: int, size: int) -> tuple[int, int | None, int]:
    """ONNX bounds as Python's: clamped, and None where a reverse slice runs off the front."""
    start, end = (v + size if v < 0 else v for v in (start, end))
    if step > 0:
        return max(start, 0), max(min(end, size), 0), step
    return max(min(start, size - 1), 0), None if end < 0 else min(end, size - 1), step


@couples("Slice")
def slice_(node: Node) -> Iterator[Coupling]:
    """Positions that are taken keep their order; others are free to go.

    A step of s takes one of every s neighbours, which live and die together: the pattern stays.
    """
    x, y, sliced = node.inputs[0], node.outputs[0], _slices(node)
    if x is None or sliced is None:
        return
    yield from same_but(sliced, x, y)
    for axis, (_, taken) in sliced.items():
        if len(taken) and len(taken) == y.size(axis):
            yield Coupling(x.at(axis), y.at(axis), taken, np.arange(len(taken)))
            step = abs(int(taken[1] - taken[0])) if len(taken) > 1 else 1
            if step > 1:
                block = np.arange(x.size(axis) or 0) // step
                yield by_key(x.at(axis), block, x.at(axis), block)


@shrinks("Slice")
def shrink_slice(node: Node, kept: Kept) -> Edit:
    """Start and end move to where the kept positions now lie."""
    x, y, sliced = node.inputs[0], node.outputs[0], _slices(node)
    assert x is not None and sliced is not None
    starts, ends = _slice_entries(node)
    for axis, (k, taken) in sliced.items():
        kept_x = kept(x, axis) if x.size(axis) is not None else None
        if kept_x is None or len(kept_x) == x.size(axis) or not len(taken):
            continue
        at = np.searchsorted(kept_x, taken[kept(y, axis)])
        starts[k] = int(at[0])
        ends[k] = int(at[-1]) + 1
        if _backward(node, k):
            ends[k] = int(at[-1]) - 1 if at[-1] else -(2**31)
    if node.opset < 10:
        return Edit(attrs={"starts": starts, "ends": ends})
    return Edit(inputs={1: tuple(starts), 2: tuple(ends)})


def _backward(node: Node, k: int) -> bool:
    """Whether entry `k` counts down, which a single position does not show."""
    step = node.input(4)
    entries = step.ints() if step is not None else None
    return entries is not None and (entries[k] or 1) < 0


def _slice_entries(node: Node) -> tuple[list[int | None], list[int | None]]:
    if node.opset < 10:
        return list(node.attrs["starts"]), list(node.attrs["ends"])
    start, end = node.inputs[1], node.inputs[2]
    return list(stored_entries(start, 1)), list(stored_entries(end, 1))


@couples("Gather")
def gather(node: Node) -> Iterator[Coupling]:
    """A constant list of indices picks positions; other axes are copied."""
    x, index, y = node.inputs[0], node.inputs[1], node.outputs[0]
    if x is None or index is None or x.rank < 1 or index.rank < 0:
        return
    axis = node.attrs.get("axis", 0) % x.rank
    for i in (i for i in range(x.rank) if i != axis):
        yield from same(x, i, y, i if i < axis else i - 1 + index.rank)
    at = _picked(node)
    if at is not None:
        yield Coupling(x.at(axis), y.at(axis), at, np.arange(len(at)))
        return
    for i in range(index.rank):  # the indices themselves may be cut
        yield from same(index, i, y, axis + i)


def _picked(node: Node) -> Ints | None:
    """Positions that a constant list of indices picks; None where they may vary."""
    x, index = node.inputs[0], node.inputs[1]
    if x is None or index is None or index.rank != 1 or not index.constant:
        return None
    size, picks = x.size(node.attrs.get("axis", 0) % x.rank), index.ints()
    if size is None or not picks or None in picks:
        return None
    return np.array(picks, np.int64) % size


@shrinks("Gather")
def shrink_gather(node: Node, kept: Kept) -> Edit:
    """Kept picks point at where the kept positions now lie."""
    x, y, at = node.inputs[0], node.outputs[0], _picked(node)
    if x is None or at is None:
        return Edit()
    axis = node.attrs.get("axis", 0) % x.rank
    return Edit(inputs={1: tuple(np.searchsorted(kept(x, axis), at[kept(y, axis)]).tolist())})


@kernel("Gather")
def kernel_gather(node: Node) -> Kernel | None:
    """A stored table whose rows are looked up (an embedding): its last axis makes the channels."""
    x, index = node.inputs[0], node.inputs[1]
    if x is None or index is None or x.rank < 2 or not x.constant or index.constant:
        return None
    axis = node.attrs.get("axis", 0) % x.rank
    out = x.rank - 1 if axis != x.rank - 1 else x.rank - 2
    return Kernel(0, out, None, channel=out if out < axis else out - 1 + index.rank)


def _pads(node: Node) -> dict[int, tuple[int | None, int | None, int]] | None:
    """(before, after, entry number) for each padded axis; a pad that may vary is None."""
    x = node.inputs[0]
    if x is None or x.rank < 0:
        return None
    given = node.input(1)
    pads: tuple[int | None, ...] | None = tuple(node.attrs.get("pads", ())) or None
    if given is not None and pads is None:
        pads = given.ints()
    if pads is None:
        return None
    axes_input = node.input(3)
    axes = tuple(range(x.rank)) if axes_input is None else axes_input.ints()
    if axes is None or None in axes:
        return None
    half = len(pads) // 2
    return {(a or 0) % x.rank: (pads[k], pads[k + half], k) for k, a in enumerate(axes)}


@couples("Pad")
def pad(node: Node) -> Iterator[Coupling]:
    """Padding adds constant positions that may go; negative padding crops."""
    x, y, pads = node.inputs[0], node.outputs[0], _pads(node)
    if x is None or pads is None:
        return
    yield from same_but(pads, x, y)
    constant = node.attrs.get("mode", "constant") == "constant"
    for axis, (before, after, _) in pads.items():
        size = x.size(axis)
        if (
            before is None
            or after is None
            or size is None
            or not (constant or before == after == 0)
        ):
            continue
        at = np.arange(max(-before, 0), size - max(-after, 0))
        if len(at) and size + before + after == y.size(axis):
            yield Coupling(x.at(axis), y.at(axis), at, at + before)


@shrinks("Pad")
def shrink_pad(node: Node, kept: Kept) -> Edit:
    """As many pads remain as padded (or cropped) positions do."""
    x, y, pads = node.inputs[0], node.outputs[0], _pads(node)
    assert x is not None and pads is not None
    half = len(pads)
    stored = node.attrs.get("pads") or stored_entries(node.input(1), 2 * half)
    new: list[int | None] = list(stored)
    for axis, (before, after, k) in pads.items():
        size, out = x.size(axis), y.size(axis)
        if size is None or out is None or before is None or after is None:
            continue
        kept_x, kept_y = kept(x, axis), kept(y, axis)
        if len(kept_x) < size or len(kept_y) < out:
            new[k] = _count(kept_y < before) if before > 0 else -_count(kept_x < -before)
            end = _count(kept_y >= out - after) if after > 0 else -_count(kept_x >= size + after)
            new[k + half] = end
    if "pads" in node.attrs:
        return Edit(attrs={"pads": new})
    return Edit(inputs={1: tuple(new)})


def _count(where: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(where))


@couples("Tile")
def tile(node: Node) -> Iterator[Coupling | Free]:
    """Position p of the result is a copy of position p modulo the size.

    Copies of one single position may go one by one.
    """
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.rank != y.rank:
        return
    for axis in range(x.rank):
        n, m = x.size(axis), y.size(axis)
        if n == 1 and m and m > 1:
            yield Free(y.at(axis))
        elif n and m:
            yield by_key(x.at(axis), np.arange(n), y.at(axis), np.arange(m) % n)


@shrinks("Tile")
def shrink_tile(node: Node, kept: Kept) -> Edit:
    """A single position is repeated as often as copies are left."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    repeats = [
        entry
        if x.size(axis) != 1 or y.size(axis) in (None, len(kept(y, axis)))
        else len(kept(y, axis))
        for axis, entry in enumerate(stored_entries(node.inputs[1], x.rank))
    ]
    return Edit(inputs={1: tuple(repeats)})


@couples("DepthToSpace", "SpaceToDepth")
def depth_space(node: Node) -> Iterator[Coupling]:
    """blocksize² channels of the deep side make one channel of the wide side."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.size(1) is None or y.size(1) is None:
        return
    yield from same(x, 0, y, 0)
    deep, wide = (x, y) if node.op == "DepthToSpace" else (y, x)
    n, area = wide.size(1) or 0, node.attrs["blocksize"] ** 2
    column_first = node.op == "DepthToSpace" and node.attrs.get("mode", "DCR") == "CRD"
    key = np.repeat(np.arange(n), area) if column_first else np.tile(np.arange(n), area)
    yield by_key(wide.at(1), np.arange(n), deep.at(1), key)
