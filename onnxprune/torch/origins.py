"""What a stored tensor of an exported model is made of: entries of a checkpoint, or slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Floats, Ints

__all__ = ["Array", "Match", "Origin", "Part", "long_axes", "plain", "row_axes", "rows_of"]

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Origin:
    """Where the positions of an axis come from: `at` (size,) of an entry's axis, -1: elsewhere."""

    entry: str
    axis: int
    at: Ints


@dataclass(frozen=True)
class Part:
    """An entry, or slices of it, inside a stored tensor.

    Attributes:
        entry: its name.
        order: axes of the entry, without those of size 1, in the order of the tensor's.
        rows: (n_rows,) which slice of the entry each row of the tensor is, -1: another entry's.
        axis: of the entry along which those slices lie, without axes of size 1; -1 where the
            tensor is the whole entry.
        last: whether the rows of the tensor lie along its last axis, not before it.
        blocks: where not 0, the entry is a vector of so many blocks, the slices that are rows.
    """

    entry: str
    order: tuple[int, ...] = ()
    rows: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    axis: int = -1
    last: bool = False
    blocks: int = 0

    def restored(self, tensor: Array, entry: Array) -> Array:
        """Write the tensor's numbers into the entry that they come from; returns a new entry."""
        if self.blocks:
            cut = entry.reshape(self.blocks, -1).copy()
            there = self.rows >= 0
            cut[self.rows[there]] = tensor.reshape(-1, cut.shape[1])[there]
            return np.reshape(cut, entry.shape)
        flat = entry.reshape(plain(entry.shape)).copy()
        if self.axis < 0:
            shape = [flat.shape[axis] for axis in self.order]
            back = np.argsort(self.order)
            return np.reshape(tensor.reshape(shape).transpose(back), entry.shape)
        own = self.rows >= 0
        slices = np.moveaxis(flat, self.axis, 0)
        rows = rows_of(tensor, self.last)[own]
        slices[self.rows[own]] = rows.reshape(len(rows), *slices.shape[1:])
        return np.reshape(flat, entry.shape)


@dataclass(frozen=True)
class Match:
    """What a stored tensor is made of.

    Attributes:
        parts: entries in it.
        axes: of each of its axes, where the positions come from.
        scale: (size,) what slices along `along` of the only entry are multiplied with, or None.
        along: that axis of the entry.
    """

    parts: tuple[Part, ...]
    axes: tuple[tuple[Origin, ...], ...]
    scale: Floats | None = None
    along: int = -1

    def called(self, entry: str) -> Match:
        """The same with another name for the only entry."""
        parts = tuple(replace(part, entry=entry) for part in self.parts)
        axes = tuple(tuple(replace(o, entry=entry) for o in axis) for axis in self.axes)
        return replace(self, parts=parts, axes=axes)


def plain(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without axes of size 1."""
    return tuple(size for size in shape if size != 1)


def long_axes(shape: Sequence[int]) -> list[int]:
    """The axes that have more than one position."""
    return [axis for axis, size in enumerate(shape) if size != 1]


def rows_of(values: Array, last: bool) -> Array:
    """(n_rows, n) the rows of a tensor: along its last axis, or along the axes before that.

    Of convolutions' weights rows lie along the first axis only.
    """
    by_last: Array = np.reshape(values, (-1, values.shape[-1]))
    if last:
        return np.transpose(by_last)
    by_first: Array = np.reshape(values, (len(values), -1))
    return by_last if values.ndim < 4 else by_first


def row_axes(shape: Sequence[int], last: bool) -> list[int]:
    """The axes of a tensor whose positions number its rows; see `rows_of`."""
    if last:
        return [len(shape) - 1]
    return list(range(len(shape) - 1)) if len(shape) < 4 else [0]
