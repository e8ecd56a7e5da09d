"""Units: what of a model can be made smaller, and the levels at which each of them can stand.

The channels of a group and the numbers of a weight are units of two kinds, and so is every lever
that comes later. The sensitivity pass fills one row of errors for each unit, the allocator chooses
a level of each; neither knows what a level means (docs/decisions/0020-units-and-levels.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Floats, Group

__all__ = ["Row", "Unit", "channel_rows", "channel_unit"]

_NONE: Mapping[int, tuple[int, ...]] = MappingProxyType({})


@dataclass(frozen=True)
class Unit:
    """Something that can be made smaller in steps; a row of the cost model says what that saves.

    Attributes:
        name: what reports and messages call it.
        kind: what its levels count, such as `channels` or `numbers`.
        levels: (n_levels,) how much stays at each level, ascending; at the last one everything.
        along: at a level where nothing stays the units with these numbers go too, its own among
            them: all groups inside a residual block. Empty where something must always stay.
    """

    name: str
    kind: str
    levels: NDArray[Any]
    along: tuple[int, ...] = ()

    @property
    def last(self) -> int:
        """The number of the level at which everything stays."""
        return len(self.levels) - 1

    @property
    def least(self) -> int:
        """The number of the lowest level that concerns this unit alone."""
        return int(bool(self.along))


@dataclass(frozen=True)
class Row:
    """A unit and the error at each of its levels (n_levels,), zero at the last one."""

    unit: Unit
    errors: Floats

    def offering(self, levels: Collection[Any] | NDArray[Any]) -> Row:
        """The same unit with only some of its levels on offer, and the one that takes others along.

        Args:
            levels: how much stays at each of them, ascending.
        """
        offered = np.asarray(levels)
        if self.unit.along and 0 not in offered:
            offered = np.concatenate([np.zeros(1, offered.dtype), offered])
        at = np.searchsorted(self.unit.levels, offered)
        return Row(replace(self.unit, levels=offered), self.errors[at])

    def alone(self) -> Row:
        """The same unit without the level that takes others along."""
        if not self.unit.along:
            return self
        unit = replace(self.unit, levels=self.unit.levels[1:], along=())
        return Row(unit, self.errors[1:])

    def at(self, stays: float) -> float:
        """The error where so much stays, between two levels along the straight line."""
        return float(np.interp(stays, self.unit.levels, self.errors))


def channel_unit(group: Group, along: tuple[int, ...] = ()) -> Unit:
    """The channels of a group, each width from none to all a level."""
    return Unit(group.name, "channels", np.arange(group.channels + 1), along)


def channel_rows(
    groups: Sequence[Group],
    errors: Sequence[Floats],
    blocks: Mapping[int, tuple[int, ...]] = _NONE,
) -> list[Row]:
    """Rows of all groups' channels.

    Args:
        groups: in the order of the cost model.
        errors: (n_channels + 1,) of each, the error at every width.
        blocks: by the number of their root the groups that go with a residual block.
    """
    return [
        Row(channel_unit(group, blocks.get(g, ())), own)
        for g, (group, own) in enumerate(zip(groups, errors, strict=True))
    ]
