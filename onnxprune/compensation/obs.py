"""Remove inputs of layers by the structured optimal brain surgeon, on the moments of their inputs.

With C the covariance of a layer's inputs, λ a ridge and H = C + λI, removing the inputs P of a
weight W and moving the others to their optimum raises the squared error by

    tr(W_P ([H⁻¹]_PP)⁻¹ W_Pᵀ),   W ← W - W_P ([H⁻¹]_PP)⁻¹ [H⁻¹]_P:,   H⁻¹ ← Schur complement,

so one sweep from full width to none ranks the channels and gives the error at every width
(Hassibi & Stork, 1993; structured as in Frantar & Alistarh, OBC 2022, and Kurtić et al., ZipLM
2023). The weights that stay, S, then solve (C_SS + λI) W_S = Cov(x_S, y) + λW_S: least squares with
a ridge that pulls toward the old weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.symmetric_solve import solve_positive
from onnxprune.types import Floats, Ints

__all__ = [
    "SETTINGS",
    "LayerProblem",
    "eliminate",
    "positive_inverse",
    "refit",
    "ridged",
    "shrinkage",
]

#: Steps of a sweep, at most: where there are more channels several go in each step.
STEPS = 96
#: Channels that are looked at together, at most.
WIDEST = 512
#: What orders of channels depend on, for keys of caches.
SETTINGS = (STEPS, WIDEST)
#: Inputs that are removed before a sweep changes the whole inverse.
TOGETHER = 256
#: Share of the inputs that are removed before a sweep leaves them out, where it changes it earlier.
COMPACT_AT = 0.1
#: Rows of a matrix up to which it is inverted at once.
AT_ONCE = 192


@dataclass(frozen=True)
class LayerProblem:
    """The least-squares problem of one layer that reads a group.

    Attributes:
        cov: (d, d) covariance of the layer's inputs.
        weight: (d, o).
        columns: (n_channels, k) inputs that hold each channel of the group.
        ridge: what is added to the diagonal, in shares of the mean variance.
        unit: what errors are shares of, None: `energy`; nobody looks at it where a layer is alone.
    """

    cov: Floats
    weight: Floats
    columns: Ints
    ridge: float
    unit: float | None = None

    @cached_property
    def energy(self) -> float:
        """The squared size of what the layer gives, without its mean."""
        if self.unit is not None:
            return self.unit
        return float(np.einsum("do,do->", self.weight, self.cov @ self.weight))

    def among(self, channels: Ints) -> LayerProblem:
        """The problem as if there were only some channels of the group."""
        at = self.columns[channels]
        flat = at.ravel()
        columns = np.arange(len(flat)).reshape(at.shape)
        cov, weight = self.cov[np.ix_(flat, flat)], self.weight[flat]
        return LayerProblem(cov, weight, columns, self.ridge, self.unit)


class _Sweep:
    """One layer during a sweep: its weight and inverse covariance after the removals so far.

    The inverse is that of the last update minus FᵀF, with F the rows removed since, each times the
    inverse Cholesky factor of those that went with it: the whole matrix changes once for many rows.
    """

    def __init__(self, problem: LayerProblem) -> None:
        at = problem.columns.ravel()  # inputs outside the group never go: nobody looks at theirs
        self._columns = np.arange(len(at)).reshape(problem.columns.shape)
        self._removed = np.zeros(len(at), bool)
        inverse = positive_inverse(ridged(problem.cov, problem.ridge)[0])
        self._inverse = inverse if _is_range(at, len(inverse)) else inverse[np.ix_(at, at)]
        self._diagonal = np.diagonal(self._inverse).copy()
        self._since = np.zeros((0, len(at)))
        self._weight = problem.weight[at]
        self._scale = 1 / max(problem.energy, 1e-30)

    def scores(self, alive: Ints) -> Floats:
        """(n_alive,) error that removing each channel would add, in shares of the output energy."""
        at = self._columns[alive]
        if at.shape[1] == 1:
            energies = np.einsum("do,do->d", self._weight, self._weight)[at[:, 0]]
            return np.asarray(energies / self._diagonal[at[:, 0]] * self._scale)
        self._update()
        at = self._columns[alive]
        blocks = self._inverse[at[:, :, None], at[:, None, :]]
        own = self._weight[at]
        solved = np.linalg.solve(blocks, own)
        scores: Floats = np.einsum("nko,nko->n", own, solved) * self._scale
        return scores

    def remove(self, channels: Ints) -> float:
        """Remove channels together and return the exact error that this adds."""
        at = self._columns[channels].ravel()
        rows = self._inverse[at] - self._since[:, at].T @ self._since
        root = _inverse_root(rows[:, at])
        own, rows = root @ self._weight[at], root @ rows
        self._weight -= rows.T @ own
        self._diagonal -= np.einsum("nd,nd->d", rows, rows)
        self._since = np.concatenate([self._since, rows])
        self._removed[at] = True
        if len(self._since) >= TOGETHER:
            self._update()
        return float(np.einsum("do,do->", own, own)) * self._scale

    def _update(self) -> None:
        """Bring the inverse up to date, without what was removed, which is not looked at again."""
        if not len(self._since):
            return
        if len(self._since) < TOGETHER and self._removed.sum() < COMPACT_AT * len(self._removed):
            self._inverse -= self._since.T @ self._since
            self._since = self._since[:0]
            return
        left = np.flatnonzero(~self._removed)
        number = np.full(len(self._removed), -1)
        number[left] = np.arange(len(left))
        since = self._since[:, left]
        self._columns = number[self._columns]
        self._weight, self._diagonal = self._weight[left], self._diagonal[left]
        self._inverse = self._inverse[np.ix_(left, left)] - since.T @ since
        self._removed, self._since = self._removed[left], np.zeros((0, len(left)))


def eliminate(problems: Sequence[LayerProblem], least: int = 0) -> tuple[Ints, Floats]:
    """Remove the channels of a group one by one, always those whose removal adds least error.

    Args:
        problems: the layers that read the group, at least one; errors are shares of each layer's
            output energy, summed.
        least: channels at which to stop.

    Returns:
        (n_channels,) channels from the first removed to the last, and (n_channels + 1,) the error
        when k channels are left, k = 0 … n_channels. The `least` channels that were not removed
        come last in no particular order, and errors at fewer channels are NaN.
    """
    n = len(problems[0].columns)
    if n > WIDEST:
        return _in_parts(problems, least)
    sweeps = [_Sweep(problem) for problem in problems]
    alive, order, errors = np.arange(n), list[int](), [0.0]
    at_once = max(1, -(-n // STEPS))
    while len(alive) > least:
        scores = np.sum([sweep.scores(alive) for sweep in sweeps], 0)
        worst = np.argsort(scores, kind="stable")[: min(at_once, len(alive) - least)]
        removed = alive[worst]
        added = sum(sweep.remove(removed) for sweep in sweeps)
        share = np.maximum(scores[worst], 0)
        share = share / share.sum() if share.sum() > 0 else np.full(len(removed), 1 / len(removed))
        errors += (errors[-1] + max(added, 0.0) * np.cumsum(share)).tolist()
        order += removed.tolist()
        alive = np.delete(alive, worst)
    order += alive.tolist()
    errors += [np.nan] * len(alive)
    return np.array(order, np.int64), np.array(errors[::-1])


def _is_range(numbers: Ints, size: int) -> bool:
    """Whether they are all numbers below `size`, in their order."""
    return len(numbers) == size and bool((np.diff(numbers) == 1).all())


def positive_inverse(matrix: Floats) -> Floats:
    """The inverse of a symmetric positive matrix, by its Cholesky factor."""
    try:
        root = _triangular_inverse(np.asarray(np.linalg.cholesky(matrix), np.float64))
    except np.linalg.LinAlgError:  # rounded out of being positive
        return np.asarray(np.linalg.inv(matrix), np.float64)
    return np.asarray(root.T @ root, np.float64)


def _triangular_inverse(lower: Floats) -> Floats:
    """The inverse of a lower triangular matrix, mostly by products of its parts.

    That of [[A, 0], [B, D]] is [[A⁻¹, 0], [-D⁻¹BA⁻¹, D⁻¹]].
    """
    n = len(lower)
    if n <= AT_ONCE:
        return np.asarray(np.linalg.inv(lower), np.float64)
    half = n // 2
    first, last = _triangular_inverse(lower[:half, :half]), _triangular_inverse(lower[half:, half:])
    found = np.zeros_like(lower)
    found[:half, :half], found[half:, half:] = first, last
    found[half:, :half] = -(last @ (lower[half:, :half] @ first))
    return found


def _inverse_root(block: Floats) -> Floats:
    """R with RᵀR the inverse of a positive matrix."""
    try:
        return np.asarray(np.linalg.inv(np.linalg.cholesky(block)))
    except np.linalg.LinAlgError:  # rounded out of being positive
        values, vectors = np.linalg.eigh(block)
        least = 1e-15 * len(block) * max(float(values[-1]), 1e-30)
        return np.asarray(vectors.T / np.sqrt(np.maximum(values, least))[:, None])


def _in_parts(problems: Sequence[LayerProblem], least: int) -> tuple[Ints, Floats]:
    """Eliminate within parts of a wide group, as if there were no others, and merge their orders.

    The work is that of the cube of a part's width. Channels of other parts, which could make up for
    one that goes, are left out, so that errors are too large throughout.
    """
    n = len(problems[0].columns)
    count = -(-n // WIDEST)
    order, rises = list[Ints](), list[Floats]()
    for k in range(count):
        channels = np.arange(k, n, count)
        own = [problem.among(channels) for problem in problems]
        scales = [
            one.energy / max(whole.energy, 1e-30) for one, whole in zip(own, problems, strict=True)
        ]
        first, errors = eliminate(own)
        order.append(channels[first])
        rises.append(np.diff(errors[::-1]) * float(np.mean(scales)))
    levels = np.concatenate([np.maximum.accumulate(own) for own in rises])
    merged = np.argsort(levels, kind="stable")
    errors = np.concatenate([[0.0], np.cumsum(np.concatenate(rises)[merged])])
    errors[n - least + 1 :] = np.nan
    return np.concatenate(order)[merged], errors[::-1]


def _ridge(cov: Floats, share: float) -> float:
    return share * max(float(np.trace(cov)) / max(len(cov), 1), 1e-12)


def ridged(cov: Floats, ridge: float) -> tuple[Floats, float]:
    """Add a ridge to the diagonal of a covariance (d, d).

    Args:
        cov: the covariance.
        ridge: in shares of the mean variance.

    Returns:
        The sum, and the ridge in the unit of the covariance.
    """
    amount = _ridge(cov, ridge)
    return cov + amount * np.eye(len(cov)), amount


def shrinkage(statistics: Statistics, least: float) -> float:
    """The ridge that so few rows ask for, in shares of the mean variance; at least `least`.

    The oracle approximating shrinkage of Chen et al. (2010): with p inputs and n rows
    ρ = (tr(C²) + tr(C)²) / (n (tr(C²) - tr(C)² / p)), terms of order 1/p left out.
    """
    squares = float((statistics.cov**2).sum())
    trace = float(np.trace(statistics.cov)) ** 2
    spread = max(squares - trace / max(len(statistics.cov), 1), 1e-30)
    rho = min((squares + trace) / (statistics.count * spread), 1.0)
    return max(rho, least)


def refit(statistics: Statistics, weight: Floats, kept: Ints, ridge: float) -> Floats:
    """(d, o) least-squares weight on the inputs `kept` (n,), zero elsewhere.

    Args:
        statistics: moments of inputs and targets.
        weight: (d, o) the old weight, which the ridge pulls toward.
        kept: inputs that stay.
        ridge: in shares of the mean variance.
    """
    amount = _ridge(statistics.cov, ridge)
    left = statistics.cov[np.ix_(kept, kept)] + amount * np.eye(len(kept))
    fitted = np.zeros_like(weight)
    if len(kept):
        fitted[kept] = solve_positive(left, statistics.cross[kept] + amount * weight[kept])
    return fitted
