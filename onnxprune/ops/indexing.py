"""Operators that look positions up, or work along an axis by index: other axes pass.

Indices are positions of one axis of the data, which stays whole. An axis that only says how many
indices there are may go, and the indices are cut with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from onnxprune.ops import indexing_gradient
from onnxprune.ops.facets import CASTS, COPIES, LOOKUPS
from onnxprune.ops.gradients import gradient
from onnxprune.ops.registry import couples, same, same_but, shrinks, stored_entries
from onnxprune.types import Coupling, Edit, Kept, Node, Tensor


def _together(axis: int, tensors: Iterable[Tensor | None], y: Tensor) -> Iterator[Coupling]:
    """`axis` of all tensors is that of `y`, if it is equally long in all of them."""
    present = [x for x in tensors if x is not None]
    if y.size(axis) is not None and all(x.size(axis) == y.size(axis) for x in present):
        for x in present:
            yield from same(x, axis, y, axis)


@couples("GatherElements")
def gather_elements(node: Node) -> Iterator[Coupling]:
    """One index for every element of the result: the indices have its shape."""
    x, index, y = node.inputs[0], node.inputs[1], node.outputs[0]
    looked_up = node.attrs.get("axis", 0) % max(y.rank, 1)
    for axis in range(y.rank):
        yield from _together(axis, (index,) if axis == looked_up else (index, x), y)


@couples("GatherND")
def gather_nd(node: Node) -> Iterator[Coupling]:
    """Tuples of k indices stand for the k axes behind the batch; the axes after those pass."""
    x, index, y = node.inputs[0], node.inputs[1], node.outputs[0]
    if x is None or index is None or index.size(-1) is None:
        return
    batch = int(node.attrs.get("batch_dims", 0))
    for axis in range(index.rank - 1):
        yield from _together(axis, (x, index) if axis < batch else (index,), y)
    tail = batch + int(index.shape[-1])  # type: ignore[index]
    for axis in range(tail, x.rank):
        yield from same(x, axis, y, index.rank - 1 + axis - tail)


@couples("Scatter", "ScatterElements")
def scatter_elements(node: Node) -> Iterator[Coupling]:
    """One index for every element of the updates; axes that these fill in full pass."""
    y = node.outputs[0]
    written = node.attrs.get("axis", 0) % max(y.rank, 1)
    for axis in range(y.rank):
        if axis != written:
            yield from _together(axis, node.inputs, y)


@couples("ScatterND")
def scatter_nd(node: Node) -> Iterator[Coupling]:
    """Tuples of k indices stand for the first k axes; the axes after those pass."""
    x, index, updates, y = (*node.inputs, node.outputs[0])
    if x is None or index is None or updates is None or index.size(-1) is None:
        return
    first = int(index.shape[-1])  # type: ignore[index]
    for axis in range(first, x.rank):
        yield from same(x, axis, y, axis)
        yield from same(updates, index.rank - 1 + axis - first, y, axis)


@couples("TensorScatter")
def tensor_scatter(node: Node) -> Iterator[Coupling]:
    """Writes into one axis of a cache, at a place of its own for each sample."""
    y = node.outputs[0]
    for x in node.inputs[:2]:
        yield from same_but((node.attrs.get("axis", -2),), x, y)
    yield from same(node.input(2), 0, y, 0)


@couples("OneHot")
def one_hot(node: Node) -> Iterator[Coupling]:
    """The new axis counts the values of the indices."""
    x, y = node.inputs[0], node.outputs[0]
    if x is not None and x.rank >= 0:
        new = node.attrs.get("axis", -1) % (x.rank + 1)
        for axis in range(x.rank):
            yield from same(x, axis, y, axis if axis < new else axis + 1)


@couples("Compress")
def compress(node: Node) -> Iterator[Coupling]:
    """Which positions of `axis` are left is known at run time only; without it, of all axes."""
    if "axis" in node.attrs:
        yield from same_but((node.attrs["axis"],), node.inputs[0], node.outputs[0])


@couples("ReverseSequence")
def reverse_sequence(node: Node) -> Iterator[Coupling]:
    """Turns the beginning of `time_axis` round, as much of it as each sample says."""
    y = node.outputs[0]
    yield from same_but((node.attrs.get("time_axis", 0),), node.inputs[0], y)
    yield from same(node.inputs[1], 0, y, node.attrs.get("batch_axis", 1))


@couples("Trilu")
def trilu(node: Node) -> Iterator[Coupling]:
    """Compares the positions of the last two axes."""
    yield from same_but((-2, -1), node.inputs[0], node.outputs[0])


@couples("CenterCropPad")
def center_crop_pad(node: Node) -> Iterator[Coupling]:
    """An axis whose size stays is copied."""
    yield from same_but((), node.inputs[0], node.outputs[0])


@shrinks("CenterCropPad")
def shrink_center_crop_pad(node: Node, kept: Kept) -> Edit:
    """The shape input holds the widths of `axes`."""
    shape, y = node.inputs[1], node.outputs[0]
    axes = [axis % y.rank for axis in node.attrs.get("axes") or range(y.rank)]
    entries = zip(stored_entries(shape, len(axes)), axes, strict=True)
    new = (e if y.size(a) in (None, len(kept(y, a))) else len(kept(y, a)) for e, a in entries)
    return Edit(inputs={1: tuple(new)})


def index_bounds(nodes: Sequence[Node]) -> Callable[[str], int]:
    """Make a function from an integer input's name to one more than all its readers accept.

    2 if none says.
    """
    return lambda name: _bound(name, nodes)


def _bound(name: str, nodes: Sequence[Node]) -> int:
    reach, bounds = {name}, []
    for node in nodes:
        names = [None if t is None else t.name for t in node.inputs]
        table, index = node.input(0), LOOKUPS.get(node.op)
        if index is not None and names[index] in reach and table is not None:
            bounds.append(table.size(node.attrs.get("axis", 0)) or 2)
        elif node.op == "Equal" and reach.intersection(n for n in names if n):
            constants = [t.value for t in node.inputs if t is not None and t.value is not None]
            bounds += [int(np.max(v)) + 1 for v in constants if v.size and np.max(v) > 0]
        elif names and names[0] in reach and (node.op in CASTS or node.op in COPIES):
            reach.update(t.name for t in node.outputs)
    return min(bounds, default=2)


gradient("GatherElements")(indexing_gradient.gather_elements)
gradient("GatherND")(indexing_gradient.gather_nd)
gradient("ReverseSequence")(indexing_gradient.reverse_sequence)
gradient("ScatterElements")(indexing_gradient.scatter_elements)
gradient("ScatterND")(indexing_gradient.scatter_nd)
gradient("Trilu")(indexing_gradient.triangle)
