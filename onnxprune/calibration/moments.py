"""Accumulate first and second moments of what a layer reads and of what it should give.

Over the rows of all batches n, Σx, Σy, Σxxᵀ, Σxyᵀ and Σy² are added up in double precision around a
shift (the mean of the first batch), so that subtracting the means at the end loses no digits.
Memory does not grow with the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Floats, Ints

__all__ = ["Moments", "Statistics", "finite_rows"]


def finite_rows(*arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The rows (first axis) at which all arrays hold finite numbers only.

    Others, which come from a logarithm of zero or a division by it, say nothing about a layer.
    """
    if all(np.isfinite(array.sum(dtype=np.float64)) for array in arrays):
        return arrays
    rest = [tuple(range(1, array.ndim)) for array in arrays]
    good = np.all([np.isfinite(a).all(axes) for a, axes in zip(arrays, rest, strict=True)], 0)
    return tuple(array[good] for array in arrays)


@dataclass(frozen=True)
class Statistics:
    """Means and covariances over `count` rows, normalised by it.

    Attributes:
        count: number of rows.
        mean_x: (d,) mean of the inputs.
        mean_y: (o,) mean of the targets.
        cov: (d, d) covariance of the inputs.
        cross: (d, o) covariance of inputs and targets.
        var_y: (o,) variance of the targets.
    """

    count: int
    mean_x: Floats
    mean_y: Floats
    cov: Floats
    cross: Floats
    var_y: Floats

    def of(self, inputs: Ints) -> Statistics:
        """Those of some inputs (n,) alone."""
        if len(inputs) == len(self.mean_x):
            return self
        cov, cross = self.cov[np.ix_(inputs, inputs)], self.cross[inputs]
        return replace(self, mean_x=self.mean_x[inputs], cov=cov, cross=cross)

    def error(self, weight: Floats) -> Floats:
        """(o,) mean squared residual of `weight` (d, o) with the best bias."""
        residual: Floats = (
            self.var_y
            - 2 * np.einsum("do,do->o", weight, self.cross)
            + np.einsum("do,do->o", weight, self.cov @ weight)
        )
        return residual


class Moments:
    """Sums over rows of inputs (m, d) and targets (m, o).

    Attributes:
        count: rows so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift_x: NDArray[Any] = np.zeros(0, np.float32)
        self._shift_y: NDArray[Any] = np.zeros(0, np.float32)
        self._x = self._y = self._yy = np.zeros(0)
        self._xx = self._xy = np.zeros((0, 0))
        self._statistics: Statistics | None = None

    @property
    def finite(self) -> bool:
        """Whether all that was added is."""
        return bool(np.isfinite(self._xx).all() and np.isfinite(self._yy).all())

    def add(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        """Add inputs (m, d) and targets (m, o) of one batch.

        Products run in single precision within a batch, sums over batches in double.
        """
        if not len(x):
            return
        if not self.count:
            self._begin(x, y)
        self._statistics = None
        x, y = x - self._shift_x, y - self._shift_y
        self.count += len(x)
        ones = np.ones(len(x), x.dtype)
        self._x += ones @ x
        self._y += ones @ y
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._yy += np.einsum("mo,mo->o", y, y).astype(np.float64)

    def _begin(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        """Take the shift from the first batch, and its widths."""
        self._shift_x, self._shift_y = x.mean(0), y.mean(0)
        d, o = x.shape[1], y.shape[1]
        self._x, self._y, self._yy = np.zeros(d), np.zeros(o), np.zeros(o)
        self._xx, self._xy = np.zeros((d, d)), np.zeros((d, o))

    def statistics(self) -> Statistics:
        """Means and covariances of the rows so far.

        Raises:
            ArithmeticError: there is none.
        """
        if self._statistics is None:
            self._statistics = self._all()
        return self._statistics

    def _all(self) -> Statistics:
        n = self.count
        if not n:
            raise ArithmeticError("no sample gives it finite numbers")
        mean_x, mean_y = self._x / n, self._y / n
        return Statistics(
            n,
            mean_x + self._shift_x,
            mean_y + self._shift_y,
            self._xx / n - np.outer(mean_x, mean_x),
            self._xy / n - np.outer(mean_x, mean_y),
            np.maximum(self._yy / n - mean_y**2, 0),
        )
