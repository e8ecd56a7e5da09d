"""Operators that show a model less of an input, and windows that cover all there is.

A window over the whole of space is written with the number of positions there. The operator for any
number of positions computes the same, and does so for a smaller input too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Axis, Ints, Node

__all__ = ["RESIZE_OPSET", "NewNode", "crop", "fitting", "of_any_size", "resize", "step_along"]

#: The first version of operators in which sizes are reduced without aliasing.
RESIZE_OPSET = 18
#: Windows, what computes the same over the whole of space, and which attributes that keeps.
_GLOBAL = {
    "AveragePool": ("GlobalAveragePool", ()),
    "MaxPool": ("GlobalMaxPool", ()),
    "LpPool": ("GlobalLpPool", ("p",)),
}


#: What slides a window over space: its first input has samples and channels first.
_SLIDES = {*_GLOBAL, "Conv", "com.microsoft:FusedConv"}


class NewNode(NamedTuple):
    """An operator on one tensor: what is stored as its further inputs, None where one is omitted.

    `least` is the first version of operators that has it.
    """

    op: str
    stored: tuple[NDArray[Any] | None, ...] = ()
    attrs: Mapping[str, Any] = {}
    least: int = 1


def crop(axes: Sequence[int], before: Sequence[int], after: Sequence[int]) -> NewNode:
    """Cut so many positions off both ends of axes, whatever their sizes."""
    ends = [-count if count else np.iinfo(np.int64).max for count in after]
    stored = (np.array(before, np.int64), np.array(ends, np.int64), np.array(axes, np.int64))
    return NewNode("Slice", stored, {}, 10)


def resize(axes: Sequence[int], full: Sequence[int], left: Sequence[int], fixed: bool) -> NewNode:
    """Resize axes from `full` positions to those `left`, linearly and without aliasing.

    Where sizes are not `fixed` the same ratio holds for others.
    """
    attrs = {"mode": "linear", "antialias": 1, "axes": list(axes)}
    if fixed:
        return NewNode("Resize", (None, None, np.array(left, np.int64)), attrs, RESIZE_OPSET)
    scales = np.array(left, np.float64) / np.array(full)
    return NewNode("Resize", (None, scales.astype(np.float32)), attrs, RESIZE_OPSET)


def step_along(node: Node, axis: int) -> int | None:
    """Positions from one window to the next along an axis of the data; None for other nodes."""
    if node.op not in _SLIDES or axis < 2:
        return None
    steps = node.attrs.get("strides")
    return int(steps[axis - 2]) if steps else 1


def of_any_size(node: Node) -> NewNode | None:
    """What computes the same and fits any size of space; None for nodes that are left alone."""
    return _sizes_as_they_come(node) if node.op == "Reshape" else _over_everything(node)


def fitting(node: Node, kept: Mapping[Axis, Ints]) -> NewNode | None:
    """A reshape that states the sizes of axes that were only moved, as they are with less input.

    Args:
        node: any.
        kept: positions of the axes that lost some.
    """
    x, sizes, y = node.input(0), node.input(1), node.outputs[0] if node.outputs else None
    stated = None if node.op != "Reshape" or sizes is None or not sizes.constant else sizes.ints()
    if x is None or y is None or stated is None:
        return None
    other = of_any_size(node)
    written = None if other is None else other.stored[0]
    entries = list(stated) if written is None else written.tolist()
    before = [(x.size(k), kept.get(x.at(k))) for k in range(x.rank)]
    for k, entry in enumerate(entries):
        left = kept.get(y.at(k))
        moved = left is not None and any(
            size == y.size(k) and own is not None and np.array_equal(own, left)
            for size, own in before
        )
        if entry is not None and entry > 0 and left is not None and moved:
            entries[k] = len(left)
    if None in entries or tuple(entries) == stated:
        return None
    return NewNode("Reshape", (np.array(entries, np.int64),), {})


def _over_everything(node: Node) -> NewNode | None:
    """The operator for a window over all there is."""
    known, x = _GLOBAL.get(node.op), node.input(0)
    window = node.attrs.get("kernel_shape")
    if known is None or x is None or not window or len(node.outputs) != 1:
        return None
    space = [x.size(axis) for axis in range(2, x.rank)]
    plain = not any(node.attrs.get("pads", ())) and set(node.attrs.get("dilations", (1,))) == {1}
    unpadded = node.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if list(window) != space or not plain or not unpadded:
        return None
    op, kept = known
    return NewNode(op, (), {name: node.attrs[name] for name in kept if name in node.attrs})


def _sizes_as_they_come(node: Node) -> NewNode | None:
    """A reshape that copies sizes where it states the same, and leaves one more to be found."""
    x, sizes, y = node.input(0), node.input(1), node.outputs[0]
    stated = None if sizes is None or not sizes.constant else sizes.ints()
    if x is None or x.constant or x.shape is None or y.shape is None or stated is None:
        return None
    same = [k < x.rank and x.shape[k] == y.shape[k] for k in range(y.rank)]
    first = same.index(False) if False in same else y.rank
    last = y.rank
    while x.rank == y.rank and last > first and same[last - 1]:
        last -= 1
    entries = [0 if k < first or k >= last else stated[k] for k in range(y.rank)]
    if last - first == 1:
        entries[first] = -1
    if None in entries or entries.count(-1) > 1 or (first == y.rank < x.rank):
        return None
    if tuple(entries) == stated:
        return None
    return NewNode("Reshape", (np.array(entries, np.int64),), {})
