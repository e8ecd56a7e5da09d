"""Operators that put positions beside each other: pads, copies, and depth that becomes space."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops import reshape_gradient, slicing_gradient
from onnxprune.ops.constants import constant, followed, unknown
from onnxprune.ops.facets import COPIES, MOVES, mark, state
from onnxprune.ops.gradients import gradient
from onnxprune.ops.moments import moments
from onnxprune.ops.moments_places import picked
from onnxprune.ops.registry import (
    by_key,
    couples,
    places,
    same,
    same_but,
    shrinks,
    stored_entries,
)
from onnxprune.types import Coupling, Edit, Floats, Free, Ints, Kept, Node


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


@places("Pad")
def pad_places(node: Node) -> dict[int, Ints] | None:
    """Zeros before and after; negative padding crops. Nothing but zeros counts."""
    x, y, pads = node.inputs[0], node.outputs[0], _pads(node)
    if x is None or pads is None or node.attrs.get("mode", "constant") != "constant":
        return None
    if _fill(node) != 0:
        return None
    found = dict[int, Ints]()
    for axis, (before, after, _) in pads.items():
        size, out = x.size(axis), y.size(axis)
        if before == after == 0:
            continue
        if size is None or out is None or before is None or after is None:
            return None
        at = np.arange(out) - before
        found[axis] = np.where((at >= 0) & (at < size), at, -1)
    return found


def _fill(node: Node) -> float | None:
    """The number beside what is padded; None where it may vary."""
    third = node.input(2)
    fill = node.attrs.get("value", 0.0) if third is None else third.value
    return None if fill is None else float(np.ravel(fill)[0])


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


def _padded(node: Node, axis: int, found: Floats, reached: NDArray[np.bool_]) -> Floats:
    """Zeros added along this axis are constant; zeros beside other axes spoil what is not zero."""
    second, number = node.input(1), _fill(node)
    entries = node.attrs.get("pads") or (None if second is None else second.ints())
    if number is None or entries is None or node.input(3) is not None:
        return unknown(found)
    if node.attrs.get("mode", "constant") != "constant":
        return found
    half = len(entries) // 2
    found = np.where(reached, found, number)
    beside = any(e != 0 for k, e in enumerate(entries) if k % half != axis)
    return np.where(found == number, found, np.nan) if beside else found


state(COPIES, "repeats", "Tile")
state(COPIES, "reshapes", "DepthToSpace", "SpaceToDepth")
mark(MOVES, "Pad")
constant("DepthToSpace", "SpaceToDepth", "Tile")(followed())
constant("Pad")(followed(_padded))
moments("Pad")(picked)
gradient("Pad")(slicing_gradient.pad)
gradient("Tile")(reshape_gradient.tile)
gradient("DepthToSpace")(reshape_gradient.depth_to_space)
gradient("SpaceToDepth")(reshape_gradient.space_to_depth)
