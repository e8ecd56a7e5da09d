"""Statistics of one layer on calibration data and its weight by least squares.

The last eighth of the rows is held back: of several ridges, and of the old weight, the one with
the least error there is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.moments import Floats, Moments
from onnxprune.obs import refit
from onnxprune.types import Ints

__all__ = ["RIDGE", "Channelwise", "ClippedRows", "LayerMoments", "refitted"]

RIDGE = 1e-3
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
#: Every so many batches of rows are held back.
HELD = 8
#: Rounds of a fit that minds the cut-off behind the layer.
ROUNDS = 12


class LayerMoments:
    """Moments of a dense layer, fitted and held-back rows apart."""

    def __init__(self) -> None:
        self.fit, self.held = Moments(), Moments()

    def add(self, rows: NDArray[Any], result: NDArray[Any]) -> None:
        """Take in inputs (m, d) and targets (m, o) of one batch."""
        rows, result = rows.astype(np.float32, copy=False), result.astype(np.float32, copy=False)
        cut = max(1, len(rows) // HELD) if len(rows) > 1 else 0
        self.fit.add(rows[: len(rows) - cut], result[: len(rows) - cut])
        if cut:
            self.held.add(rows[len(rows) - cut :], result[len(rows) - cut :])


def refitted(moments: LayerMoments, weight: Floats, kept: Ints) -> tuple[Floats, Floats]:
    """(d, o) weight on the `kept` input columns and (o,) bias."""
    fit = moments.fit.statistics()
    held = moments.held.statistics() if moments.held.count else fit
    old = np.zeros_like(weight)
    old[kept] = weight[kept]
    options = [old, *(refit(fit, weight, kept, ridge) for ridge in RIDGES)]
    best = min(options, key=lambda w: float(held.error(w).sum()))
    return best, fit.mean_y - best.T @ fit.mean_x


class ClippedRows:
    """Rows of a layer whose result is cut off at zero, kept for several rounds.

    Minimises ‖relu(xW + b) - relu(t)‖²: where the target lies below the threshold z, any value
    below it will do, so that the target there becomes the last answer itself (majorisation; the
    nonlinear reconstruction of Zhang et al., TPAMI 2016).
    """

    def __init__(self, sign: Floats) -> None:
        """`sign` (o,) is that of what is behind the layer: below zero the threshold is a floor."""
        self.sign = sign.astype(np.float32)
        self.x: list[NDArray[Any]] = []
        self.y: list[NDArray[Any]] = []
        self.z: list[NDArray[Any]] = []

    def add(self, rows: NDArray[Any], target: NDArray[Any], threshold: NDArray[Any]) -> None:
        """Take in one batch: inputs (m, d), targets and thresholds (m, o)."""
        self.x.append(rows.astype(np.float32, copy=False))
        self.y.append(target)
        self.z.append(threshold)

    def improved(self, weight: Floats, bias: Floats, kept: Ints) -> tuple[Floats, Floats]:
        """(d, o) weight and (o,) bias from a first answer, with less error behind the cut-off."""
        x, y, z = (np.concatenate(part) for part in (self.x, self.y, self.z))
        cut = len(x) - max(1, len(x) // HELD)
        seen = x[:, kept]
        mean = seen[:cut].mean(0)
        centred = seen - mean
        gram = (centred[:cut].T @ centred[:cut]).astype(np.float64) / cut
        amount = RIDGE * max(float(np.trace(gram)) / max(len(gram), 1), 1e-12)
        inverse = np.linalg.inv(gram + amount * np.eye(len(gram)))
        now = weight[kept], bias + mean @ weight[kept]
        best, least = now, np.inf
        for _ in range(ROUNDS):
            made = centred @ now[0].astype(np.float32) + now[1].astype(np.float32)
            aim = self._aim(made, y, z)
            error = float(((aim[cut:] - made[cut:]) ** 2).mean())
            if error >= least * (1 - 1e-4):
                break
            best, least = now, error
            top = aim[:cut].mean(0, dtype=np.float64)
            cross = (centred[:cut].T @ (aim[:cut] - top.astype(np.float32))).astype(
                np.float64
            ) / cut
            now = inverse @ (cross + amount * now[0]), top
        full = np.zeros_like(weight)
        full[kept] = best[0]
        return full, best[1] - mean @ best[0]

    def _aim(self, made: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
        above = self.sign * (y - z) > 0
        below = self.sign * (made - z) <= 0
        return np.where(above, y, np.where(below, made, z))


class Channelwise:
    """Moments of a depthwise layer: one small least squares per channel."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, rows: NDArray[Any], result: NDArray[Any]) -> None:
        """Take in inputs (m, taps, channels) and targets (m, channels) of one batch."""
        wide, target = rows.astype(np.float64), result.astype(np.float64)
        if not self.count:
            _, t, c = rows.shape
            self.x, self.y = np.zeros((c, t)), np.zeros(c)
            self.xx, self.xy = np.zeros((c, t, t)), np.zeros((c, t))
        self.count += len(rows)
        self.x += wide.sum(0).T
        self.y += target.sum(0)
        by_channel = wide.transpose(2, 1, 0)
        self.xx += np.matmul(by_channel, by_channel.swapaxes(1, 2))
        self.xy += np.matmul(by_channel, target.T[:, :, None])[:, :, 0]

    def refitted(self, weight: Floats) -> tuple[Floats, Floats]:
        """(taps, channels) weight and (channels,) bias."""
        n = self.count
        mx, my = self.x / n, self.y / n
        cov = self.xx / n - mx[:, :, None] * mx[:, None, :]
        cross = self.xy / n - mx * my[:, None]
        taps = mx.shape[1]
        amount = RIDGE * np.maximum(np.trace(cov, axis1=1, axis2=2) / taps, 1e-12)
        left = cov + amount[:, None, None] * np.eye(taps)
        right = cross + amount[:, None] * weight.T
        best = np.linalg.solve(left, right[:, :, None])[:, :, 0]
        return best.T, my - np.einsum("ct,ct->c", best, mx)
