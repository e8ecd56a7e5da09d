"""Streamed second moments of what a layer reads and what it should give.

Per batch n, Σx, Σy, Σxxᵀ, Σxyᵀ and Σy² are added up in double precision around a shift (the mean
of the first batch), so that centring at the end loses no digits. Nothing grows with the number of
samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Floats

__all__ = ["Moments", "Statistics"]


@dataclass(frozen=True)
class Statistics:
    """Centred moments over `count` rows, normalised by it.

    Attributes:
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

    def error(self, weight: Floats) -> Floats:
        """(o,) mean squared residual of `weight` (d, o) with the best bias."""
        left: Floats = (
            self.var_y
            - 2 * np.einsum("do,do->o", weight, self.cross)
            + np.einsum("do,do->o", weight, self.cov @ weight)
        )
        return left


class Moments:
    """Sums over rows of inputs (m, d) and targets (m, o)."""

    def __init__(self) -> None:
        self.count = 0
        self.shift: tuple[NDArray[Any], NDArray[Any]] | None = None

    def add(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> None:
        """Take in rows; products run in single precision within a batch, sums in double."""
        if self.shift is None:
            self.shift = x.mean(0), y.mean(0)
            d, o = x.shape[1], y.shape[1]
            self.x, self.y, self.yy = np.zeros(d), np.zeros(o), np.zeros(o)
            self.xx, self.xy = np.zeros((d, d)), np.zeros((d, o))
        x, y = x - self.shift[0], y - self.shift[1]
        self.count += len(x)
        ones = np.ones(len(x), x.dtype)
        self.x += ones @ x
        self.y += ones @ y
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.yy += np.einsum("mo,mo->o", y, y).astype(np.float64)

    def statistics(self) -> Statistics:
        """Means and covariances so far."""
        assert self.shift is not None and self.count
        n = self.count
        mx, my = self.x / n, self.y / n
        return Statistics(
            n,
            mx + self.shift[0],
            my + self.shift[1],
            self.xx / n - np.outer(mx, mx),
            self.xy / n - np.outer(mx, my),
            np.maximum(self.yy / n - my**2, 0),
        )
