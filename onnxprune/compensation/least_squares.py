"""Statistics of one layer on calibration data and its weight by least squares.

The last eighth of the rows is held back: of several ridges, and of the old weight, the one with
the least error there is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Moments, Statistics
from onnxprune.compensation.obs import refit, ridged
from onnxprune.types import Floats, Ints

__all__ = ["RIDGE", "Channelwise", "ClippedRows", "LayerMoments", "refitted"]

RIDGE = 1e-3
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
#: Every so many batches of rows are held back.
HELD = 8
#: Rounds of a fit that minds the cut-off behind the layer.
ROUNDS = 6
#: How far each of them goes toward its answer: further, since every one falls short.
STRIDE = 1.5
#: By what share of its error a round must do better than the one before.
LEAST = 1e-3
#: Bytes of the rows that it looks at.
ROW_BYTES = 2**26


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
        self.rows: list[_Rows] = []

    def add(self, rows: NDArray[Any], target: NDArray[Any], threshold: NDArray[Any]) -> None:
        """Take in one batch: inputs (m, d), targets and thresholds (m, o)."""
        each = 4 * (rows.shape[1] + 2 * target.shape[1]) * self.batches
        step, cut = math.ceil(len(rows) * each / ROW_BYTES), len(rows) - _held(len(rows))
        x, y, z = (
            np.concatenate([a[:cut:step], a[cut::step]]).astype(np.float32)
            for a in (rows, target, threshold)
        )
        self.rows.append(_Rows(x, self.sign * (y - z), self.sign * z, math.ceil(cut / step)))

    def improved(
        self, weight: Floats, bias: Floats, kept: Ints, seen: Statistics
    ) -> tuple[Floats, Floats]:
        """(d, o) weight and (o,) bias from a first answer, with less error behind the cut-off.

        `seen`: the moments of all rows. What was taken in is used up.
        """
        parts = [part.narrowed(kept) for part in iter(self._next, None)]
        left, amount = ridged(seen.cov[np.ix_(kept, kept)], RIDGE)
        inverse, mean = np.linalg.inv(left), _mean(parts)
        first = weight[kept] * self.sign, bias * self.sign
        now, best, least = first, first, np.inf
        for _ in range(ROUNDS):
            moves = _Moves(parts, now, mean)
            if moves.error >= least * (1 - LEAST):
                break
            best, least = now, moves.error
            step = inverse @ (moves.cross + amount * (now[0] - first[0]))
            aim = first[0] + step, first[1] + moves.top - mean @ step
            now = now[0] + STRIDE * (aim[0] - now[0]), now[1] + STRIDE * (aim[1] - now[1])
        full = np.zeros_like(weight)
        full[kept] = best[0] * self.sign
        return full, best[1] * self.sign

    def _next(self) -> _Rows | None:
        return self.rows.pop() if self.rows else None


class _Rows(NamedTuple):
    """Inputs (m, d), how far targets lie above the threshold, and this (m, o), in one direction.

    The first `cut` rows are fitted, the others held back.
    """

    x: NDArray[np.float32]
    above: NDArray[np.float32]
    threshold: NDArray[np.float32]
    cut: int

    def narrowed(self, kept: Ints) -> _Rows:
        """Without the inputs that are gone."""
        return self if len(kept) == self.x.shape[1] else self._replace(x=self.x[:, kept])


def _mean(parts: Sequence[_Rows]) -> Floats:
    """(d,) mean of the inputs that are fitted."""
    count = sum(part.cut for part in parts)
    sums = [np.ones(part.cut, np.float32) @ part.x[: part.cut] for part in parts]
    return np.asarray(np.sum(sums, 0, np.float64) / count)


class _Moves:
    """How targets move where the last answer will do as well, and what is missed by then.

    Attributes:
        cross: (d, o) covariance of inputs and moves.
        top: (o,) mean of the moves.
        error: mean square of what is missed in rows held back.
    """

    def __init__(self, parts: Sequence[_Rows], answer: tuple[Floats, Floats], mean: Floats) -> None:
        weight, bias = (part.astype(np.float32) for part in answer)
        cross, top = np.zeros(weight.shape), np.zeros(len(bias))
        count, missed, held = 0, 0.0, 0
        for x, above, threshold, cut in parts:
            made = x @ weight
            made += bias - threshold
            aim = np.minimum(made, 0)
            np.copyto(aim, above, where=above > 0)
            missed += float(((aim[cut:] - made[cut:]) ** 2).sum())
            held += made[cut:].size
            aim -= above
            cross += x[:cut].T @ aim[:cut]
            top += np.ones(cut, np.float32) @ aim[:cut]
            count += cut
        self.top = top / count
        self.cross = cross / count - np.outer(mean, self.top)
        self.error = missed / max(held, 1)


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
