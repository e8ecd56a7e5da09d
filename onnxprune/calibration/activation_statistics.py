"""Measure statistics of activations along the axes that layers read channels from.

The model runs once over the batches and gives those activations as further outputs. Only sums are
kept of each batch, so memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Moments
from onnxprune.calibration.segment import open_model
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import runtime, skeleton
from onnxprune.ir.runtime import Device
from onnxprune.types import Axis, Floats

__all__ = ["WIDEST", "ActivationStatistics", "measure_statistics"]

#: Longest axis whose covariance is measured.
WIDEST = 4096


@dataclass(frozen=True)
class ActivationStatistics:
    """What the samples show along one axis of an activation, position by position.

    Attributes:
        count: numbers seen at each position.
        mean: (n,) mean.
        magnitude: (n,) mean of |x|.
        square: (n,) mean of x².
        silent: (n,) share of zeros.
        cov: (n, n) covariance between positions, None where it was not measured.
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


def measure_statistics(
    analysis: Analysis,
    batches: Iterable[runtime.Feeds],
    covariance: bool = False,
    axes: Sequence[Axis] | None = None,
    device: Device | None = None,
) -> dict[Axis, ActivationStatistics]:
    """Measure statistics along axes of activations in one pass over the batches.

    Args:
        analysis: the model.
        batches: feeds of each batch.
        covariance: whether to measure it between positions too, along axes up to `WIDEST`.
        axes: which, None: those that stored weights read a group's channels from.
        device: what runs the model, None: the processor.

    Raises:
        InputError: there is no batch.
    """
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise InputError("the calibration data holds no sample: give one at least")
    bare = skeleton.without_constant_nodes(analysis.model)
    made = {name for node in bare.graph.node for name in node.output}
    wanted = _axes_read(analysis) if axes is None else axes
    sums = {axis: _AxisSums(covariance) for axis in wanted if axis.tensor in made | first.keys()}
    outputs = sorted({axis.tensor for axis in sums} & made)
    model = open_model(bare, outputs, first, analysis.read, device)
    for feeds in chain([first], rest):
        values = {**feeds, **(model.run(feeds) if outputs else {})}
        for axis, total in sums.items():
            total.add(values[axis.tensor], axis.axis)
    return {axis: total.statistics() for axis, total in sums.items() if total.count}


def _axes_read(analysis: Analysis) -> list[Axis]:
    """Axes of activations that weights read, in groups that can be pruned."""
    axes = {axis for group in analysis.groups for axis, _ in group.axes()}
    read = (analysis.roles.data.get(axis) for axis in axes)
    return sorted({axis for axis in read if axis is not None and axis in axes})


class _AxisSums:
    """Sums along one axis over all batches so far, in double precision.

    Attributes:
        count: numbers seen at each position.
    """

    def __init__(self, covariance: bool) -> None:
        self.count = 0
        self._sums = np.zeros((4, 0))  # of x, |x|, x², and of zeros
        self._moments = Moments() if covariance else None

    def add(self, x: NDArray[Any], axis: int) -> None:
        """Add one batch; integers, which stand for something else, are left out."""
        if not np.issubdtype(x.dtype, np.floating) or not x.size:
            return
        rows = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
        if not self.count:
            self._sums = np.zeros((4, rows.shape[1]))
        self.count += len(rows)
        self._sums[0] += rows.sum(0, dtype=np.float64)
        self._sums[1] += np.abs(rows).sum(0, dtype=np.float64)
        self._sums[2] += np.square(rows, dtype=np.float64).sum(0)
        self._sums[3] += (rows == 0).sum(0)
        if self._moments is not None and rows.shape[1] <= WIDEST:
            single = rows.astype(np.float32, copy=False)
            self._moments.add(single, single[:, :0])

    def statistics(self) -> ActivationStatistics:
        """Means over all batches so far."""
        mean, magnitude, square, silent = self._sums / self.count
        measured = self._moments is not None and self._moments.count > 0
        cov = self._moments.statistics().cov if self._moments is not None and measured else None
        return ActivationStatistics(self.count, mean, magnitude, square, silent, cov)
