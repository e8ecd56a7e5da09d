"""From the channels that stay to the positions that stay: the plan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Axis, Group, Plan

__all__ = ["kept_channels", "plan_of"]


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
