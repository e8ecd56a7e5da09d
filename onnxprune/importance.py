"""How much each channel of a group matters: plain functions from a group to (n_channels,) scores.

    l1      Σ|w| of the filter                                     Li et al., ICLR 2017
    l2      √Σw² of the filter
    fpgm    Σ_j ‖w_i - w_j‖, distance to all other filters         He et al., CVPR 2019
    bn-scale  |γ| of the normalisation behind the filter           Liu et al., ICCV 2017
    lamp    ‖w_i‖² / Σ_{‖w_j‖ ≥ ‖w_i‖} ‖w_j‖²                      Lee et al., ICLR 2021
    random  uniform, seeded

A group with several weights (a residual stream) gets the mean of their scores, each divided by
its own mean. Start reading at `criterion`; users register their own the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.weights import GroupWeights

__all__ = ["CRITERIA", "Criterion", "Scores", "criterion", "errors_of", "scores_of"]

Scores: TypeAlias = NDArray[np.float64]
Criterion: TypeAlias = Callable[[GroupWeights], Scores]

CRITERIA: dict[str, Criterion] = {}
#: Criteria whose scores can be compared between groups as they are.
COMPARABLE = {"lamp"}


def criterion(name: str) -> Callable[[Criterion], Criterion]:
    """Register a criterion under `name`: a function of one group, higher means keep."""

    def add(function: Criterion) -> Criterion:
        if name in CRITERIA:
            raise ValueError(f"criterion '{name}' is registered twice")
        CRITERIA[name] = function
        return function

    return add


def _mean(parts: Iterable[NDArray[Any]]) -> Scores:
    """Mean of several score vectors, each in units of its own mean."""
    total: Scores = np.zeros(1)
    count = 0
    for part in parts:
        total, count = total + part / max(float(part.mean()), 1e-30), count + 1
    mean: Scores = total / max(count, 1)
    return mean


@criterion("l1")
def l1(group: GroupWeights) -> Scores:
    """Sum of absolute weights of each filter."""
    return _mean(np.abs(rows).sum(1, dtype=np.float64) for rows in group.rows)


@criterion("l2")
def l2(group: GroupWeights) -> Scores:
    """Euclidean norm of each filter."""
    return _mean(np.sqrt(_squares(rows)) for rows in group.rows)


def _squares(rows: NDArray[Any]) -> Scores:
    rows = rows.astype(np.float32, copy=False)
    squares: Scores = np.einsum("ij,ij->i", rows, rows).astype(np.float64)
    return squares


@criterion("fpgm")
def fpgm(group: GroupWeights) -> Scores:
    """Summed distance of each filter to all others: those near the geometric median go first."""

    def distances(rows: NDArray[Any]) -> Scores:
        rows = rows.astype(np.float64)
        squares = (rows**2).sum(1)
        gram = rows @ rows.T
        result: Scores = np.sqrt(np.maximum(squares[:, None] + squares - 2 * gram, 0)).sum(1)
        return result

    return _mean(distances(rows) for rows in group.rows)


@criterion("bn-scale")
def bn_scale(group: GroupWeights) -> Scores:
    """Absolute scale of the normalisation; the l1 norm in a group without one."""
    scales = [np.abs(part).sum(1, dtype=np.float64) for part in group.scales]
    return _mean(scales) if scales else l1(group)


@criterion("lamp")
def lamp(group: GroupWeights) -> Scores:
    """Squared norm over the squared norms of all filters that are at least as large."""
    squares = l2(group) ** 2
    order = np.argsort(squares, kind="stable")
    survivors = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(survivors, 1e-30)
    return scores


@criterion("random")
def random(group: GroupWeights) -> Scores:
    """Uniform numbers, the same for the same seed and group."""
    return group.rng.random(group.group.channels)


def scores_of(name: str, groups: Iterable[GroupWeights]) -> list[Scores]:
    """Scores (n_channels,) of every group under the criterion called `name`.

    Raises:
        InputError: no such criterion, one that the model has nothing for, or bad scores.
    """
    if name not in CRITERIA:
        raise InputError(f"unknown criterion '{name}'. There are: {', '.join(sorted(CRITERIA))}")
    groups = list(groups)
    if name == "bn-scale" and not any(group.roles.scales for group in groups):
        raise InputError(
            "criterion 'bn-scale' needs normalisation scales, but the model has none that are "
            "separate (they may be folded into the weights). Use l1 or l2."
        )
    return [_checked(name, group, CRITERIA[name](group)) for group in groups]


def _checked(name: str, group: GroupWeights, scores: Scores) -> Scores:
    n = group.group.channels
    if np.shape(scores) != (n,) or not np.isfinite(scores).all():
        raise InputError(
            f"criterion '{name}' gave {np.shape(scores)} scores (all finite: "
            f"{bool(np.isfinite(scores).all())}) for the {n} channels of '{group.group.name}'"
        )
    return scores


def errors_of(name: str, scores: Scores) -> Scores:
    """(n_channels + 1,) error when the k best channels remain, k = 0 … n_channels.

    Scores that differ in scale between groups count in units of their group's mean.
    """
    lowest = np.sort(scores)
    if name not in COMPARABLE:
        lowest = lowest / max(float(lowest.mean()), 1e-30)
    return np.concatenate([[0.0], np.cumsum(lowest)])[::-1]
