"""Operators that sample, transform or assemble space and time, and leave channels alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.ops.registry import by_key, couples, same, same_but
from onnxprune.types import Coupling, Node


@couples("GridSample")
def grid_sample(node: Node) -> Iterator[Coupling]:
    """Reads every channel at the places that a grid names."""
    x, grid, y = node.inputs[0], node.inputs[1], node.outputs[0]
    yield from same(x, 0, y, 0)
    yield from same(x, 1, y, 1)
    yield from same(grid, 0, y, 0)
    for axis in range(2, y.rank):
        yield from same(grid, axis - 1, y, axis)


@couples("Col2Im")
def col2im(node: Node) -> Iterator[Coupling]:
    """Each channel of the image lies in as many neighbouring rows as a block has elements."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.size(1) is None or y.size(1) is None:
        return
    yield from same(x, 0, y, 0)
    rows, channels = x.size(1) or 0, y.size(1) or 0
    key = np.repeat(np.arange(channels), rows // channels)
    yield by_key(y.at(1), np.arange(channels), x.at(1), key)


@couples("DFT")
def dft(node: Node) -> Iterator[Coupling]:
    """Transforms one axis; the last one holds real and imaginary parts."""
    axis: int | None = node.attrs.get("axis", 1 if node.opset < 20 else -2)
    given = node.input(2)
    if given is not None:
        entries = given.ints()
        axis = entries[0] if entries else None
    if axis is not None:
        yield from same_but((axis, -1), node.inputs[0], node.outputs[0])


@couples("STFT")
def stft(node: Node) -> Iterator[Coupling]:
    """Only samples are independent."""
    yield from same(node.inputs[0], 0, node.outputs[0], 0)


@couples("Det")
def det(node: Node) -> Iterator[Coupling]:
    """The last two axes are one matrix."""
    x, y = node.inputs[0], node.outputs[0]
    for axis in range(y.rank):
        yield from same(x, axis, y, axis)
