"""Labels of all positions: equal labels are one channel; channels that run alike are a group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Axis, Frozen, Group, Ints, Site

__all__ = ["Dependencies", "components", "distinct"]


@dataclass(frozen=True)
class Dependencies:
    """Labels of all positions, and why some are frozen.

    `label` (n_positions,): equal labels are one channel. `start` and `size` find an axis in it
    through `root`. `reason` maps a frozen label to the reason, `inexact` a root to what removal
    changes there.
    """

    root: Mapping[Axis, int]
    start: Mapping[int, int]
    size: Mapping[int, int]
    label: Ints
    reason: Mapping[int, Frozen]
    inexact: Mapping[int, str]

    def labels(self, axis: Axis) -> Ints:
        """(size,) label of every position of `axis`."""
        root = self.root[axis]
        return self.label[self.start[root] : self.start[root] + self.size[root]]

    @cached_property
    def axes(self) -> Mapping[int, tuple[Axis, ...]]:
        """The axes that each root stands for."""
        members: dict[int, list[Axis]] = defaultdict(list)
        for axis, root in self.root.items():
            members[root].append(axis)
        return {root: tuple(found) for root, found in members.items()}

    @cached_property
    def _frozen(self) -> NDArray[np.bool_]:
        mask = np.zeros(len(self.label), bool)
        mask[list(self.reason)] = True
        return mask[self.label]

    def blocked(self, axis: Axis) -> dict[Frozen, int]:
        """Reasons that freeze positions of `axis`, with how many positions each."""
        counts: dict[Frozen, int] = defaultdict(int)
        for label in self.labels(axis).tolist():
            if label in self.reason:
                counts[self.reason[label]] += 1
        return counts

    def groups(self, name: Callable[[tuple[Axis, ...]], str | None]) -> tuple[Group, ...]:
        """Free channels by the sites they run through; `name` returns None for no group."""
        roots = np.repeat(list(self.start), [self.size[r] for r in self.start])
        at = np.arange(len(self.label)) - np.repeat(
            list(self.start.values()), [self.size[r] for r in self.start]
        )
        free = np.flatnonzero(~self._frozen)
        order = free[np.lexsort((at[free], roots[free], self.label[free]))]
        label, root, position = self.label[order], roots[order], at[order]
        channel = np.cumsum(np.diff(label, prepend=-1) != 0) - 1
        keys = np.random.default_rng(0).integers(0, 2**63, max(self.start, default=0) + 1)
        signature = np.zeros(channel[-1] + 1 if len(channel) else 0, np.int64)
        np.add.at(signature, channel, keys[root])
        found = []
        _, first, kind = np.unique(signature, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        kinds = rank[kind][channel]
        by_kind = np.argsort(kinds, kind="stable")
        bounds = np.searchsorted(kinds[by_kind], np.arange(len(first) + 1))
        for begin, end in pairwise(bounds):
            rows = by_kind[begin:end]
            found.append(self._group(channel[rows], root[rows], position[rows], name))
        return _distinct([group for group in found if group is not None])

    def _group(
        self,
        channel: Ints,
        root: Ints,
        position: Ints,
        name: Callable[[tuple[Axis, ...]], str | None],
    ) -> Group | None:
        roots = distinct(root)
        axes = tuple(axis for r in roots.tolist() for axis in self.axes[r])
        called = name(axes)
        n = len(distinct(channel))
        if called is None:
            return None
        sites = tuple(
            Site(self.axes[r], position[root == r].reshape(n, -1), self.size[r])
            for r in roots.tolist()
        )
        changes = next((self.inexact[r] for r in roots.tolist() if r in self.inexact), "")
        return Group(called, n, sites, inexact=changes)


def distinct(numbers: Ints) -> Ints:
    """The numbers (n,) without repetitions, in order: `np.unique` would import `numpy.ma`."""
    ordered = np.sort(numbers)
    first: Ints = ordered[np.diff(ordered, prepend=ordered[:1] - 1) != 0]
    return first


def _distinct(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Number groups that are made by the same weight: `name`, then `name#2`."""
    seen: dict[str, int] = defaultdict(int)
    named = []
    for group in groups:
        seen[group.name] += 1
        again = f"#{seen[group.name]}" if seen[group.name] > 1 else ""
        named.append(replace(group, name=group.name + again))
    return tuple(named)


def components(n: int, left: list[Ints], right: list[Ints]) -> Ints:
    """Smallest number reachable from each of n positions along the pairs (left, right)."""
    label = np.arange(n)
    if not left:
        return label
    a, b = np.concatenate(left), np.concatenate(right)
    while True:
        low = np.minimum(label[a], label[b])
        if np.array_equal(label[a], label[b]):
            return label
        for end in (a, b):
            np.minimum.at(label, label[end], low)
            np.minimum.at(label, end, low)
        while not np.array_equal(label, label[label]):
            label = label[label]
