"""Structured optimal brain surgeon and least squares, on the statistics of a layer's inputs.

With C the centred covariance of a layer's inputs, λ a ridge and H = C + λI, dropping the inputs P
of a weight W and moving the others to their optimum raises the squared error by

    tr(W_P ([H⁻¹]_PP)⁻¹ W_Pᵀ),   W ← W - W_P ([H⁻¹]_PP)⁻¹ [H⁻¹]_P:,   H⁻¹ ← Schur complement,

so one sweep from full width to none ranks the channels and gives the error at every width
(Hassibi & Stork, 1993; structured as in Frantar & Alistarh, OBC 2022, and Kurtić et al., ZipLM
2023). The refit of what stays solves (C_SS + λI) W_S = Cov(x_S, y) + λW_S: least squares toward the
target, drawn to the old weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.calibration.moments import Statistics
from onnxprune.types import Floats, Ints

__all__ = ["Reader", "eliminate", "refit", "ridged", "shrinkage"]

#: Steps of a sweep, at most: several channels go at once where there are more.
STEPS = 96
#: Share of the columns that are gone before a sweep leaves them out.
SHRINK = 0.2


@dataclass(frozen=True)
class Reader:
    """A layer that reads a group: covariance (d, d), weight (d, o), its columns (n_channels, k)."""

    cov: Floats
    weight: Floats
    columns: Ints
    ridge: float


class _Sweep:
    """One reader during a sweep."""

    def __init__(self, reader: Reader) -> None:
        self.columns = reader.columns
        self.weight = reader.weight.copy()
        self.gone = np.zeros(len(reader.cov), bool)
        self.inverse = np.linalg.inv(ridged(reader.cov, reader.ridge)[0])
        energy = np.einsum("do,do->", reader.weight, reader.cov @ reader.weight)
        self.scale = 1 / max(float(energy), 1e-30)

    def scores(self, alive: Ints) -> Floats:
        """(n_alive,) error that each channel's removal would add, in shares of the output."""
        at = self.columns[alive]
        blocks = self.inverse[at[:, :, None], at[:, None, :]]
        own = self.weight[at]
        solved = np.linalg.solve(blocks, own) if at.shape[1] > 1 else own / blocks
        result: Floats = np.einsum("nko,nko->n", own, solved) * self.scale
        return result

    def drop(self, gone: Ints) -> float:
        """Remove channels together; returns the exact error that adds."""
        at = self.columns[gone].ravel()
        block = self.inverse[np.ix_(at, at)]
        rows = self.inverse[at]
        solved = np.linalg.solve(block, self.weight[at])
        error = float(np.einsum("do,do->", self.weight[at], solved)) * self.scale
        self.weight -= rows.T @ solved
        self.inverse -= rows.T @ (np.linalg.inv(block) @ rows)
        self.gone[at] = True
        if self.gone.sum() > SHRINK * len(self.gone):
            self._shrink()
        return error

    def _shrink(self) -> None:
        """Leave out what is gone: its rows and columns are never looked at again."""
        left = np.flatnonzero(~self.gone)
        number = np.full(len(self.gone), -1)
        number[left] = np.arange(len(left))
        self.columns = number[self.columns]
        self.weight = self.weight[left]
        self.inverse = self.inverse[np.ix_(left, left)]
        self.gone = self.gone[left]


def _ridge(cov: Floats, share: float) -> float:
    return share * max(float(np.trace(cov)) / max(len(cov), 1), 1e-12)


def eliminate(readers: Sequence[Reader], least: int = 0) -> tuple[Ints, Floats]:
    """Remove channels one by one, the least missed first, all readers together.

    Args:
        readers: what reads the group; errors are shares of each reader's output energy.
        least: channels to stop at.

    Returns:
        (n_channels,) channels from the first to go to the last, and (n_channels + 1,) error when
        k channels are left, k = 0 … n_channels. Those that are left at the end come in no order,
        with an error that is not known.
    """
    sweeps = [_Sweep(reader) for reader in readers]
    n = len(readers[0].columns)
    alive, order, errors = np.arange(n), list[int](), [0.0]
    at_once = max(1, -(-n // STEPS))
    while len(alive) > least:
        scores = np.sum([sweep.scores(alive) for sweep in sweeps], 0)
        worst = np.argsort(scores, kind="stable")[: min(at_once, len(alive) - least)]
        gone = alive[worst]
        added = sum(sweep.drop(gone) for sweep in sweeps)
        share = np.maximum(scores[worst], 0)
        share = share / share.sum() if share.sum() > 0 else np.full(len(gone), 1 / len(gone))
        errors += (errors[-1] + max(added, 0.0) * np.cumsum(share)).tolist()
        order += gone.tolist()
        alive = np.delete(alive, worst)
    order += alive.tolist()
    errors += [np.nan] * len(alive)
    return np.array(order, np.int64), np.array(errors[::-1])


def ridged(cov: Floats, ridge: float) -> tuple[Floats, float]:
    """A covariance with the ridge on its diagonal, and the ridge in the unit of the data."""
    amount = _ridge(cov, ridge)
    return cov + amount * np.eye(len(cov)), amount


def shrinkage(statistics: Statistics, least: float) -> float:
    """The ridge, in shares of the mean variance, that so few rows ask for; at least `least`.

    The oracle approximating shrinkage of Chen et al. (2010): with p inputs and n rows
    ρ = (tr(C²) + tr(C)²) / (n (tr(C²) - tr(C)² / p)), terms of order 1/p left out.
    """
    squares = float((statistics.cov**2).sum())
    trace = float(np.trace(statistics.cov)) ** 2
    spread = max(squares - trace / max(len(statistics.cov), 1), 1e-30)
    rho = min((squares + trace) / (statistics.count * spread), 1.0)
    return max(rho, least)


def refit(statistics: Statistics, weight: Floats, kept: Ints, ridge: float) -> Floats:
    """(d, o) least-squares weight on the `kept` inputs, zero elsewhere."""
    amount = _ridge(statistics.cov, ridge)
    left = statistics.cov[np.ix_(kept, kept)] + amount * np.eye(len(kept))
    fitted = np.zeros_like(weight)
    if len(kept):
        fitted[kept] = np.linalg.solve(left, statistics.cross[kept] + amount * weight[kept])
    return fitted
