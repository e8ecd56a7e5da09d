"""Fit a layer whose result passes a Relu: least squares that ignores what the Relu cuts off.

Minimises ‖relu(xW + b - z) - relu(t - z)‖², where z is the value that the Relu turns to zero. Where
a target t lies below z any result below z is as good: the target there is replaced by the last
answer, cut off at z, and least squares is solved again (majorisation; the nonlinear reconstruction
of Zhang et al., TPAMI 2016). The first answer is that of plain least squares on all rows; how far
it moves is fitted to a part of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.least_squares import RIDGE, held_rows
from onnxprune.compensation.obs import positive_inverse, ridged
from onnxprune.types import Floats, Ints

__all__ = ["Answer", "ReluRows", "improve"]

#: Rounds, at most.
ROUNDS = 4
#: How far each round goes, in shares of the way to its solution: past it, since that falls short.
STRIDE = 1.5
#: A round must lower the error by at least this share of it.
LEAST_GAIN = 1e-3
#: Bytes of the rows that are kept for the rounds.
ROW_BYTES = 2**26


class Answer(NamedTuple):
    """A layer's weight (d, o) and bias (o,)."""

    weight: Floats
    bias: Floats


class _Rows(NamedTuple):
    """Rows of one batch, with signs such that the Relu keeps what is positive.

    Attributes:
        x: (m, d) inputs.
        above: (m, o) how far targets lie above the threshold.
        threshold: (m, o) what the Relu turns to zero.
        cut: so many rows, the first, are fitted; the others are held out.
    """

    x: NDArray[np.float32]
    above: NDArray[np.float32]
    threshold: NDArray[np.float32]
    cut: int


class ReluRows:
    """Some rows of a layer's inputs, targets and thresholds, from all batches.

    Attributes:
        sign: (o,) sign of the scale between the layer and the Relu: where it is negative the Relu
            keeps what lies below the threshold.
    """

    def __init__(self, sign: Floats, batches: int) -> None:
        """Begin without rows; `batches` is how many will be added, which limits those of each."""
        self.sign = sign.astype(np.float32)
        self._batches = batches
        self._rows: list[_Rows] = []

    def add(self, rows: NDArray[Any], target: NDArray[Any], threshold: NDArray[Any]) -> None:
        """Add one batch: inputs (m, d), targets and thresholds (m, o)."""
        if not len(rows):
            return
        size = 4 * (rows.shape[1] + 2 * target.shape[1]) * self._batches
        step, cut = math.ceil(len(rows) * size / ROW_BYTES), len(rows) - held_rows(len(rows))
        x, y, z = (
            np.concatenate([a[:cut:step], a[cut::step]]).astype(np.float32)
            for a in (rows, target, threshold)
        )
        self._rows.append(_Rows(x, self.sign * (y - z), self.sign * z, math.ceil(cut / step)))

    def take(self, kept: Ints) -> list[_Rows]:
        """Hand over all rows with the inputs `kept` (n,) alone; none are left.

        The last batch comes first, and each is released as it is narrowed.
        """
        parts = list[_Rows]()
        while self._rows:
            part = self._rows.pop()
            whole = len(kept) == part.x.shape[1]
            parts.append(part if whole else part._replace(x=part.x[:, kept]))
        return parts


def improve(first: Answer, rows: ReluRows, kept: Ints, statistics: Statistics) -> Answer:
    """Lower the error behind the Relu, beginning at the answer of plain least squares.

    Args:
        first: weight and bias; inputs that go have zero weight.
        rows: what the layer reads and should give; used up.
        kept: (n,) inputs that stay.
        statistics: moments over all rows, not only those that were kept.
    """
    sign, parts = rows.sign, rows.take(kept)
    left, amount = ridged(statistics.cov[np.ix_(kept, kept)], RIDGE)
    inverse, mean = positive_inverse(left), _mean(parts)
    start = Answer(first.weight[kept] * sign, first.bias * sign)
    now, best, least = start, start, np.inf
    for _ in range(ROUNDS):
        moves = _moves(parts, now, mean)
        if moves.error >= least * (1 - LEAST_GAIN):
            break
        best, least = now, moves.error
        step = inverse @ (moves.cross + amount * (now.weight - start.weight))
        solution = Answer(start.weight + step, start.bias + moves.mean - mean @ step)
        now = Answer(
            now.weight + STRIDE * (solution.weight - now.weight),
            now.bias + STRIDE * (solution.bias - now.bias),
        )
    weight = np.zeros_like(first.weight)
    weight[kept] = best.weight * sign
    return Answer(weight, best.bias * sign)


def _mean(parts: Sequence[_Rows]) -> Floats:
    """(d,) mean of the inputs that are fitted."""
    count = sum(part.cut for part in parts)
    sums = [np.ones(part.cut, np.float32) @ part.x[: part.cut] for part in parts]
    return np.asarray(np.sum(sums, 0, np.float64) / count)


class _Moves(NamedTuple):
    """How far targets move, where the last answer replaces them, and the error before that.

    Attributes:
        cross: (d, o) covariance of inputs and moves.
        mean: (o,) mean of the moves.
        error: mean squared error behind the Relu on held-out rows.
    """

    cross: Floats
    mean: Floats
    error: float


def _moves(parts: Sequence[_Rows], answer: Answer, mean: Floats) -> _Moves:
    """Compare targets with an answer on all rows; `mean` (d,) is that of the inputs."""
    weight, bias = (part.astype(np.float32) for part in answer)
    cross, total = np.zeros(weight.shape), np.zeros(len(bias))
    count, missed, held = 0, 0.0, 0
    for x, above, threshold, cut in parts:
        result = x @ weight
        result += bias - threshold
        target = np.minimum(result, 0)
        np.copyto(target, above, where=above > 0)
        missed += float(((target[cut:] - result[cut:]) ** 2).sum())
        held += result[cut:].size
        target -= above
        cross += x[:cut].T @ target[:cut]
        total += np.ones(cut, np.float32) @ target[:cut]
        count += cut
    moved = total / count
    return _Moves(cross / count - np.outer(mean, moved), moved, missed / max(held, 1))
