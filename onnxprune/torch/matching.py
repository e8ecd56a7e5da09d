"""Find out which entries of a checkpoint the stored tensors of an exported model are made of.

Exporters keep the names of most parameters. Where they transpose, join, cut up, reorder or scale
them, the result has a name of its own; it is found again by its values: a tensor whose rows, or
columns, are slices of entries was moved, one whose slices are multiples of an entry's was scaled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from math import prod

import numpy as np

from onnxprune.torch.origins import (
    Array,
    Match,
    Origin,
    Part,
    long_axes,
    plain,
    row_axes,
    rows_of,
)
from onnxprune.types import Floats, Ints

__all__ = ["Entries", "find"]

#: Largest deviation of a scaled slice, in shares of its length: products are rounded.
ROUNDING = 1e-4
#: Blocks of a recurrent layer's bias: gates of LSTM and GRU, which ONNX has in another order.
GATES = (4, 3)


class Entries:
    """The arrays of a checkpoint by name, with tables of their slices that are made when needed."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = {name: values for name, values in arrays.items() if values.dtype.kind == "f"}
        self._whole: dict[str, dict[bytes, list[str]]] = {}
        self._slices: dict[tuple[str, int], dict[int, list[tuple[str, int, int]]]] = {}

    def whole(self, values: Array) -> list[str]:
        """Names of the entries with exactly these numbers in this order."""
        kind = values.dtype.str
        if kind not in self._whole:
            table = self._whole[kind] = {}
            for name, own in self.arrays.items():
                table.setdefault(own.astype(kind).tobytes(), []).append(name)
        return self._whole[kind].get(values.tobytes(), [])

    def blocks(self, kind: str, size: int) -> dict[bytes, tuple[str, int]]:
        """Vector and number of every block of so many numbers, of those with as many as gates."""
        table: dict[bytes, tuple[str, int]] = {}
        for name, own in self.arrays.items():
            if own.ndim == 1 and len(own) in {size * gates for gates in GATES}:
                for k, block in enumerate(own.reshape(-1, size).astype(kind)):
                    table.setdefault(block.tobytes(), (name, k))
        return table

    def slices(self, kind: str, size: int) -> dict[int, list[tuple[str, int, int]]]:
        """Entry, axis and position of every slice of so many numbers, by the hash of them."""
        if (kind, size) not in self._slices:
            table = self._slices[kind, size] = {}
            for name, own in self.arrays.items():
                flat = own.reshape(plain(own.shape))
                for axis in range(flat.ndim if flat.ndim > 1 else 0):
                    count: int = flat.shape[axis]
                    if flat.size == count * size:
                        turned = np.moveaxis(flat, axis, 0).reshape(count, -1).astype(kind)
                        for k, row in enumerate(turned):
                            table.setdefault(hash(row.tobytes()), []).append((name, axis, k))
        return self._slices[kind, size]


def find(name: str, values: Array, entries: Entries) -> Match | None:
    """Say what a stored tensor is made of; None where no entry, nor any slices of some, fit.

    Args:
        name: of the tensor; an entry of that name and shape is taken where no values speak
            against it.
        values: its content.
        entries: the checkpoint that was exported, or another one of the same shapes.
    """
    if values.dtype.kind != "f" or values.size < 2:
        return None
    own = entries.arrays.get(name)
    named = own is not None and own.shape == values.shape
    if named and own is not None and np.array_equal(own.astype(values.dtype), values):
        return _whole_match(name, values.shape, values.shape, range(values.ndim))
    found = (
        _moved(values, entries) or _from_slices(values, entries) or _from_blocks(values, entries)
    )
    if found is None and named:
        whole = _whole_match(name, values.shape, values.shape, range(values.ndim))
        return _scaled(values, {name: entries.arrays[name]}) or whole
    return found or _scaled(values, entries.arrays)


def _whole_match(
    name: str, shape: Sequence[int], own: Sequence[int], order: Sequence[int]
) -> Match:
    """A tensor that is an entry of shape `own`, with those of its axes in `order`."""
    kept = [axis for axis in order if own[axis] != 1]
    axes: list[tuple[Origin, ...]] = [()] * len(shape)
    for mine, theirs in zip(long_axes(shape), kept, strict=True):
        axes[mine] = (Origin(name, theirs, np.arange(own[theirs])),)
    rank = {axis: k for k, axis in enumerate(long_axes(own))}
    return Match((Part(name, tuple(rank[axis] for axis in kept)),), tuple(axes))


def _moved(values: Array, entries: Entries) -> Match | None:
    """A tensor that is an entry with its axes in another order, or with more axes of size 1."""
    flat = values.reshape(plain(values.shape))
    for order in permutations(range(flat.ndim)) if flat.ndim < 5 else ():
        for name in entries.whole(np.ascontiguousarray(flat.transpose(order))):
            own = entries.arrays[name].shape
            if plain(own) == tuple(flat.shape[k] for k in order):
                back = [long_axes(own)[k] for k in np.argsort(order)]
                return _whole_match(name, values.shape, own, back)
    return None


def _from_slices(values: Array, entries: Entries) -> Match | None:
    """A tensor each row of which is a slice of an entry."""
    if len(plain(values.shape)) < 2:
        return None
    for last in (False, True):
        rows = rows_of(values, last)
        places = _places(rows, entries)
        if places is not None:
            return _joined(values, entries, places, last)
    return None


def _places(rows: Array, entries: Entries) -> list[tuple[str, int, int]] | None:
    """Which slice each row is; of equal slices the one behind that of the row before."""
    if rows.shape[1] < 2:
        return None
    table, found = entries.slices(rows.dtype.str, rows.shape[1]), []
    before: tuple[str, int, int] = ("", 0, 0)
    for row in rows:
        fitting = table.get(hash(row.tobytes()))
        if not fitting:
            return None
        following = (before[0], before[1], before[2] + 1)
        before = following if following in fitting else fitting[0]
        found.append(before)
    return found


def _joined(
    values: Array, entries: Entries, places: Sequence[tuple[str, int, int]], last: bool
) -> Match | None:
    """What is known of a tensor whose rows are the slices at `places`."""
    axes: list[list[Origin]] = [[] for _ in values.shape]
    parts = []
    by_axis = row_axes(values.shape, last)
    for entry, axis in dict.fromkeys(place[:2] for place in places):
        at = np.array([p[2] if p[:2] == (entry, axis) else -1 for p in places], np.int64)
        own = entries.arrays[entry].shape
        parts.append(Part(entry, (), at, axis, last))
        grid = at.reshape([values.shape[a] for a in by_axis])
        for k, a in enumerate(by_axis):
            positions = _single(np.moveaxis(grid, k, 0).reshape(values.shape[a], -1))
            if positions is not None and values.shape[a] > 1:
                axes[a].append(Origin(entry, long_axes(own)[axis], positions))
        content = [a for a in range(values.ndim) if a not in by_axis and values.shape[a] != 1]
        rest = [a for k, a in enumerate(long_axes(own)) if k != axis]
        if [values.shape[a] for a in content] != [own[a] for a in rest]:
            return None
        for mine, theirs in zip(content, rest, strict=True):
            axes[mine].append(Origin(entry, theirs, np.arange(own[theirs])))
    return Match(tuple(parts), tuple(map(tuple, axes)))


def _from_blocks(values: Array, entries: Entries) -> Match | None:
    """The bias of a recurrent layer: two vectors for each direction, with gates in ONNX's order."""
    if values.ndim != 2 or values.shape[0] > 2:
        return None
    for gates in GATES:
        size, rest = divmod(values.shape[1], 2 * gates)
        table = entries.blocks(values.dtype.str, size) if size > 1 and not rest else {}
        found = [table.get(block.tobytes()) for block in values.reshape(-1, size or 1)]
        places = [place for place in found if place is not None]
        if len(places) == len(found):
            return _of_blocks(values, places, gates, size)
    return None


def _of_blocks(values: Array, places: Sequence[tuple[str, int]], gates: int, size: int) -> Match:
    """What is known of a tensor of blocks of vectors."""
    parts, origins = [], []
    for entry in dict.fromkeys(name for name, _ in places):
        rows = np.array([k if name == entry else -1 for name, k in places], np.int64)
        parts.append(Part(entry, rows=rows, blocks=gates))
        each = rows[:, None] * size + np.arange(size)
        grid = np.where(rows[:, None] < 0, -1, each).reshape(values.shape)
        origins.append(Origin(entry, 0, grid.max(0)))
    return Match(tuple(parts), ((), tuple(origins)))


def _single(grid: Ints) -> Ints | None:
    """(n,) the one position in each row of (n, k), -1 where there is none; None: several."""
    most = grid.max(1)
    return most if ((grid == most[:, None]) | (grid < 0)).all() else None


def _scaled(values: Array, arrays: Mapping[str, Array]) -> Match | None:
    """A tensor whose slices along an axis are multiples of those of an entry."""
    flat = values.reshape(plain(values.shape)).astype(np.float64)
    for name, own in arrays.items():
        theirs = own.reshape(plain(own.shape))
        for order in _orders(theirs.shape, flat.shape):
            turned = theirs.transpose(order)
            for axis in range(flat.ndim):
                scale = _factors(flat, turned, axis)
                if scale is not None:
                    back = [long_axes(own.shape)[k] for k in order]
                    match = _whole_match(name, values.shape, own.shape, back)
                    return Match(match.parts, match.axes, scale, back[axis])
    return None


def _orders(own: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """As they are, and for matrices transposed."""
    if len(shape) > 1 and own == shape:
        yield tuple(range(len(own)))
    if len(shape) == 2 and own == shape[::-1]:
        yield (1, 0)


def _factors(values: Floats, own: Array, axis: int) -> Floats | None:
    """(n,) what slices of `own` along an axis are multiplied with to give `values`, if anything."""
    if prod(own.shape) // own.shape[axis] < 2:
        return None
    for count in (2, own.shape[axis]):
        a = np.moveaxis(values, axis, 0)[:count].reshape(min(count, own.shape[axis]), -1)
        b = np.moveaxis(own, axis, 0)[:count].reshape(a.shape).astype(np.float64)
        squares = (b * b).sum(1)
        scale: Floats = (a * b).sum(1) / np.where(squares > 0, squares, 1)
        error = np.linalg.norm(a - scale[:, None] * b, axis=1)
        if (error > ROUNDING * np.linalg.norm(a, axis=1)).any():
            return None
    return scale
