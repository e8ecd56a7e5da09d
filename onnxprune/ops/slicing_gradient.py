"""Gradients of operators that join, cut and pick positions; sizes must be static."""

from __future__ import annotations

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, to_first
from onnxprune.types import Node

__all__ = ["concat", "gather", "pad", "slice_"]


def _ints(node: Node, index: int) -> list[int] | None:
    """The integers that an input holds, None where it is left out."""
    tensor = node.input(index)
    if tensor is None:
        return None
    values = tensor.ints()
    need(values is not None and None not in values)
    return [int(v) for v in values or () if v is not None]


def slice_(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy put back to where it was taken."""
    x = tensor_of(node)
    starts, ends = _ints(node, 1), _ints(node, 2)
    need(starts is not None and ends is not None)
    assert starts is not None and ends is not None
    axes = _ints(node, 3) or list(range(len(starts)))
    steps = _ints(node, 4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = x.size(axis) or 0
        need(size)
        dy = t.placed(
            dy, axis % x.rank, list(range(size))[slice(start, _end(end, step), step)], size
        )
    return to_first(node, dy)


def _end(end: int, step: int) -> int | None:
    """The end of a slice; below everything it means: to the first position."""
    return None if step < 0 and end < -(2**30) else end


def pad(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy without what was added."""
    x, pads = tensor_of(node), _ints(node, 1)
    mode = node.attrs.get("mode", "constant")
    need(pads is not None and mode in ("constant", b"constant") and node.input(3) is None)
    assert pads is not None
    for axis in range(x.rank):
        begin, end = pads[axis], pads[x.rank + axis]
        if begin or end:
            size = x.size(axis) or 0
            need(size and begin >= 0 and end >= 0)
            dy = t.take(dy, axis, range(begin, begin + size))
    return to_first(node, dy)


def concat(t: Builder, node: Node, dy: str) -> Gradients:
    """The piece of dy that each input made."""
    axis, at, found = int(node.attrs["axis"]), 0, list[str | None]()
    for k in range(len(node.inputs)):
        size = tensor_of(node, k).size(axis) or 0
        need(size)
        found.append(t.take(dy, axis, range(at, at + size)))
        at += size
    return found


def gather(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy put back to known, different positions."""
    x, axis = tensor_of(node), int(node.attrs.get("axis", 0)) % tensor_of(node).rank
    index = tensor_of(node, 1)
    size, picked = x.size(axis) or 0, _ints(node, 1)
    need(size and picked and index.rank <= 1)
    assert picked is not None
    at = [p % size for p in picked]
    need(len(set(at)) == len(at))
    if index.rank == 0:
        dy = t.along("Unsqueeze", dy, [axis])
    return to_first(node, t.placed(dy, axis, at, size))
