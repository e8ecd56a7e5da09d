"""Operators that join, cut and pick positions: the index maps with offsets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.ops import slicing_gradient
from onnxprune.ops.constants import constant, followed
from onnxprune.ops.facets import COPIES, DECIDING, LOOKUPS, state
from onnxprune.ops.gradients import gradient, joint_gradient
from onnxprune.ops.moments import moments, side_by_side
from onnxprune.ops.moments_places import picked
from onnxprune.ops.registry import (
    by_key,
    couples,
    kernel,
    places,
    same,
    same_but,
    shrinks,
    stored_entries,
)
from onnxprune.types import Coupling, Edit, Ints, Kept, Kernel, Node, Tensor


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


@places("Slice")
def slice_places(node: Node) -> dict[int, Ints] | None:
    """The positions that are taken of each sliced axis."""
    sliced, y = _slices(node), node.outputs[0]
    if sliced is None or any(len(at) != y.size(axis) for axis, (_, at) in sliced.items()):
        return None
    return {axis: taken for axis, (_, taken) in sliced.items()}


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


state(COPIES, "joins", "Concat")
state(COPIES, "picks", "Slice", "Split")
state(COPIES, "repeats", "Gather")
state(LOOKUPS, 1, "Gather")
state(DECIDING, (), "Concat")
state(DECIDING, (1,), "Gather")
state(DECIDING, (1, 2, 3, 4), "Slice")
constant("Concat", "Gather", "Slice", "Split")(followed())
moments("Concat")(side_by_side)
moments("Slice")(picked)
gradient("Concat")(slicing_gradient.concat)
gradient("Gather")(slicing_gradient.gather)
gradient("Slice")(slicing_gradient.slice_)
joint_gradient("Split")(slicing_gradient.split)
