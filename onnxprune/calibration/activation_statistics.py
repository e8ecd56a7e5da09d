"""What calibration data looks like where layers read it: statistics of activations, streamed.

The model runs once over the batches with those activations as further outputs. Of each batch only
sums stay, so memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.incremental_run import opened
from onnxprune.calibration.moments import Moments
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import runtime, skeleton
from onnxprune.types import Axis, Floats

__all__ = ["WIDEST", "ActivationStatistics", "profiles"]


#: Positions of an axis whose covariance is kept, at most.
WIDEST = 4096


def profiles(
    analysis: Analysis,
    batches: Iterable[runtime.Feeds],
    covariance: bool = False,
    axes: Sequence[Axis] | None = None,
) -> dict[Axis, ActivationStatistics]:
    """Statistics along `axes`, by default those that stored weights read a group from, in one pass.

    Args:
        analysis: the model.
        batches: feeds, one after the other.
        covariance: also between positions, where there are up to `WIDEST`.
        axes: of activations.

    Raises:
        InputError: there is no batch.
    """
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise InputError("the calibration data holds no sample")
    bare = skeleton.skeleton(analysis.model)
    made = {name for node in bare.graph.node for name in node.output}
    looked_at = _read_from(analysis) if axes is None else axes
    wanted = [axis for axis in looked_at if axis.tensor in made | first.keys()]
    sums = {axis: _Sums(covariance) for axis in wanted}
    gives = sorted({axis.tensor for axis in wanted} & made)
    session, needs = opened(bare, list(bare.graph.node), first, analysis.read, (gives, ()))
    for feeds in chain([first], rest):
        values = {**feeds, **(runtime.run(session, {n: feeds[n] for n in needs}) if gives else {})}
        for axis in wanted:
            sums[axis].add(values[axis.tensor], axis.axis)
    return {axis: total.profile() for axis, total in sums.items() if total.count}


def _read_from(analysis: Analysis) -> list[Axis]:
    """Axes of activations that weights read, in groups that can be pruned."""
    axes = {axis for group in analysis.groups for axis, _ in group.axes()}
    read = (analysis.roles.data.get(axis) for axis in axes)
    return sorted({axis for axis in read if axis is not None and axis in axes})


class _Sums:
    """Sums along one axis over all batches so far, in double precision."""

    def __init__(self, covariance: bool) -> None:
        self.count = 0
        self.total = np.zeros((4, 0))
        self.moments = Moments() if covariance else None

    def add(self, x: NDArray[Any], axis: int) -> None:
        """Take in one batch; integers, which only stand for numbers, are passed over."""
        if not np.issubdtype(x.dtype, np.floating) or not x.size:
            return
        rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
        if not self.count:
            self.total = np.zeros((4, rows.shape[1]))
        self.count += len(rows)
        self.total[0] += rows.sum(0, dtype=np.float64)
        self.total[1] += np.abs(rows).sum(0, dtype=np.float64)
        self.total[2] += np.square(rows, dtype=np.float64).sum(0)
        self.total[3] += (rows == 0).sum(0)
        if self.moments is not None and rows.shape[1] <= WIDEST:
            real = rows.astype(np.float32, copy=False)
            self.moments.add(real, real[:, :0])

    def profile(self) -> ActivationStatistics:
        """Means so far."""
        mean, magnitude, square, silent = self.total / self.count
        known = self.moments is not None and self.moments.count > 0
        cov = self.moments.statistics().cov if known and self.moments is not None else None
        return ActivationStatistics(self.count, mean, magnitude, square, silent, cov)


@dataclass(frozen=True)
class ActivationStatistics:
    """What calibration data looks like along one axis of an activation, position by position.

    Attributes:
        count: numbers seen at each position.
        mean: (n,) mean.
        magnitude: (n,) mean of |x|.
        square: (n,) mean of x².
        silent: (n,) share of zeros.
        cov: (n, n) covariance between positions, None where it was not asked for.
    """

    count: int
    mean: Floats
    magnitude: Floats
    square: Floats
    silent: Floats
    cov: Floats | None = None

    @property
    def variance(self) -> Floats:
        """(n,) variance."""
        variance: Floats = np.maximum(self.square - self.mean**2, 0)
        return variance
