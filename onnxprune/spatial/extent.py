"""What a model looks at of an input, as a value, in plain words, and as a plan file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.ops.extents import NewNode

__all__ = ["Extent", "Kind", "cropped", "described", "extent_of", "first_node_of", "values_of"]

#: Whether a border is cut off, or everything is made smaller.
Kind: TypeAlias = Literal["crop", "resize"]
_AGAIN = "Write it again with --plan."
#: Borders of the axes of pictures, the last but one and the last.
_BORDERS = ("top and bottom", "left and right")


@dataclass(frozen=True)
class Extent:
    """What is looked at of one input.

    Attributes:
        input: its name.
        kind: how it becomes less.
        axes: along which, ascending.
        full: (n_axes,) positions that there are.
        left: (n_axes,) positions that are looked at.
        fixed: whether the model takes no other sizes.
    """

    input: str
    kind: Kind
    axes: tuple[int, ...]
    full: tuple[int, ...]
    left: tuple[int, ...]
    fixed: bool = True

    @property
    def before(self) -> tuple[int, ...]:
        """(n_axes,) positions that a crop leaves out at the beginning of each axis."""
        return tuple((n - m) // 2 for n, m in zip(self.full, self.left, strict=True))

    @property
    def after(self) -> tuple[int, ...]:
        """(n_axes,) positions that a crop leaves out at the end of each axis."""
        return tuple(n - m - k for n, m, k in zip(self.full, self.left, self.before, strict=True))


def first_node_of(extent: Extent) -> NewNode:
    """The operator that makes an input less."""
    if extent.kind == "crop":
        return ops.extents.crop(extent.axes, extent.before, extent.after)
    return ops.extents.resize(extent.axes, extent.full, extent.left, extent.fixed)


def cropped(extent: Extent, values: NDArray[Any]) -> NDArray[Any]:
    """Cut what a crop leaves out off an input."""
    for axis, before, after in zip(extent.axes, extent.before, extent.after, strict=True):
        values = np.take(values, np.arange(before, values.shape[axis] - after), axis)
    return values


def described(extent: Extent, rank: int) -> str:
    """Say what is no longer looked at of an input with `rank` axes."""
    if extent.kind == "resize":
        sizes = ("×".join(map(str, sizes)) for sizes in (extent.full, extent.left))
        return f"'{extent.input}' is made smaller first, from {' to '.join(sizes)}"
    rows = zip(extent.axes, extent.full, extent.before, extent.after, strict=True)
    parts = [_cut_off(axis, counts, extent, rank) for axis, *counts in rows]
    return f"{', '.join(parts)} of '{extent.input}' are cut off and no longer looked at"


def _cut_off(axis: int, counts: list[int], extent: Extent, rank: int) -> str:
    """What goes along one axis; `counts` are how many there are, and how many go at either end."""
    full, before, after = counts
    unit = "px" if rank == 4 else "positions"
    much = f"{before}" if before == after else f"{before} and {after}"
    if rank != 4:
        return f"{much} {unit} of {full} at the beginning and end of axis {axis}"
    pair = (1, 2) if axis == 1 or extent.axes == (1, 2) else (2, 3)
    return f"{much} {unit} of {full} at the {_BORDERS[pair.index(axis)]} border"


def values_of(extent: Extent) -> dict[str, Any]:
    """The entry of a plan file."""
    return {
        "input": extent.input,
        "kind": extent.kind,
        "axes": list(extent.axes),
        "full": list(extent.full),
        "left": list(extent.left),
        "fixed": extent.fixed,
    }


def extent_of(values: Mapping[str, Any]) -> Extent:
    """Read the entry of a plan file.

    Raises:
        InputError: it is none.
    """
    try:
        axes, full, left = (tuple(map(int, values[name])) for name in ("axes", "full", "left"))
        extent = Extent(
            str(values["input"]), values["kind"], axes, full, left, bool(values["fixed"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the plan's extent lacks or holds a wrong {error}. {_AGAIN}") from error
    sizes = list(zip(axes, full, left, strict=False))
    sound = len(axes) == len(full) == len(left) > 0 and extent.kind in ("crop", "resize")
    if not sound or not all(axis >= 0 and 0 < m <= n for axis, n, m in sizes):
        raise InputError(f"the plan's extent of input '{extent.input}' cannot be. {_AGAIN}")
    return extent
