"""Which channels stay: widths on offer, the best channels of each group, the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Axis, Group, Ints, Plan

__all__ = ["Limits", "kept_channels", "offers", "plan_of"]


@dataclass(frozen=True)
class Limits:
    """What widths are offered: at least `min_channels`, multiples of `round_to` or all."""

    min_channels: int = 1
    round_to: int = 1


def offers(group: Group, limits: Limits, ratio: float | None = None) -> Ints:
    """Ascending widths a group may take; with `ratio` only the one nearest to it."""
    n = group.channels
    widths = np.arange(0, n + 1)
    allowed = widths[(widths % limits.round_to == 0) & (widths >= min(limits.min_channels, n))]
    allowed = np.union1d(allowed, [n])
    if ratio is not None:
        allowed = allowed[[int(np.abs(allowed - ratio * n).argmin())]]
    return allowed


def kept_channels(scores: NDArray[np.float64], width: int) -> NDArray[np.bool_]:
    """(n_channels,) the `width` best channels; equal scores keep the earlier channel."""
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:width]] = True
    return kept


def plan_of(groups: Sequence[Group], kept: Sequence[NDArray[np.bool_]]) -> Plan:
    """The plan that keeps the marked channels (n_channels,) of every group."""
    alive: dict[tuple[Axis, ...], NDArray[np.bool_]] = {}
    nominal: list[Axis] = []
    for group, mask in zip(groups, kept, strict=True):
        for site in () if mask.all() else group.sites:
            alive.setdefault(site.axes, np.ones(site.size, bool))
            alive[site.axes][site.positions[~mask].ravel()] = False
            nominal += site.axes if site.nominal else ()
    keep = {axes: np.flatnonzero(left) for axes, left in alive.items()}
    return Plan(
        {axis: left for axes, left in keep.items() for axis in axes},
        {axis: len(left) for axes, left in alive.items() for axis in axes},
        frozenset(nominal),
    )
