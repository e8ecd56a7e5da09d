"""Fit one layer's weight and bias by least squares on the moments of its inputs and targets.

The last eighth of each batch's rows is held out: of the weights for several ridges, and of the old
weight, the one with the least error there is taken. Ridges are tried from the one that the number
of rows asks for (`obs.shrinkage`) downhill.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Moments, Statistics
from onnxprune.compensation.obs import shrinkage
from onnxprune.compensation.symmetric_solve import PositiveSystem
from onnxprune.types import Floats, Ints

__all__ = ["RIDGE", "DepthwiseMoments", "LayerMoments", "fit_dense", "fit_depthwise", "held_rows"]

#: Ridge where there is no choice, and those that are tried, in shares of the mean variance.
RIDGE = 1e-3
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
#: Mixtures of outputs on which ridges are compared, where there are at least twice as many outputs.
MIXED = 64
#: Rows of a depthwise layer that are looked at together.
TOGETHER = 256
#: One row in so many of each batch is held out.
HELD = 8


def held_rows(rows: int) -> int:
    """How many of a batch's rows are held out; they are its last ones."""
    return max(1, rows // HELD) if rows > 1 else 0


class LayerMoments:
    """Moments of a dense layer, those of fitted and of held-out rows apart."""

    def __init__(self) -> None:
        self.fit, self.held = Moments(), Moments()

    def add(self, rows: NDArray[Any], target: NDArray[Any]) -> None:
        """Add inputs (m, d) and targets (m, o) of one batch."""
        rows, target = rows.astype(np.float32, copy=False), target.astype(np.float32, copy=False)
        cut = len(rows) - held_rows(len(rows))
        self.fit.add(rows[:cut], target[:cut])
        if cut < len(rows):
            self.held.add(rows[cut:], target[cut:])

    @property
    def finite(self) -> bool:
        """Whether all that was added is."""
        return self.fit.finite and self.held.finite


def fit_dense(moments: LayerMoments, weight: Floats, kept: Ints) -> tuple[Floats, Floats]:
    """Fit a dense layer that keeps some of its inputs.

    Args:
        moments: of inputs and targets.
        weight: (d, o) the old weight.
        kept: (n,) inputs that stay.

    Returns:
        (d, o) weight, zero where inputs go, and (o,) bias.
    """
    fit = moments.fit.statistics()
    held = moments.held.statistics() if moments.held.count else fit
    systems = _Ridged(fit, held, weight, kept)
    k = _downhill(systems.error, bisect_left(RIDGES[:-1], shrinkage(fit, RIDGES[0])), len(RIDGES))
    best = np.zeros_like(weight)
    best[kept] = systems.solution(k) if systems.error(k) < systems.old_error else weight[kept]
    return best, fit.mean_y - best.T @ fit.mean_x


class _Ridged:
    """Least squares on the inputs that stay, under any of the ridges.

    Errors are those of `MIXED` random mixtures of the outputs where there are many more: their sum
    is an unbiased estimate of that over all outputs, and solving for a few mixtures costs little
    beside the factors. Without the variance of the targets, which is the same for all.
    """

    def __init__(self, fit: Statistics, held: Statistics, weight: Floats, kept: Ints) -> None:
        self._fit, self._kept = fit.of(kept), kept
        self._variance = float(np.trace(fit.cov)) / max(len(fit.cov), 1)
        self._weight = weight[kept]
        mixing = _mixing(weight.shape[1])
        self._mixed = self._weight @ mixing, self._fit.cross @ mixing
        self._held = held.of(kept)
        self._held_cross = self._held.cross @ mixing
        self._errors: dict[int, float] = {}
        self._least: tuple[int, PositiveSystem] | None = None

    @cached_property
    def old_error(self) -> float:
        """The held-out error of the old weight."""
        return self._error(self._mixed[0])

    def error(self, k: int) -> float:
        """The held-out error under ridge number `k`."""
        if k not in self._errors:
            system, (weight, cross) = self._system(k), self._mixed
            self._errors[k] = self._error(system.solve(cross + self._amount(k) * weight))
            if self._errors[k] <= min(self._errors.values()):
                self._least = k, system
        return self._errors[k]

    def solution(self, k: int) -> Floats:
        """(n, o) weight under ridge number `k`."""
        least, system = self._least or (k, self._system(k))
        system = system if least == k else self._system(k)
        return system.solve(self._fit.cross + self._amount(k) * self._weight)

    def _system(self, k: int) -> PositiveSystem:
        left = self._fit.cov.copy()
        left.flat[:: len(left) + 1] += self._amount(k)
        return PositiveSystem(left)

    def _amount(self, k: int) -> float:
        return RIDGES[k] * max(self._variance, 1e-12)

    def _error(self, weight: Floats) -> float:
        seen = self._held.cov @ weight - 2 * self._held_cross
        return float(np.einsum("do,do->", weight, seen))


def _mixing(outputs: int) -> Floats:
    """(o, m) random signs that mix outputs; the identity where there are few."""
    if outputs < 2 * MIXED:
        return np.eye(outputs)
    signs = np.random.default_rng(outputs).integers(0, 2, (outputs, MIXED))
    return np.asarray((2.0 * signs - 1) / np.sqrt(MIXED), np.float64)


def _downhill(error: Callable[[int], float], start: int, count: int) -> int:
    """The number, below `count`, from which the error rises to both sides."""
    k = start
    for step in (-1, 1):
        while 0 <= k + step < count and error(k + step) < error(k):
            k += step
        if k != start:
            break
    return k


class DepthwiseMoments:
    """Moments of a depthwise layer, whose channels are layers of one input channel each.

    Sums are taken around a shift, the mean of the first batch, as `Moments` takes them.

    Attributes:
        count: rows so far.
        x: (channels, taps) sum of the inputs.
        y: (channels,) sum of the targets.
        xx: (channels, taps, taps) sum of products of inputs.
        xy: (channels, taps) sum of products of inputs and targets.
        shift_x: (channels, taps) what is taken off the inputs.
        shift_y: (channels,) what is taken off the targets.
    """

    def __init__(self, taps: int, channels: int) -> None:
        self.count = 0
        self.x, self.y = np.zeros((channels, taps)), np.zeros(channels)
        self.xx, self.xy = np.zeros((channels, taps, taps)), np.zeros((channels, taps))
        self.shift_x: NDArray[Any] = np.zeros((channels, taps), np.float32)
        self.shift_y: NDArray[Any] = np.zeros(channels, np.float32)

    def add(self, rows: NDArray[Any], target: NDArray[Any]) -> None:
        """Add inputs (m, taps, channels) and targets (m, channels) of one batch.

        Products run in single precision within a part of a batch, sums over them in double.
        """
        if not len(rows):
            return
        if not self.count:
            self.shift_x = rows.mean(0, dtype=np.float64).T.astype(np.float32)
            self.shift_y = target.mean(0, dtype=np.float64).astype(np.float32)
        self.count += len(rows)
        for start in range(0, len(rows), TOGETHER):  # turned round while it lies in a cache
            part = rows[start : start + TOGETHER].transpose(2, 1, 0)
            x = part.astype(np.float32, "C") - self.shift_x[:, :, None]
            y = target[start : start + TOGETHER].T.astype(np.float32, "C") - self.shift_y[:, None]
            self.x += x.sum(2, dtype=np.float64)
            self.y += y.sum(1, dtype=np.float64)
            self.xx += np.matmul(x, x.swapaxes(1, 2))
            self.xy += np.matmul(x, y[:, :, None])[:, :, 0]


def fit_depthwise(moments: DepthwiseMoments, weight: Floats) -> tuple[Floats, Floats]:
    """Fit every channel of a depthwise layer by itself, from `weight` (taps, channels).

    Returns:
        (taps, channels) weight and (channels,) bias.
    """
    n = moments.count
    mean_x, mean_y = moments.x / n, moments.y / n
    cov = moments.xx / n - mean_x[:, :, None] * mean_x[:, None, :]
    cross = moments.xy / n - mean_x * mean_y[:, None]
    taps = mean_x.shape[1]
    amount = RIDGE * np.maximum(np.trace(cov, axis1=1, axis2=2) / taps, 1e-12)
    left = cov + amount[:, None, None] * np.eye(taps)
    right = cross + amount[:, None] * weight.T
    best = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    mean_x, mean_y = mean_x + moments.shift_x, mean_y + moments.shift_y
    return best.T, mean_y - np.einsum("ct,ct->c", best, mean_x)
