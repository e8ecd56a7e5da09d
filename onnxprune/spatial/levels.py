"""Which extents of an input are worth a try: a ladder of sizes along each axis, down to half.

A size differs from the full one by a multiple of the total stride, so that it stays even through
all strides as the full one is: else padding shifts the grid of positions, and residual sums no
longer fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxprune.spatial.extent import Extent, Kind
from onnxprune.spatial.space import Space, SpaceAxis

__all__ = ["levels", "sizes_of"]

#: Steps of a ladder at most, from the full size to half of it; below `FEWEST` steps are halved.
MOST, FEWEST = 8, 3


def sizes_of(axis: SpaceAxis) -> list[int]:
    """Sizes that are tried along an axis, the full one first, descending."""
    step = axis.stride * max(1, -(-axis.size // (2 * MOST * axis.stride)))
    if axis.size // 2 < FEWEST * step and axis.stride % 2 == 0:
        step //= 2
    return [axis.size, *range(axis.size - step, -(-axis.size // 2) - 1, -step)]


def levels(space: Space) -> list[Extent]:
    """All extents of an input that are tried, crops first, those of more positions first.

    Crops take about the same share of both axes, or of one alone; a resized input keeps its
    proportions. Beyond two axes only one at a time is cut.
    """
    found = []
    for kind in ("crop", "resize"):
        found += [
            Extent(
                space.input,
                kind,
                tuple(axis.axis for axis, _ in parts),
                tuple(axis.size for axis, _ in parts),
                tuple(size for _, size in parts),
                all(axis.fixed for axis, _ in parts),
            )
            for parts in _parts(space.axes, kind)
        ]
    return found


def _parts(axes: Sequence[SpaceAxis], kind: Kind) -> Iterator[list[tuple[SpaceAxis, int]]]:
    """Axes with sizes below the full ones."""
    if len(axes) != 2:
        for axis in axes:
            yield from ([(axis, size)] for size in sizes_of(axis)[1:])
        return
    ladders = [sizes_of(axis) for axis in axes]
    numbers = [(i, j) for i in range(len(ladders[0])) for j in range(len(ladders[1])) if i or j]
    square = axes[0].size == axes[1].size
    for i, j in sorted(numbers, key=lambda pair: (sum(pair), pair)):
        alone = (i == 0 or j == 0) and not (kind == "resize" and square)
        alike = abs(i - j) <= (1 if kind == "crop" else 0)
        if alone or alike:
            pairs = zip(axes, (ladders[0][i], ladders[1][j]), strict=True)
            yield [(axis, size) for axis, size in pairs if size < axis.size]
