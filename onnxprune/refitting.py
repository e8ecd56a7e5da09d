"""Statistics of one layer on calibration data and its weight by least squares.

The last eighth of the rows is held back: of several ridges, and of the old weight, the one with
the least error there is taken.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.moments import Floats, Moments
from onnxprune.obs import refit, ridged
from onnxprune.types import Ints

__all__ = ["RIDGE", "Channelwise", "ClippedRows", "LayerMoments", "refitted"]

RIDGE = 1e-3
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
#: Every so many batches of rows are held back.
HELD = 8
#: Rounds of a fit that minds the cut-off behind the layer.
ROUNDS = 6
#: How far each of them goes toward its answer: further, since every one falls short.
STRIDE = 1.5
#: Bytes of the rows that it looks at.
ROW_BYTES = 2**27


def _held(rows: int) -> int:
    """How many of a batch's rows, its last, are held back."""
    return max(1, rows // HELD) if rows > 1 else 0


class LayerMoments:
    """Moments of a dense layer, fitted and held-back rows apart."""

    def __init__(self) -> None:
        self.fit, self.held = Moments(), Moments()

    def add(self, rows: NDArray[Any], result: NDArray[Any]) -> None:
        """Take in inputs (m, d) and targets (m, o) of one batch."""
        rows, result = rows.astype(np.float32, copy=False), result.astype(np.float32, copy=False)
        cut = _held(len(rows))
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
    """Some rows of a layer whose result is cut off at zero, for several rounds over them.

    Minimises ‖relu(xW + b) - relu(t)‖²: where the target lies below the threshold z, any value
    below it will do, so that the target there becomes the last answer itself (majorisation; the
    nonlinear reconstruction of Zhang et al., TPAMI 2016). Only how that moves the first answer is
    fitted to these rows; the first answer is that of all.
    """

    def __init__(self, sign: Floats, batches: int) -> None:
        """`sign` (o,) is that of what is behind the layer: below zero the threshold is a floor."""
        self.sign, self.batches = sign.astype(np.float32), batches
        self.fit: list[tuple[NDArray[Any], ...]] = []
        self.held: list[tuple[NDArray[Any], ...]] = []

    def add(self, rows: NDArray[Any], target: NDArray[Any], threshold: NDArray[Any]) -> None:
        """Take in one batch: inputs (m, d), targets and thresholds (m, o)."""
        each = 4 * (rows.shape[1] + 2 * target.shape[1]) * self.batches
        step, cut = math.ceil(len(rows) * each / ROW_BYTES), _held(len(rows))
        for into, part in ((self.fit, slice(0, -cut or None)), (self.held, slice(-cut, None))):
            some = (a[part][::step].astype(np.float32) for a in (rows, target, threshold))
            into.append(tuple(some))

    def improved(self, weight: Floats, bias: Floats, kept: Ints) -> tuple[Floats, Floats]:
        """(d, o) weight and (o,) bias from a first answer, with less error behind the cut-off."""
        x, y, z = (np.concatenate(part) for part in zip(*self.fit, *self.held, strict=True))
        cut = sum(len(rows) for rows, *_ in self.fit)
        x = x[:, kept]
        mean = x[:cut].mean(0)
        x = x - mean
        left, amount = ridged((x[:cut].T @ x[:cut]).astype(np.float64) / cut, RIDGE)
        inverse = np.linalg.inv(left)
        first = weight[kept], bias + mean @ weight[kept]
        now, best, least = first, first, np.inf
        for _ in range(ROUNDS):
            made = x @ now[0].astype(np.float32) + now[1].astype(np.float32)
            moved = self._moved(made, y, z)
            error = float(((y[cut:] + moved[cut:] - made[cut:]) ** 2).mean())
            if error >= least * (1 - 1e-4):
                break
            best, least = now, error
            top = moved[:cut].mean(0)
            cross = x[:cut].T @ (moved[:cut] - top) / np.float32(cut)
            step = inverse @ (cross + amount * (now[0] - first[0]))
            aim = first[0] + step, first[1] + top
            now = now[0] + STRIDE * (aim[0] - now[0]), now[1] + STRIDE * (aim[1] - now[1])
        full = np.zeros_like(weight)
        full[kept] = best[0]
        return full, best[1] - mean @ best[0]

    def _moved(self, made: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[Any]:
        """(m, o) what is added to the target so that it is the last answer where that will do."""
        above = self.sign * (y - z) > 0
        below = self.sign * (made - z) <= 0
        return np.where(above, 0, np.where(below, made, z) - y)


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
