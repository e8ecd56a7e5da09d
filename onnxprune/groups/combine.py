"""Groups of several readings of one model put together: heads beside the width inside each.

A reshape from (heads · width) to (heads, width) can carry whole heads or the same position of
every head. Each reading gives groups of its own; both may be cut at once where they cross like a
grid: every channel of one meets every channel of the other in equally many positions. An axis
then keeps the product of what both keep.

Where the width's channels only ever meet stored weights head by head, nothing ties position 3 of
one head to position 3 of the next: each head may choose its own, only the count must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from onnxprune.groups.dependency import Dependencies
from onnxprune.types import Axis, Group, Ints, Site

__all__ = ["Crossing", "combine"]


class Crossing(NamedTuple):
    """Every channel of group `a` meets every channel of group `b` in `unit` positions of `axis`."""

    a: int
    b: int
    axis: Axis
    unit: int


@dataclass
class _Cover:
    """Which accepted groups run through each axis, with the channel of every position or -1."""

    groups: list[Group] = field(default_factory=list)
    at: dict[Axis, list[tuple[int, Ints]]] = field(default_factory=dict)

    def add(self, group: Group) -> None:
        """Accept a group."""
        for site in group.sites:
            channel = _channel_of(site)
            for axis in site.axes:
                self.at.setdefault(axis, []).append((len(self.groups), channel))
        self.groups.append(group)

    def meets(self, site: Site) -> bool:
        """Whether an accepted group has positions of the site."""
        mine = _channel_of(site) >= 0
        return any(
            (mine & (channel >= 0)).any() for a in site.axes for _, channel in self.at.get(a, ())
        )


def _channel_of(site: Site) -> Ints:
    n, k = site.positions.shape
    channel = np.full(site.size, -1)
    channel[site.positions.ravel()] = np.repeat(np.arange(n), k)
    return channel


def combine(
    traces: Sequence[Dependencies],
    name: Callable[[tuple[Axis, ...]], str | None],
    stored: Mapping[str, object],
) -> tuple[tuple[Group, ...], tuple[Crossing, ...]]:
    """Groups of the first trace, those of the others that fit beside them, and where they cross."""
    first, *others = traces
    if not others:
        return first.groups(name), ()
    cover = _accepted([trace.groups(name) for trace in traces])
    cell = {axis: tuple(t.root[axis] for t in traces) for axis in first.root}
    found = [_split(group, cell) for group in cover.groups]
    crossings = _crossings(cover, found)
    for a, b in sorted({(c.a, c.b) for c in crossings}):
        for width, heads in ((a, b), (b, a)):
            if found[width].heads == found[heads].heads == 1:
                found[width] = _per_head(found[width], found[heads], stored)
    return _named(found), crossings


def _accepted(alternatives: Sequence[Sequence[Group]]) -> _Cover:
    """What fits together, the first reading's groups first."""
    cover = _Cover()
    for group in (g for groups in alternatives for g in groups if g.channels > 1):
        if _fits(cover, group):
            cover.add(group)
    for group in (g for g in alternatives[0] if g.channels == 1):  # no choice: in nobody's way
        if not any(cover.meets(site) for site in group.sites):
            cover.add(group)
    return cover


def _fits(cover: _Cover, group: Group) -> bool:
    """Whether the group crosses accepted ones like a grid, one at a position."""
    for site in group.sites:
        mine = _channel_of(site)
        for axis in site.axes:
            met = np.zeros(site.size, np.int64)
            for other, theirs in cover.at.get(axis, ()):
                both = (mine >= 0) & (theirs >= 0)
                met += both
                if both.any() and not _grid(mine[both], theirs[both], group, cover.groups[other]):
                    return False
            if (met > 1).any():
                return False
    return True


def _grid(at_a: Ints, at_b: Ints, a: Group, b: Group) -> int:
    """How often each channel of `a` meets each channel of `b`, 0 if not equally often."""
    counts = np.bincount(at_a * b.channels + at_b, minlength=a.channels * b.channels)
    return int(counts[0]) if (counts == counts[0]).all() else 0


def _split(group: Group, cell: Mapping[Axis, tuple[int, ...]]) -> Group:
    """The same group with sites cut so that every reading joins the axes of a site."""
    sites = []
    for site in group.sites:
        parts: dict[tuple[int, ...], list[Axis]] = {}
        for axis in site.axes:
            parts.setdefault(cell[axis], []).append(axis)
        sites += [Site(tuple(axes), site.positions, site.size) for axes in parts.values()]
    return replace(group, sites=tuple(sites))


def _crossings(cover: _Cover, groups: Sequence[Group]) -> tuple[Crossing, ...]:
    found = []
    for b, group in enumerate(groups):
        for site in group.sites:
            mine = _channel_of(site)
            for a, theirs in cover.at[site.axes[0]]:
                both = (mine >= 0) & (theirs >= 0)
                if a < b and both.any():
                    unit = _grid(mine[both], theirs[both], group, groups[a])
                    found.append(Crossing(a, b, site.axes[0], unit))
    return tuple(found)


def _per_head(width: Group, heads: Group, stored: Mapping[str, object]) -> Group:
    """`width` with a free choice in every head, if nothing ties its heads together."""
    at = {axis: _channel_of(site) for site in heads.sites for axis in site.axes}
    split = {axis.tensor for axis in at}
    sites = []
    for site in width.sites:
        head = at.get(site.axes[0])
        if head is None or not (head[site.positions] >= 0).all():
            plain = site.positions.shape[1] == 1 and site.size == width.channels
            # what no longer counts the heads on an axis has mixed them: they share positions
            mixed = any(axis.tensor in stored or axis.tensor not in split for axis in site.axes)
            if not plain or mixed:
                return width
            sites.append(replace(site, nominal=True))
            continue
        blocks = _blocks(site.positions, head)
        if blocks is None:
            return width
        sites.append(replace(site, positions=blocks))
    return replace(width, sites=tuple(sites), heads=heads.channels)


def _blocks(positions: Ints, head: Ints) -> Ints | None:
    """Columns ordered by head; None unless each head's positions are contiguous and in order."""
    n = len(positions)
    if n > 1 and not (np.diff(positions, axis=0) == 1).all():
        return None
    owner = head[positions[0]]
    if not (head[positions] == owner).all():
        return None
    return positions[:, np.argsort(owner, kind="stable")]


def _named(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Number groups of several readings that share a name."""
    seen = set[str]()
    named = []
    for group in groups:
        name, count = group.name, 1
        while name in seen:
            count += 1
            name = f"{group.name.partition('#')[0]}#{count}"
        seen.add(name)
        named.append(replace(group, name=name))
    return tuple(named)
