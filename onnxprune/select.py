"""Which channels stay: errors and costs of widths in, widths out, then the best channels of each.

The allocator knows nothing of where its two tables come from. It starts at full widths and keeps
taking the step with the least error per cost saved, with every cost counted exactly at the widths
reached so far: a Lagrangian for error curves that are convex, as sums of sorted scores are.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.cost import METRICS, CostModel, Floats
from onnxprune.types import Axis, Group, Ints, Plan

__all__ = ["Limits", "Widths", "allocate", "kept_channels", "offers", "plan_of", "uniform"]

#: Steps a wide group is first taken in; the last steps before the target are single offers.
COARSE = 32
#: A result this close below the target is as good as on it.
SLACK = 0.98


@dataclass(frozen=True)
class Limits:
    """What widths are offered: at least `min_channels`, multiples of `round_to` or all."""

    min_channels: int = 1
    round_to: int = 1


@dataclass(frozen=True)
class Widths:
    """Channels kept of every group, and whether all budgets hold."""

    widths: Ints
    met: bool


def offers(group: Group, limits: Limits, ratio: float | None = None) -> Ints:
    """Ascending widths a group may take; with `ratio` only the one nearest to it."""
    n = group.channels
    widths = np.arange(0, n + 1)
    allowed = widths[(widths % limits.round_to == 0) & (widths >= min(limits.min_channels, n))]
    allowed = np.union1d(allowed, [n])
    if ratio is not None:
        allowed = allowed[[int(np.abs(allowed - ratio * n).argmin())]]
    return allowed


class _Walk:
    """The state of one allocation: widths, the cost there, and what a step would change."""

    def __init__(
        self,
        cost: CostModel,
        budgets: Mapping[str, float],
        tables: Sequence[tuple[Floats, Ints]],
        priced: str | None,
    ) -> None:
        self.cost = cost
        self.errors = [errors for errors, _ in tables]
        self.offered = [offered for _, offered in tables]
        self.limit = np.array([budgets.get(metric, np.inf) for metric in METRICS])
        self.price = np.array([float(metric == priced) for metric in METRICS])
        self.priced = priced is not None
        self.scale = np.where(np.isfinite(self.limit), 1 / np.maximum(cost.full, 1), 0.0)
        self.level = [len(widths) - 1 for widths in self.offered]
        self.stride = [max(1, len(widths) // COARSE) for widths in self.offered]
        self.widths = np.array([widths[-1] for widths in self.offered], np.int64)
        self.now = cost.at(self.widths)
        self.sizes = cost.axis_sizes(self.widths)
        self.share = np.append(self.sizes / cost.sizes, 1.0)  # the last one for terms without axis

    def met(self, at: Floats) -> bool:
        """Whether all budgets hold at a cost."""
        return bool((at <= self.limit * (1 + 1e-9)).all())

    def next_step(self, g: int) -> tuple[Floats, float] | None:
        """Cost after the next step of group `g`, and its error per cost saved; None at the end."""
        while self.level[g]:
            found = self._try(g, self._below(g))
            if found is not None:
                return found
            if self.stride[g] == 1:
                return None
            self.stride[g] = max(1, self.stride[g] // 2)
        return None

    def _below(self, g: int) -> int:
        return int(self.offered[g][max(self.level[g] - self.stride[g], 0)])

    def _try(self, g: int, width: int) -> tuple[Floats, float] | None:
        """None if the step would empty an axis."""
        axes, k, terms = self.cost.touched[g]
        old = self.sizes[axes]
        new = old - k * (self.widths[g] - width)
        if (new[:-1] < 1).any():  # the last one counts the group itself, which may go to zero
            return None
        factors = self.cost.factors[terms]
        share = self.share[axes]
        before = self.share[factors].prod(1)
        self.share[axes] = new / self.cost.sizes[axes]
        change = (before - self.share[factors].prod(1)) @ self.cost.amounts[terms]
        self.share[axes] = share
        prices = self.price if self.priced else self.scale * (self.now > self.limit)
        saved = float(change @ prices)
        error = self.errors[g][width] - self.errors[g][self.widths[g]]
        return self.now - change, error / saved if saved > 0 else np.inf

    def take(self, g: int, cost: Floats) -> None:
        """Take the next step of group `g`, which leads to `cost`."""
        axes, k, _ = self.cost.touched[g]
        width = self._below(g)
        self.sizes[axes] -= k * (self.widths[g] - width)
        self.share[axes] = self.sizes[axes] / self.cost.sizes[axes]
        self.level[g] = max(self.level[g] - self.stride[g], 0)
        self.widths[g], self.now = width, cost


def allocate(
    cost: CostModel,
    budgets: Mapping[str, float],
    tables: Sequence[tuple[Floats, Ints]],
    priced: str | None = None,
) -> Widths:
    """Widths (n_groups,) with little error at which every budget holds, just below it.

    Args:
        cost: what widths cost.
        budgets: largest value per metric, absolute.
        tables: for each group (n_channels + 1,) error at every width, and the ascending widths
            it may take.
        priced: the metric that errors are divided by; None: what the open budgets ask for.
    """
    walk = _Walk(cost, budgets, tables, priced)
    heap = [(-np.inf, g) for g in range(len(tables)) if walk.level[g]]
    spare: list[tuple[float, int]] = []
    while heap and not walk.met(walk.now):
        _, g = heapq.heappop(heap)
        step = walk.next_step(g)
        if step is None:
            continue
        after, price = step
        if heap and price > heap[0][0]:
            heapq.heappush(heap, (price, g))
        elif walk.met(after) and walk.stride[g] > 1:
            walk.stride[g] = max(1, walk.stride[g] // 2)
            heapq.heappush(heap, (price, g))
        elif walk.met(after) and (close := float((after / walk.limit).max())) < SLACK:
            spare.append((close, g))  # too large a step, unless no other group gets there
        else:
            walk.take(g, after)
            heapq.heappush(heap, (price, g))
    if spare and not walk.met(walk.now):
        g = max(spare)[1]
        step = walk.next_step(g)
        if step is not None:
            walk.take(g, step[0])
    return _give_back(walk, walk.widths, [int(offered[-1]) for offered in walk.offered])


def _give_back(walk: _Walk, widths: Ints, ceilings: Sequence[int]) -> Widths:
    """Widen single groups again, the largest error first, as long as all budgets hold.

    The last step before a target may save more than was needed; smaller ones taken before it are
    then to spare. `ceilings` are the largest widths allowed.
    """
    if not walk.met(walk.cost.at(widths)):
        return Widths(widths, False)
    closed: set[int] = set()
    while True:
        options = []
        for g, (now, top) in enumerate(zip(widths.tolist(), ceilings, strict=True)):
            wider = walk.offered[g][walk.offered[g] > now]
            if g not in closed and len(wider) and wider[0] <= top:
                options.append((walk.errors[g][now] - walk.errors[g][wider[0]], -g, int(wider[0])))
        if not options:
            return Widths(widths, True)
        _, g, width = max(options)
        trial = widths.copy()
        trial[-g] = width
        if walk.met(walk.cost.at(trial)):
            widths = trial
        else:
            closed.add(-g)


def uniform(
    cost: CostModel, budgets: Mapping[str, float], tables: Sequence[tuple[Floats, Ints]]
) -> Widths:
    """Every group keeps the same share of its channels, as near as offers allow.

    The share is bisected; between the last share that fails and the first that holds, groups
    step one by one, cheapest error first, so that the result ends just below the budgets.
    """
    walk = _Walk(cost, budgets, tables, None)
    errors, offered, full = walk.errors, walk.offered, walk.widths.copy()

    def at(share: float) -> Ints:
        nearest = (int(np.abs(o - share * n).argmin()) for o, n in zip(offered, full, strict=True))
        return np.array([o[k] for o, k in zip(offered, nearest, strict=True)])

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        fits = walk.met(cost.at(at(middle))) and _alive(cost, at(middle))
        low, high = (middle, high) if fits else (low, middle)
    widths, goal = at(high), at(low)
    ceilings = widths.copy()
    moving = [(errors[g][goal[g]] - errors[g][widths[g]], g) for g in np.flatnonzero(widths > goal)]
    for _, g in sorted(moving):
        if walk.met(cost.at(widths)):
            break
        widths[g] = goal[g]
    found = _give_back(walk, widths, ceilings.tolist())
    return Widths(found.widths, found.met and _alive(cost, found.widths))


def _alive(cost: CostModel, widths: Ints) -> bool:
    group, axis, _ = cost.entries
    shared = np.bincount(axis, minlength=len(cost.sizes)) > 0
    shared[[axis[np.flatnonzero(group == g)[-1]] for g in range(len(widths))]] = False
    return bool((cost.axis_sizes(widths)[shared] >= 1).all())


def kept_channels(scores: NDArray[np.float64], width: int) -> NDArray[np.bool_]:
    """(n_channels,) the `width` best channels; equal scores keep the earlier channel."""
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:width]] = True
    return kept


def plan_of(groups: Sequence[Group], kept: Sequence[NDArray[np.bool_]]) -> Plan:
    """The plan that keeps the marked channels (n_channels,) of every group."""
    dead: dict[tuple[Axis, ...], list[Ints]] = {}
    size: dict[tuple[Axis, ...], int] = {}
    for group, mask in zip(groups, kept, strict=True):
        for site in () if mask.all() else group.sites:
            dead.setdefault(site.axes, []).append(site.positions[~mask].ravel())
            size[site.axes] = site.size
    keep = {
        axes: np.setdiff1d(np.arange(size[axes]), np.concatenate(gone), assume_unique=True)
        for axes, gone in dead.items()
    }
    return Plan(
        {axis: left for axes, left in keep.items() for axis in axes},
        {axis: n for axes, n in size.items() for axis in axes},
    )
