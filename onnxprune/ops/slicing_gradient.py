"""Gradients of operators that join, cut and pick positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, text_of, to_first
from onnxprune.types import Node, Tensor

__all__ = ["concat", "gather", "pad", "slice_", "split"]


def _ints(node: Node, index: int, attribute: str = "") -> list[int] | None:
    """The integers that an input holds, or before it was one an attribute; None: left out."""
    tensor = node.input(index)
    if tensor is None:
        given = node.attrs.get(attribute)
        return None if given is None else [int(v) for v in given]
    values = tensor.ints()
    need(values is not None and None not in values)
    return [int(v) for v in values or () if v is not None]


def slice_(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy put back to where it was taken."""
    x = tensor_of(node)
    axes = _ints(node, 3, "axes")
    steps = _ints(node, 4)
    starts = node.input(1)
    if starts is not None and (starts.ints() is None or None in (starts.ints() or ())):
        need(starts.size(0) and set(steps or [1]) == {1})
        at = axes or list(range(starts.size(0) or 0))
        return to_first(node, _between(t, dy, x, [a % x.rank for a in at], starts.name))
    known = _ints(node, 1, "starts")
    assert known is not None
    axes = [a % x.rank for a in axes or range(len(known))]
    steps = steps or [1] * len(known)
    if steps == [1] * len(known) and not all(x.size(axis) for axis in axes):
        return to_first(node, _between(t, dy, x, axes, t.constant(known, np.int64)))
    ends = _ints(node, 2, "ends")
    assert ends is not None
    for axis, start, end, step in zip(axes, known, ends, steps, strict=True):
        size = x.size(axis) or 0
        need(size)
        dy = t.placed(dy, axis, list(range(size))[slice(start, _end(end, step), step)], size)
    return to_first(node, dy)


def _end(end: int, step: int) -> int | None:
    """The end of a slice; below everything it means: to the first position."""
    return None if step < 0 and end < -(2**30) else end


def _between(t: Builder, dy: str, x: Tensor, axes: Sequence[int], starts: str) -> str:
    """Put zeros before and behind `dy`, up to the sizes of `x`, which only a run tells."""
    need(t.opset >= 13)
    at, zero = t.constant(list(axes), np.int64), t.constant(0, np.int64)
    sizes, taken = (t.emit("Gather", t.sizes(name), at) for name in (x.name, dy))
    starts = t.emit("Cast", starts, to=7)
    from_end = t.emit("Where", t.emit("Less", starts, zero), sizes, zero)
    before = t.emit("Min", t.emit("Max", t.emit("Add", starts, from_end), zero), sizes)
    behind = t.minus(t.minus(sizes, before), taken)
    places = t.constant([*axes, *(x.rank + axis for axis in axes)], np.int64)
    none = t.constant([0] * 2 * x.rank, np.int64)
    amounts = t.emit("Concat", before, behind, axis=0)
    return t.emit("Pad", dy, t.emit("ScatterElements", none, places, amounts))


def pad(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy without what was added; what stands in for it by mirroring is added to its origin."""
    x, pads, mode = tensor_of(node), _ints(node, 1, "pads"), text_of(node, "mode", "constant")
    need(pads is not None and mode in ("constant", "reflect", "edge", "wrap"))
    axes = _ints(node, 3) or list(range(x.rank))
    assert pads is not None
    for k, axis in enumerate(axes):
        begin, end = pads[k], pads[len(axes) + k]
        if mode != "constant" and (begin or end):
            size = x.size(axis) or 0
            need(size and min(begin, end) >= 0)
            at = np.pad(np.arange(size), (begin, end), mode)  # type: ignore[call-overload]
            dy = t.mixed(dy, x.rank, axis % x.rank, np.eye(size)[at])
        elif begin or end:
            need(begin >= 0 and end >= 0)
            dy = t.cut(dy, axis % x.rank, begin, -end if end else None)
    return to_first(node, dy)


def concat(t: Builder, node: Node, dy: str) -> Gradients:
    """The piece of dy that each input made."""
    inputs = [tensor_of(node, k) for k in range(len(node.inputs))]
    axis, at, found = int(node.attrs["axis"]) % inputs[0].rank, 0, list[str | None]()
    sizes = [x.size(axis) for x in inputs]
    if None in sizes:
        return _pieces(t, inputs, axis, dy)
    for size in sizes:
        assert size is not None
        found.append(t.cut(dy, axis, at, at + size))
        at += size
    return found


def _pieces(t: Builder, inputs: Sequence[Tensor], axis: int, dy: str) -> Gradients:
    """Pieces whose sizes only a run tells."""
    start, found = t.constant([0], np.int64), list[str | None]()
    along, place = t.constant([axis], np.int64), t.constant([axis], np.int64)
    for x in inputs:
        end = t.emit("Add", start, t.emit("Gather", t.sizes(x.name), place))
        found.append(t.emit("Slice", dy, start, end, along))
        start = end
    return found


def split(t: Builder, node: Node, grads: Sequence[str | None]) -> Gradients:
    """All pieces joined; those that nothing depends on are zero."""
    need(len(grads) == len(node.outputs))
    pairs = zip(grads, node.outputs, strict=True)
    parts = [grad or t.spread(t.constant(0.0), y) for grad, y in pairs]
    return to_first(node, t.emit("Concat", *parts, axis=int(node.attrs.get("axis", 0))))


def gather(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy put back to known, different positions, or added to those that a run tells."""
    x, index = tensor_of(node), tensor_of(node, 1)
    axis, size = int(node.attrs.get("axis", 0)) % x.rank, x.size(int(node.attrs.get("axis", 0)))
    picked = index.ints()
    if size and picked and index.rank <= 1:
        at = [p % size for p in picked if p is not None]
        if len(set(at)) == len(picked):
            dy = dy if index.rank else t.along("Unsqueeze", dy, [axis])
            return to_first(node, t.placed(dy, axis, at, size))
    return to_first(node, _added(t, node, dy, axis))


def _added(t: Builder, node: Node, dy: str, axis: int) -> str:
    """Add rows of `dy` to those of zeros that were looked up."""
    need(t.opset >= 16)
    x, index = tensor_of(node), tensor_of(node, 1)
    sizes, some = t.sizes(x.name), t.constant([-1], np.int64)
    ends = t.cut(sizes, 0, 0, axis), t.cut(sizes, 0, axis + 1, None)
    rows = t.emit("Reshape", dy, t.emit("Concat", ends[0], some, ends[1], axis=0))
    line = t.constant([1] * axis + [-1] + [1] * (x.rank - 1 - axis), np.int64)
    places = t.emit("Reshape", t.emit("Cast", index.name, to=7), line)
    return t.added(t.spread(t.constant(0.0), x), axis, places, rows)
