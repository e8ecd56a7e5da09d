"""Score the channels of a group: plain functions from a group to (n_channels,) scores.

    l1      Σ|w| of the filter                                     Li et al., ICLR 2017
    l2      √Σw² of the filter
    fpgm    Σ_j ‖w_i - w_j‖, distance to all other filters         He et al., CVPR 2019
    bn-scale  |γ| of the normalisation behind the filter           Liu et al., ICCV 2017
    lamp    ‖w_i‖² / Σ_{‖w_j‖ ≥ ‖w_i‖} ‖w_j‖²                      Lee et al., ICLR 2021
    fan-out Σw² over the weights that read the channel
    random  uniform, seeded

and on calibration data, of the activation x that the channel's readers see:

    mean-activation  mean |x|                                      Molchanov et al., ICLR 2017
    apoz      1 - share of zeros: how often it does not stay silent   Hu et al., 2016
    variance  Var(x)·Σw² over the weights that read it             An et al. (FLAP), AAAI 2024
    wanda     Σ|w|·‖x‖₂ over the weights that read it              Sun et al., ICLR 2024
    obs       ‖w‖²/[C⁻¹]_jj, what the channels that stay cannot predict   Hassibi & Stork, 1993

A group with several weights (a residual stream) gets the mean of their scores, each divided by
its own mean. Where nothing is known of x, Σw² stands in for it; where no stored weight reads the
group either (the width of queries and keys), the l2 norm. Start reading at `criterion`; users
register their own the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.compensation.obs import LayerProblem, eliminate
from onnxprune.errors import InputError
from onnxprune.importance.group_weights import FanOut, GroupWeights
from onnxprune.user_code import plugin

__all__ = [
    "COVARIANCE",
    "CRITERIA",
    "NEED_DATA",
    "Criterion",
    "Scores",
    "criterion",
    "errors_of",
    "load_criterion",
    "scores_of",
]

Scores: TypeAlias = NDArray[np.float64]
Criterion: TypeAlias = Callable[[GroupWeights], Scores]

CRITERIA: dict[str, Criterion] = {}
#: Names of earlier versions.
ALIASES = {"reading": "fan-out"}
#: Criteria whose scores can be compared between groups as they are.
COMPARABLE = {"lamp"}
#: Criteria that look at calibration data, and those among them that need covariances.
NEED_DATA = set[str]()
COVARIANCE = {"obs"}
#: Ridge of `obs`, in shares of the mean variance.
RIDGE = 1e-3


def criterion(name: str, data: bool = False) -> Callable[[Criterion], Criterion]:
    """Register a criterion under `name`: a function of one group, higher means keep.

    With `data` it needs calibration data: `GroupWeights.profiles` and `fan_out`.
    """

    def add(function: Criterion) -> Criterion:
        if name in CRITERIA:
            raise ValueError(f"criterion '{name}' is registered twice")
        CRITERIA[name] = function
        if data:
            NEED_DATA.add(name)
        return function

    return add


def load_criterion(name: str) -> None:
    """Register the criterion of a name that an installed package offers, if there is none yet.

    A function with a true attribute `needs_samples` is registered with `data`.
    """
    if name in CRITERIA or name in ALIASES:
        return
    function = plugin("criteria", name)
    if function is not None:
        criterion(name, data=getattr(function, "needs_samples", False))(function)


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


@criterion("fan-out")
def fan_out(group: GroupWeights) -> Scores:
    """Sum of squares of the weights that read each channel."""
    squares = [_squares(columns) for columns in group.columns]
    return _mean(squares) if squares else l2(group)


@criterion("mean-activation", data=True)
def mean_activation(group: GroupWeights) -> Scores:
    """Mean absolute activation."""
    parts = [profile.magnitude[at].mean(1) for profile, at in group.profiles]
    return _mean(parts) if parts else l2(group)


@criterion("apoz", data=True)
def apoz(group: GroupWeights) -> Scores:
    """Share of activations that are not zero."""
    parts = [1 - profile.silent[at].mean(1) for profile, at in group.profiles]
    return np.asarray(np.mean(parts, 0)) if parts else l2(group)


@criterion("variance", data=True)
def variance(group: GroupWeights) -> Scores:
    """Error of a layer that sees the channel's mean instead of the channel."""
    parts = [
        np.einsum("nkm,nkm,nk->n", r.weight, r.weight, r.at_channels(r.profile.variance))
        for r in group.fan_out
    ]
    return _mean(parts) if parts else fan_out(group)


@criterion("wanda", data=True)
def wanda(group: GroupWeights) -> Scores:
    """Absolute weights times the norm of what they are multiplied with."""
    parts = [
        np.einsum("nkm,nk->n", np.abs(r.weight), r.at_channels(_norm(r))) for r in group.fan_out
    ]
    return _mean(parts) if parts else fan_out(group)


def _norm(weight: FanOut) -> Scores:
    norm: Scores = np.sqrt(weight.profile.count * weight.profile.square)
    return norm


@criterion("obs", data=True)
def obs(group: GroupWeights) -> Scores:
    """What each channel's removal costs once the others make up for it, in the order they go.

    A convolution counts as if its taps saw the channels one tap at a time.
    """
    readers = [_reader(r) for r in group.fan_out if r.profile.cov is not None and r.matching]
    if not readers:
        return variance(group)
    order, errors = eliminate(readers)
    scores = np.empty(len(order))
    scores[order] = np.maximum.accumulate(np.diff(errors[::-1]))
    return scores


def _reader(fan_out: FanOut) -> LayerProblem:
    """The channels alone: their covariance (n·k, n·k) and the weights (n·k, m) that read them."""
    n, k, m = fan_out.weight.shape
    assert fan_out.profile.cov is not None
    at = fan_out.positions.ravel()
    weight = fan_out.weight.reshape(n * k, m).astype(np.float64)
    columns = np.arange(n * k).reshape(n, k)
    return LayerProblem(fan_out.profile.cov[np.ix_(at, at)], weight, columns, RIDGE)


def scores_of(name: str, groups: Iterable[GroupWeights]) -> list[Scores]:
    """Scores (n_channels,) of every group under the criterion called `name`.

    Raises:
        InputError: no such criterion, one that the model has nothing for, or bad scores.
    """
    load_criterion(name)
    name = ALIASES.get(name, name)
    if name not in CRITERIA:
        raise InputError(f"unknown criterion '{name}'. There are: {', '.join(sorted(CRITERIA))}")
    groups = list(groups)
    if name == "bn-scale" and not any(group.roles.scales for group in groups):
        raise InputError(
            "criterion 'bn-scale' needs normalisation scales, but the model has none that are "
            "separate (they may be folded into the weights). Use l1 or l2."
        )
    if name in NEED_DATA and any(group.activations is None for group in groups):
        raise InputError(f"criterion '{name}' needs --calib")
    return [_checked(name, group, CRITERIA[name](group)) for group in groups]


def _checked(name: str, group: GroupWeights, scores: Scores) -> Scores:
    n = group.group.channels
    if np.shape(scores) != (n,) or not np.isfinite(scores).all():
        raise InputError(
            f"criterion '{name}' gave {np.shape(scores)} scores (all finite: "
            f"{bool(np.isfinite(scores).all())}) for the {n} channels of '{group.group.name}': "
            "leave the group alone with --exclude, or use another criterion"
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
