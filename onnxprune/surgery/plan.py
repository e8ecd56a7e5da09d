"""From the channels that stay to the positions that stay: the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Axis, Group, HeadChoice, Ints, Plan, Site

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
        dict(_choices(groups, kept)),
    )


def _choices(
    groups: Sequence[Group], kept: Sequence[NDArray[np.bool_]]
) -> Iterator[tuple[Axis, HeadChoice]]:
    """What each head keeps, for nominal axes of tensors that count the heads on another axis."""
    for group, mask in zip(groups, kept, strict=True):
        nominal = {a for s in group.sites if s.nominal for a in s.axes}
        if mask.all() or not nominal:
            continue
        flat = next(site for site in group.sites if not site.nominal)
        for heads in (other for other in groups if other.heads == 1):
            joint = next((s for s in heads.sites if flat.axes[0] in s.axes), None)
            if joint is None or heads.channels != group.heads:
                continue
            alive = _alive_in_heads(group, flat, joint, mask)
            for site in heads.sites:
                rows = np.ones((site.size, group.channels), bool)
                rows[site.positions] = alive[:, None]
                tensors = {axis.tensor: axis.axis for axis in site.axes}
                beside = [axis for axis in nominal if axis.tensor in tensors]
                yield from ((axis, HeadChoice(tensors[axis.tensor], rows)) for axis in beside)


def _alive_in_heads(
    group: Group, flat: Site, joint: Site, mask: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(heads, n_channels) which places inside each head stay; places count from its first one.

    `flat` are the group's positions on an axis, `joint` those of whole heads on the same axis.
    """
    blocks: Ints = flat.positions.reshape(group.channels, group.heads, -1)[:, :, 0]
    place = blocks - blocks.min(axis=0)
    alive = np.ones((group.heads, group.channels), bool)
    for k in range(group.heads):
        head = (joint.positions == blocks[0, k]).any(axis=1).argmax()
        alive[head, place[~mask, k]] = False
    return alive
