"""What a model costs as a function of the groups' widths: MACs, parameters, bytes, channels.

Every amount is a sum of products of axis sizes (a convolution's MACs grow with its output and its
input channels, a weight's bytes with both its axes), and every axis size is linear in the widths.
So the whole table is two index arrays, and counting a plan anew is exact and takes microseconds.
MACs are those of convolutions and matrix products; parameters are the elements of all weights
that are not shape constants.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.combine import Crossing
from onnxprune.types import Axis, Floats, Group, Ints, Node

__all__ = ["BUDGETS", "METRICS", "CostModel", "Stored", "axis_numbers", "cost_model"]

METRICS = ("macs", "params", "size", "ratio")
#: What a target may name: what is counted, and what is measured.
BUDGETS = (*METRICS, "latency")


class Stored(NamedTuple):
    """A stored tensor: its shape, bytes, and whether its elements count as parameters."""

    shape: tuple[int, ...]
    bytes: int
    counts: bool


@dataclass(frozen=True)
class CostModel:
    """Cost as a function of widths (n_groups,).

    Attributes:
        full: (4,) cost at full widths, in the order of `METRICS`; ratio counts channels.
        amounts: (n_terms, 4) each term's share of the cost that depends on widths.
        factors: (n_terms, f) the axes whose sizes a term is proportional to; -1 is none.
        sizes: (n_axes,) full axis sizes.
        entries: group, axis and positions per channel, (3, n): how widths make sizes.
        crossings: two groups, axis and positions that a channel of each shares, (4, m).
        channels: (n_groups,) full widths.
    """

    full: Floats
    amounts: Floats
    factors: Ints
    sizes: Floats
    entries: Ints
    crossings: Ints
    channels: Ints

    def axis_sizes(self, widths: Ints) -> Floats:
        """(n_axes,) sizes at `widths`."""
        group, axis, k = self.entries
        gone = self.channels - widths
        lost = np.bincount(axis, k * gone[group], len(self.sizes))
        a, b, where, unit = self.crossings
        twice = np.bincount(where, unit * gone[a] * gone[b], len(self.sizes))
        left: Floats = self.sizes - lost + twice
        return left

    def at(self, widths: Ints) -> Floats:
        """(4,) cost at `widths`."""
        share = np.append(self.axis_sizes(widths) / self.sizes, 1.0)
        total: Floats = self.full + (share[self.factors].prod(1) - 1) @ self.amounts
        return total

    @cached_property
    def shared(self) -> NDArray[np.bool_]:
        """(n_axes,) whether it is an axis of tensors, not one that counts a group's channels."""
        axes = np.ones(len(self.sizes), bool)
        axes[[own[0][-1] for own in self.touched]] = False
        return axes

    @cached_property
    def crossed(self) -> list[tuple[Ints, Ints, Ints]]:
        """For each group: which of its axes it shares, with which group, in how many positions."""
        a, b, where, unit = self.crossings
        found = []
        for g, (axes, _, _) in enumerate(self.touched):
            mine = np.flatnonzero((a == g) | (b == g)) if len(a) else np.arange(0)
            index = np.array([int(np.flatnonzero(axes == w)[0]) for w in where[mine]], np.int64)
            found.append((index, np.where(a == g, b, a)[mine], unit[mine]))
        return found

    @cached_property
    def seen(self) -> list[tuple[Ints, Ints, Ints]]:
        """For each group: the axes that its terms see, which of them it touches, and the terms.

        The terms are rows of factors, as numbers of the axes that are seen.
        """
        found = []
        for axes, _, terms in self.touched:
            factors = self.factors[terms]
            seen = np.unique(np.concatenate([factors.ravel(), axes]))
            at = np.searchsorted(seen, axes), np.searchsorted(seen, factors)
            found.append((seen, *at))
        return found

    @cached_property
    def touched(self) -> list[tuple[Ints, Ints, Ints]]:
        """For each group: its axes, positions per channel on them, and the terms they enter."""
        by_axis: dict[int, list[int]] = defaultdict(list)
        for term, row in enumerate(self.factors.tolist()):
            for axis in row:
                by_axis[axis].append(term)
        group, axis, k = self.entries
        order = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[order], np.arange(len(self.channels) + 1))
        found = []
        for begin, end in pairwise(bounds):
            mine = order[begin:end]
            terms = sorted({t for a in axis[mine].tolist() for t in by_axis[a]})
            found.append((axis[mine], k[mine], np.array(terms, np.int64)))
        return found


class _Axes(NamedTuple):
    """Axes that depend on widths: their sizes, which are one, and how widths make them.

    Attributes:
        sizes: (n_axes,) full sizes.
        number: the axis in `sizes` that an axis of a tensor is.
        entries: group, axis, positions per channel; the last axis of a group counts its channels.
    """

    sizes: list[int]
    number: dict[Axis, int]
    entries: list[tuple[int, int, int]]


def cost_model(
    nodes: Sequence[Node],
    stored: Mapping[str, Stored],
    file_bytes: int,
    groups: Sequence[Group],
    crossings: Sequence[Crossing] = (),
) -> CostModel:
    """Count the model and say how each group's width changes it."""
    axes = _axes(groups)
    rows, factors = _terms(nodes, stored, axes.number)
    full = np.array(rows, float).reshape(-1, 4).sum(0)
    full[2], full[3] = file_bytes, sum(group.channels for group in groups)
    own = {g: axis for g, axis, _ in axes.entries}
    rows += [(0.0, 0.0, 0.0, float(group.channels)) for group in groups]
    factors += [[own[g]] for g in range(len(groups))]
    depend = [k for k, f in enumerate(factors) if any(a >= 0 for a in f)]
    width = max((len(factors[k]) for k in depend), default=1)
    padded = [factors[k] + [-1] * (width - len(factors[k])) for k in depend]
    crossed = [(c.a, c.b, axes.number[c.axis], c.unit) for c in crossings]
    return CostModel(
        full,
        np.array([rows[k] for k in depend], float).reshape(-1, 4),
        np.array(padded, np.int64).reshape(-1, width),
        np.array(axes.sizes, float),
        np.array(axes.entries, np.int64).reshape(-1, 3).T,
        np.array(crossed, np.int64).reshape(-1, 4).T,
        np.array([group.channels for group in groups], np.int64),
    )


def axis_numbers(groups: Sequence[Group]) -> Mapping[Axis, int]:
    """Say which of a cost model's axes each axis of a tensor is; those missing never change."""
    return _axes(groups).number


def _axes(groups: Sequence[Group]) -> _Axes:
    """Every axis that a group runs through, once for all tensors that share it."""
    axes, first = _Axes([], {}, []), dict[Axis, int]()
    for g, group in enumerate(groups):
        for site in group.sites:
            if site.axes[0] not in first:
                first[site.axes[0]] = len(axes.sizes)
                axes.sizes.append(site.size)
                axes.number.update(dict.fromkeys(site.axes, first[site.axes[0]]))
            axes.entries.append((g, first[site.axes[0]], site.positions.shape[1]))
        axes.entries.append((g, len(axes.sizes), 1))
        axes.sizes.append(group.channels)
    return axes


def _terms(
    nodes: Sequence[Node], stored: Mapping[str, Stored], number: Mapping[Axis, int]
) -> tuple[list[tuple[float, ...]], list[list[int]]]:
    """Amounts (4,) of every product and stored tensor, and the axes that each grows with."""
    works = [work for node in nodes for work in ops.works_of(node)]
    rows: list[tuple[float, ...]] = [(w.amount, 0.0, 0.0, 0.0) for w in works]
    factors = [[number.get(axis, -1) for axis in w.axes] for w in works]
    for name, (shape, nbytes, counts) in stored.items():
        rows.append((0.0, float(math.prod(shape)) if counts else 0.0, float(nbytes), 0.0))
        factors.append([number.get(Axis(name, k), -1) for k in range(len(shape))])
    return rows, factors
