"""Measure mean and covariance of what a layer reads, on as many rows as its width asks for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Moments, Statistics, finite_rows
from onnxprune.groups.layers import Layer

__all__ = ["SETTINGS", "InputMoments"]

#: Output positions taken of each sample: at most, and at least.
MOST_POSITIONS, LEAST_POSITIONS = 32, 4
#: Rows for each input of the layer, within those limits.
ROWS_PER_INPUT = 32
#: What results depend on, for keys of caches.
SETTINGS = (MOST_POSITIONS, LEAST_POSITIONS, ROWS_PER_INPUT)


class InputMoments:
    """Moments of what a layer reads, which grow batch by batch; there are no targets (o = 0)."""

    def __init__(
        self, layer: Layer, shape: tuple[int, ...], samples: int, rng: np.random.Generator
    ) -> None:
        """Begin without rows.

        Args:
            layer: whose inputs.
            shape: of its stored weight.
            samples: how many there will be in all batches.
            rng: draws the output positions.
        """
        inputs = math.prod(shape) // shape[layer.kernel.out_axis]
        wanted = -(-ROWS_PER_INPUT * inputs // samples)
        self._positions = min(max(wanted, LEAST_POSITIONS), MOST_POSITIONS)
        self._layer, self._shape, self._rng = layer, shape, rng
        self._moments = Moments()

    def add(self, x: NDArray[Any], out: tuple[int, ...]) -> None:
        """Add a batch: what the layer reads, and the shape of its result."""
        places = self._layer.places(out, self._rng, self._positions)
        rows = self._layer.inputs(x, out, places, self._shape)
        (rows,) = finite_rows(rows.astype(np.float32, copy=False))
        self._moments.add(rows, rows[:, :0])

    def statistics(self) -> Statistics:
        """Means and covariances of all rows.

        Raises:
            ArithmeticError: no sample gives finite numbers.
        """
        return self._moments.statistics()
