"""Optimal brain surgeon for single weights, on the covariance of a layer's inputs.

With H = C + λI the covariance of the inputs and its ridge, setting weight w_j of one output row to
zero and moving the others of the row to their optimum costs w_j² / [H⁻¹]_jj and moves them by

    w ← w - w_j / [H⁻¹]_jj · [H⁻¹]_:j,    H⁻¹ ← H⁻¹ - [H⁻¹]_:j [H⁻¹]_j: / [H⁻¹]_jj

(Hassibi & Stork, 1993; row by row in Frantar & Alistarh, OBC, 2022). `exact` does that for all rows
of a layer together, a few percent of the weights at a time. Where one inverse per row takes too
much memory `blocked` uses one for all rows: columns are settled from left to right, and what is
left to move is what lies to the right, by the rows of the Cholesky factor of H⁻¹ (Frantar &
Alistarh, SparseGPT, 2023). Given the mask each row has its own least-squares problem, `refit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.sparsity.masks import keep_largest, n_of_m
from onnxprune.sparsity.patterns import NofM
from onnxprune.types import Floats

__all__ = ["Grouping", "Swept", "blocked", "exact", "refit", "swept"]

Mask: TypeAlias = NDArray[np.bool_]
#: Bytes of the inverses of all rows up to which each row has its own.
MEMORY = 2**29
#: Share of a layer's weights that goes at once.
STEP = 1 / 20
#: Numbers of all rows that lose weights together.
TOGETHER = 2**19
#: Columns that SparseGPT settles together.
BLOCK = 128
#: Columns up to which masked least squares is solved directly.
DIRECT = 1024
#: Steps of conjugate gradients beyond.
ROUNDS = 60


@dataclass(frozen=True)
class Grouping:
    """N:M along the channels of each tap, `channels` of which lie side by side in the columns."""

    pattern: NofM
    channels: int


class Swept(NamedTuple):
    """What went of a layer, in order.

    Attributes:
        gone: (d, o) how many weights were gone after each went; -1 for those that stay.
        trace: pairs of a number of weights gone and the squared error, both rising.
    """

    gone: NDArray[np.int64]
    trace: list[tuple[int, float]]

    @property
    def mask(self) -> Mask:
        """(d, o) weights that stay."""
        return self.gone < 0

    def at(self, count: int) -> Mask:
        """(d, o) weights that stay when about `count` are gone, a step at a time."""
        return (self.gone < 0) | (self.gone > count)

    def errors(self, counts: Floats) -> Floats:
        """The error at numbers of weights gone, straight between those known."""
        at, error = zip(*self.trace, strict=True)
        return np.asarray(np.interp(counts, at, error), np.float64)


def swept(inverse: Floats, weight: Floats, dropped: int, grouping: Grouping | None = None) -> Swept:
    """Sweep a layer: choose its mask, `exact` where memory allows.

    Args:
        inverse: (d, d) inverse of the ridged covariance.
        weight: (d, o) the layer's weight.
        dropped: how many weights go.
        grouping: N:M, None where single weights go.
    """
    if len(inverse) ** 2 * weight.shape[1] * 4 <= MEMORY:
        return exact(inverse, weight, dropped, grouping)
    return blocked(inverse, weight, dropped, grouping)


def exact(inverse: Floats, weight: Floats, dropped: int, grouping: Grouping | None = None) -> Swept:
    """Drop weights of all rows by what each costs now, moving the others of its row."""
    d, o = weight.shape
    state = _Rows(inverse, weight)
    alive = np.ones((o, d), bool)
    order = np.full((o, d), -1)
    trace, error, gone = [(0, 0.0)], 0.0, 0
    step = max(1, round(STEP * d * o))
    while gone < dropped:
        scores = np.where(alive, state.scores(), np.inf)
        if grouping is not None:
            scores = _closed(scores, alive, grouping)
        count = min(step, dropped - gone, int(np.isfinite(scores).sum()))
        if not count:  # numbers beyond single precision: nothing would ever go
            raise ArithmeticError("its least squares have no finite solution")
        going = ~keep_largest(scores, count)
        error += state.drop(going)
        alive &= ~going
        gone += count
        order[going] = gone
        trace.append((gone, error))
    return Swept(order.T, trace)


def _closed(scores: Floats, alive: Mask, grouping: Grouping) -> Floats:
    """Infinite scores where a group has lost enough, and for all but its cheapest weight."""
    pattern, channels = grouping.pattern, grouping.channels
    o, d = scores.shape
    wide = scores.reshape(o, d // channels, channels // pattern.of, pattern.of)
    left = alive.reshape(wide.shape).sum(-1, keepdims=True)
    cheapest = np.arange(pattern.of) == wide.argmin(-1)[..., None]
    return np.where(cheapest & (left > pattern.kept), wide, np.inf).reshape(o, d)


class _Rows:
    """Weights of every row, the diagonal of its inverse, and by what its inverse has shrunk.

    All rows begin with the same H⁻¹. With F the rows gone so far, each times the inverse Cholesky
    factor of those that went with it, a row's inverse is H⁻¹ - FᵀF: F grows by as many rows as go,
    where the inverse itself would change as a whole at every step.
    """

    def __init__(self, inverse: Floats, weight: Floats) -> None:
        width, rows = weight.shape
        self.first = inverse.astype(np.float32)  # it only ranks
        self.weights = np.ascontiguousarray(weight.T, np.float32)
        self.diagonal = np.tile(np.diagonal(self.first), (rows, 1))
        self.gone = np.zeros(rows, np.int64)
        self.shrunk = np.zeros((rows, width, width), np.float32)

    def scores(self) -> Floats:
        """(o, d) what each weight's removal costs alone."""
        costs = self.weights.astype(np.float64) ** 2 / np.maximum(self.diagonal, 1e-30)
        return np.asarray(costs, np.float64)

    def drop(self, going: Mask) -> float:
        """Remove weights (o, d); the error that adds."""
        return self._drop(0, going)

    def _drop(self, begin: int, going: Mask) -> float:
        """Remove weights of the rows from `begin` on, halves of them where that is too much.

        All are worked on with as many columns as the most that go of one.
        """
        counts, half = going.sum(1), len(going) // 2
        most = int(counts.max())
        if half and most * going.size > TOGETHER:
            return self._drop(begin, going[:half]) + self._drop(begin + half, going[half:])
        if not most:
            return 0.0
        rows = slice(begin, begin + len(going))
        before = self.gone[rows].copy()
        out = np.argsort(~going, axis=1, kind="stable")[:, :most]
        there = np.arange(most) < counts[:, None]
        past = self.shrunk[rows, : before.max()]
        lines = self.first[out] - _turned(np.take_along_axis(past, out[:, None], 2)) @ past
        lines *= there[..., None]
        root = _inverse_root(np.take_along_axis(lines, out[:, None], 2), there)
        new = root @ lines
        own = root @ np.where(there, np.take_along_axis(self.weights[rows], out, 1), 0)[..., None]
        self.weights[rows] -= (_turned(own) @ new)[:, 0]
        self.diagonal[rows] -= (new**2).sum(1)
        at, which = np.nonzero(there)
        self.shrunk[rows][at, before[at] + which] = new[at, which]
        self.gone[rows] += counts
        return float((own**2).sum())


def _turned(matrices: NDArray[Any]) -> Any:
    """The transpose of each matrix."""
    return matrices.transpose(0, 2, 1)


def _inverse_root(square: NDArray[np.float32], there: Mask) -> NDArray[np.float32]:
    """R with RᵀR the inverse of each matrix (n, m, m), on the columns that are `there` (n, m)."""
    both = there[:, None] & there[:, :, None]
    largest = np.diagonal(square, axis1=1, axis2=2).max(1)[:, None, None]
    wide = np.where(both, square, np.maximum(largest, 1e-30) * np.eye(there.shape[1]))
    try:
        root = np.linalg.inv(np.linalg.cholesky(wide))
    except np.linalg.LinAlgError:  # rounded out of being positive
        values, vectors = np.linalg.eigh(wide)
        least = 1e-6 * values[:, -1:]
        root = vectors / np.sqrt(np.maximum(values, least))[:, None] @ _turned(vectors)
    return np.asarray(np.where(both, root, 0), np.float32)


def blocked(
    inverse: Floats, weight: Floats, dropped: int, grouping: Grouping | None = None
) -> Swept:
    """SparseGPT: columns from left to right, each block's mask chosen over all rows on arrival."""
    d, o = weight.shape
    factor = np.linalg.cholesky(inverse).T  # upper: H⁻¹ = UᵀU
    rows, mask = weight.T.copy(), np.ones((o, d), bool)
    pattern = None if grouping is None else grouping.pattern
    width = BLOCK if pattern is None else pattern.of * max(1, BLOCK // pattern.of)
    error, gone = 0.0, 0
    for begin in range(0, d, width):
        end = min(begin + width, d)
        diagonal = np.diagonal(factor)[begin:end]
        part, moved = rows[:, begin:end].copy(), np.zeros((o, end - begin))
        if pattern is None:
            count = round(dropped * end / d) - gone
            kept = keep_largest((part / diagonal) ** 2, count)
            gone += count
        for j in range(end - begin):
            if pattern is not None and j % pattern.of == 0:
                there = slice(j, j + pattern.of)
                scores = (part[:, there] / diagonal[there]) ** 2
                own = n_of_m(scores[:, None, :], pattern)[:, 0]
                kept = np.concatenate([kept, own], 1) if j else own
            moved[:, j] = np.where(kept[:, j], 0, part[:, j]) / diagonal[j]
            part[:, j + 1 :] -= np.outer(moved[:, j], factor[begin + j, begin + j + 1 : end])
        mask[:, begin:end] = kept
        error += float((moved**2).sum())
        rows[:, end:] -= moved @ factor[begin:end, end:]
    total = int((~mask).sum())
    return Swept(np.where(mask, -1, total).T, [(0, 0.0), (total, error)])


def refit(left: Floats, right: Floats, start: Floats, mask: Mask) -> Floats:
    """(d, o) solution of `left` w = `right` on each output's own kept weights, zero elsewhere.

    Args:
        left: (d, d) ridged covariance of the inputs.
        right: (d, o) covariance with the targets, ridge times the old weight added.
        start: (d, o) a first guess, used where the layer is too wide to be solved directly.
        mask: (d, o) weights that stay.
    """
    if len(left) > DIRECT:
        return _conjugate(lambda w: left @ w, right, start, mask)
    made = np.zeros_like(right)
    for k in range(right.shape[1]):
        at = np.flatnonzero(mask[:, k])
        if len(at):
            made[at, k] = np.linalg.solve(left[np.ix_(at, at)], right[at, k])
    return made


def _conjugate(
    times: Callable[[Floats], Floats], right: Floats, start: Floats, mask: Mask
) -> Floats:
    """Conjugate gradients for all outputs at once, on the weights that stay."""
    value = np.where(mask, start, 0)
    residual = np.where(mask, right - times(value), 0)
    way, now = residual.copy(), (residual**2).sum(0)
    first = np.maximum(now, 1e-300)
    for _ in range(ROUNDS):
        turned = np.where(mask, times(way), 0)
        length = now / np.maximum((way * turned).sum(0), 1e-300)
        value, residual = value + length * way, residual - length * turned
        after = (residual**2).sum(0)
        if (after <= 1e-12 * first).all():
            break
        way, now = residual + after / np.maximum(now, 1e-300) * way, after
    return np.asarray(value)
