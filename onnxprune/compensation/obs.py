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

import numpy as np

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.symmetric_solve import solve_positive
from onnxprune.types import Floats, Ints

__all__ = ["LayerProblem", "eliminate", "refit", "ridged", "shrinkage"]

#: Steps of a sweep, at most: where there are more channels several go in each step.
STEPS = 96
#: Share of the columns that are removed before a sweep compacts its matrices.
COMPACT_AT = 0.2


@dataclass(frozen=True)
class LayerProblem:
    """The least-squares problem of one layer that reads a group.

    Attributes:
        cov: (d, d) covariance of the layer's inputs.
        weight: (d, o).
        columns: (n_channels, k) inputs that hold each channel of the group.
        ridge: what is added to the diagonal, in shares of the mean variance.
    """

    cov: Floats
    weight: Floats
    columns: Ints
    ridge: float


class _Sweep:
    """One layer during a sweep: its weight and inverse covariance after the removals so far."""

    def __init__(self, problem: LayerProblem) -> None:
        self._columns = problem.columns
        self._weight = problem.weight.copy()
        self._removed = np.zeros(len(problem.cov), bool)
        self._inverse = np.linalg.inv(ridged(problem.cov, problem.ridge)[0])
        energy = np.einsum("do,do->", problem.weight, problem.cov @ problem.weight)
        self._scale = 1 / max(float(energy), 1e-30)

    def scores(self, alive: Ints) -> Floats:
        """(n_alive,) error that removing each channel would add, in shares of the output energy."""
        at = self._columns[alive]
        blocks = self._inverse[at[:, :, None], at[:, None, :]]
        own = self._weight[at]
        solved = np.linalg.solve(blocks, own) if at.shape[1] > 1 else own / blocks
        scores: Floats = np.einsum("nko,nko->n", own, solved) * self._scale
        return scores

    def remove(self, channels: Ints) -> float:
        """Remove channels together and return the exact error that this adds."""
        at = self._columns[channels].ravel()
        block = self._inverse[np.ix_(at, at)]
        rows = self._inverse[at]
        solved = np.linalg.solve(block, self._weight[at])
        error = float(np.einsum("do,do->", self._weight[at], solved)) * self._scale
        self._weight -= rows.T @ solved
        self._inverse -= rows.T @ (np.linalg.inv(block) @ rows)
        self._removed[at] = True
        if self._removed.sum() > COMPACT_AT * len(self._removed):
            self._compact()
        return error

    def _compact(self) -> None:
        """Leave out rows and columns of what was removed, which are not looked at again."""
        left = np.flatnonzero(~self._removed)
        number = np.full(len(self._removed), -1)
        number[left] = np.arange(len(left))
        self._columns = number[self._columns]
        self._weight = self._weight[left]
        self._inverse = self._inverse[np.ix_(left, left)]
        self._removed = self._removed[left]


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
    sweeps = [_Sweep(problem) for problem in problems]
    n = len(problems[0].columns)
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
