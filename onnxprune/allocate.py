"""How many channels each group keeps: errors and costs of widths in, widths out.

The allocator knows nothing of where its two tables come from. It starts at full widths and keeps
taking the step with the least error per cost saved, with every cost counted exactly at the widths
reached so far: a Lagrangian for error curves that are convex, as sums of sorted scores are. A step
touches only the terms of the cost that its group enters, so the work grows linearly with the graph.

Time is a cost that falls in steps, so with `Times` all narrower widths compete for the next step,
not only the next one: the lower hull of error over time. A step that saves no time is none.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnxprune.cost import BUDGETS, METRICS, CostModel, Floats
from onnxprune.latency.times import Times
from onnxprune.types import Ints

__all__ = ["Table", "Widths", "allocate", "uniform"]

#: Steps a wide group is first taken in; the last steps before the target are single offers.
COARSE = 32
#: Exchanges of width between two groups, and how many groups are looked at for each side.
EXCHANGES, NEAREST = 40, 32
#: A result this close below the target is as good as on it.
SLACK = 0.98


class Table(NamedTuple):
    """A group's choices: (n_channels + 1,) error at every width, ascending widths on offer.

    With a `block`, none of the group's channels need stay: then all groups in it, this one among
    them, go together.
    """

    errors: Floats
    offered: Ints
    block: tuple[int, ...] = ()


@dataclass(frozen=True)
class Widths:
    """Channels kept of every group (n_groups,), and whether all budgets hold."""

    widths: Ints
    met: bool


class _Walk:
    """The state of one allocation: widths, the cost there, and what a change would bring."""

    def __init__(
        self,
        cost: CostModel,
        budgets: Mapping[str, float],
        tables: Sequence[Table],
        times: Times | None = None,
    ) -> None:
        self.cost, self.tables, self.times = cost, tables, times
        self.limit = np.array([budgets.get(metric, np.inf) for metric in BUDGETS])
        full = np.append(np.maximum(cost.full, 1), 1.0)
        self.scale = np.where(np.isfinite(self.limit), 1 / full, 0.0)
        self.reset(np.array([table.offered[-1] for table in tables], np.int64))

    def reset(self, widths: Ints) -> None:
        """Stand at `widths`."""
        self.widths = widths.copy()
        self.now = self._count(widths)
        self.sizes = self.cost.axis_sizes(widths)
        self.share = np.append(self.sizes / self.cost.sizes, 1.0)  # the last: terms without axis

    def _count(self, widths: Ints) -> Floats:
        """Cost at `widths` in the order of BUDGETS."""
        time = 0.0 if self.times is None else self.times.at(widths)
        counted: Floats = np.append(self.cost.at(widths), time)
        return counted

    def _moved(self, change: Floats, g: int, width: int) -> Floats:
        """Cost after what is counted changed and group `g` went to `width`."""
        moved: Floats = self.now.copy()
        moved[: len(METRICS)] += change
        if self.times is not None:
            moved[-1] += self.times.change(self.widths, g, width)
        return moved

    def met(self, at: Floats) -> bool:
        """Whether all budgets hold at a cost."""
        return bool((at <= self.limit * (1 + 1e-9)).all())

    def _per_channel(self, g: int) -> Floats:
        """Positions that a channel of `g` still has on each of its axes."""
        k = self.cost.touched[g][1].astype(float)
        index, other, unit = self.cost.crossed[g]
        if len(index):
            # one axis may be shared with several groups: fused query, key and value
            np.subtract.at(k, index, unit * (self.cost.channels - self.widths)[other])
        return k

    def after(self, g: int, width: int) -> Floats | None:
        """Cost with group `g` at `width`; None if that would empty an axis."""
        axes, _, terms = self.cost.touched[g]
        new = self.sizes[axes] - self._per_channel(g) * (self.widths[g] - width)
        if (new[:-1] < 1).any():  # the last one counts the group itself, which may go to zero
            return None
        factors, share = self.cost.factors[terms], self.share[axes]
        before = self.share[factors].prod(1)
        self.share[axes] = new / self.cost.sizes[axes]
        change = (self.share[factors].prod(1) - before) @ self.cost.amounts[terms]
        self.share[axes] = share
        return self._moved(change, g, width)

    def go(self, g: int, width: int, cost: Floats) -> None:
        """Put group `g` at `width`, which leads to `cost`."""
        axes, _, _ = self.cost.touched[g]
        self.sizes[axes] -= self._per_channel(g) * (self.widths[g] - width)
        self.share[axes] = self.sizes[axes] / self.cost.sizes[axes]
        self.widths[g], self.now = width, cost

    def without(self, block: Sequence[int]) -> Floats:
        """Cost when all groups of a block go."""
        before, now = self.widths[list(block)].tolist(), self.now
        for g in block:
            self.vanish(g)
        gone = self.now
        for g, width in reversed(list(zip(block, before, strict=True))):
            self.go(g, width, now)
        return gone

    def vanish(self, g: int) -> None:
        """Let the last channel of `g` go, with the axes it lies on."""
        _, _, terms = self.cost.touched[g]
        factors = self.cost.factors[terms]
        before, after = self.share[factors].prod(1), self._moved(np.zeros(len(METRICS)), g, 0)
        self.go(g, 0, after)
        change = self.share[factors].prod(1) - before
        self.now[: len(METRICS)] += change @ self.cost.amounts[terms]

    def finish(self) -> Widths:
        """The widths stood at, judged by a fresh count."""
        blocks = {g for table in self.tables for g in table.block}
        gone = [axes for g in blocks if not self.widths[g] for axes in self.cost.touched[g][0]]
        filled = self.sizes >= 1
        filled[gone] = True
        alive = bool(filled[self.cost.shared].all())
        return Widths(self.widths, alive and self.met(self._count(self.widths)))


class _Descent:
    """Steps down from full widths: coarse ones first, single offers near the target."""

    def __init__(self, walk: _Walk, priced: str | None) -> None:
        self.walk = walk
        self.level = [len(table.offered) - 1 for table in walk.tables]
        self.stride = [max(1, len(table.offered) // COARSE) for table in walk.tables]
        self.priced = None if priced is None else METRICS.index(priced)

    def step(self, g: int) -> tuple[int, Floats, float] | None:
        """Width, cost and error per cost saved of the group's next step; None at the end."""
        narrower, gone = self._narrower(g), self._gone(g)
        if narrower is None or gone is None:
            return narrower or gone
        return gone if gone[2] < narrower[2] and not self.overshoots(gone[1]) else narrower

    def overshoots(self, after: Floats) -> bool:
        """Whether a cost lies further below the budgets than need be."""
        walk = self.walk
        return walk.met(after) and float((after / walk.limit).max()) < SLACK

    def _gone(self, g: int) -> tuple[int, Floats, float] | None:
        """The same for all groups of the block together."""
        block = self.walk.tables[g].block
        if not block or not self.walk.widths[g]:
            return None
        after = self.walk.without(block)
        errors = [self.walk.tables[m].errors[self.walk.widths[m]] for m in block]
        rise = float(self.walk.tables[g].errors[0] - sum(errors))
        return 0, after, self._price(rise, after)

    def _narrower(self, g: int) -> tuple[int, Floats, float] | None:
        if self.walk.times is not None:
            return self._narrowest(g)
        while self.level[g]:
            width = int(self.walk.tables[g].offered[max(self.level[g] - self.stride[g], 0)])
            after = self.walk.after(g, width)
            if after is not None:
                errors = self.walk.tables[g].errors
                rise = float(errors[width] - errors[self.walk.widths[g]])
                return width, after, self._price(rise, after)
            if not self.refine(g):
                return None
        return None

    def _narrowest(self, g: int) -> tuple[int, Floats, float] | None:
        """The best of all narrower widths, of those that do not overshoot if there are any."""
        table, options = self.walk.tables[g], []
        for width in table.offered[: self.level[g]].tolist():
            after = self.walk.after(g, width)
            if after is not None:
                rise = float(table.errors[width] - table.errors[self.walk.widths[g]])
                options.append((width, after, self._price(rise, after)))
        options = [option for option in options if option[2] < np.inf]
        near = [option for option in options if not self.overshoots(option[1])]
        return min(near or options, key=lambda option: option[2], default=None)

    def _price(self, rise: float, after: Floats) -> float:
        """A rise of the error for each unit of cost that it saves."""
        walk = self.walk
        saved = walk.now - after
        if walk.times is not None and walk.now[-1] > walk.limit[-1] and saved[-1] <= 0:
            return np.inf
        if self.priced is None:
            amount = float(saved @ (walk.scale * (walk.now > walk.limit)))
        else:
            amount = float(saved[self.priced])
        return rise / amount if amount > 0 else np.inf

    def refine(self, g: int) -> bool:
        """Halve the group's steps; False if they are single ones already."""
        fine = self.stride[g] == 1 or self.walk.times is not None
        self.stride[g] = max(1, self.stride[g] // 2)
        return not fine

    def take(self, g: int, width: int, cost: Floats) -> None:
        """Take the step."""
        block = self.walk.tables[g].block
        if block and not width:
            for member in block:
                self.level[member] = 0
                self.walk.vanish(member)
            return
        self.level[g] = int(np.searchsorted(self.walk.tables[g].offered, width))
        self.walk.go(g, width, cost)


def allocate(
    cost: CostModel,
    budgets: Mapping[str, float],
    tables: Sequence[Table],
    priced: str | None = None,
    times: Times | None = None,
) -> Widths:
    """Widths with little error at which every budget holds, just below it.

    Args:
        cost: what widths cost.
        budgets: largest value per metric, absolute.
        tables: the choices of every group.
        priced: the metric that errors are divided by; None: what the open budgets ask for.
        times: what widths take; a budget for `latency` is a share of it.
    """
    walk = _Walk(cost, budgets, tables, times)
    descent = _Descent(walk, priced)
    spare = _descend(walk, descent, list(range(len(tables))))
    while spare and not walk.met(walk.now):
        # what was too large a step may be too small by now: crossing groups share their savings
        steps = [(g, step) for g in spare if (step := descent.step(g)) is not None]
        last = [(float((a / walk.limit).max()), g, w, a) for g, (w, a, _) in steps if walk.met(a)]
        if last:
            _, g, width, after = max(last, key=lambda option: option[:2])
            descent.take(g, width, after)
        else:
            spare = _descend(walk, descent, [g for g, _ in steps])
    ceilings = np.array([table.offered[-1] for table in tables], np.int64)
    _give_back(walk, ceilings)
    if times is not None:
        _exchange(walk, ceilings)
        _give_back(walk, ceilings)
    return walk.finish()


def _descend(walk: _Walk, descent: _Descent, groups: Sequence[int]) -> list[int]:
    """Take steps of `groups` until all budgets hold; those whose next step would overshoot."""
    heap = [(-np.inf, g) for g in groups]
    heapq.heapify(heap)
    spare: list[int] = []
    while heap and not walk.met(walk.now):
        _, g = heapq.heappop(heap)
        step = descent.step(g)
        if step is None:
            continue
        width, after, price = step
        if (heap and price > heap[0][0]) or (walk.met(after) and descent.refine(g)):
            heapq.heappush(heap, (price, g))
        elif descent.overshoots(after):
            spare.append(g)  # too large a step, unless no other group gets there
        else:
            descent.take(g, width, after)
            heapq.heappush(heap, (price, g))
    return spare


def _give_back(walk: _Walk, ceilings: Ints) -> None:
    """Widen single groups again, the largest error first, as long as all budgets hold.

    The last step before a target may save more than was needed; smaller ones taken before it are
    then to spare. `ceilings` (n_groups,) are the largest widths allowed. What is gone stays gone.
    """
    if not walk.met(walk.now):
        return
    heap: list[tuple[float, int, int]] = []
    for g in np.flatnonzero((walk.widths > 0) & (walk.widths < ceilings)).tolist():
        _offer(heap, walk, g, ceilings)
    while heap:
        _, g, width = heapq.heappop(heap)
        after = walk.after(g, width)
        if after is not None and walk.met(after):
            walk.go(g, width, after)
            _offer(heap, walk, g, ceilings)


def _exchange(walk: _Walk, ceilings: Ints) -> None:
    """Make one group narrower for another that gets wider, as long as the error falls.

    Steps of time are large, so that the last ones before a target seldom fit.
    """
    for _ in range(EXCHANGES):
        if not walk.met(walk.now):
            return
        best: tuple[float, int, int, int, int] | None = None
        for g, narrower, rise in _neighbours(walk, ceilings, -1):
            before, now = int(walk.widths[g]), walk.now
            after = walk.after(g, narrower)
            if after is None:
                continue
            walk.go(g, narrower, after)
            for h, wider, change in _neighbours(walk, ceilings, 1):
                there = None if h == g else walk.after(h, wider)
                if there is not None and walk.met(there):
                    best = min(best or (0.0, 0, 0, 0, 0), (rise + change, g, narrower, h, wider))
            walk.go(g, before, now)
        if best is None or best[0] > -1e-12:
            return
        for g, width in (best[1:3], best[3:5]):
            after = walk.after(g, width)
            if after is not None:
                walk.go(g, width, after)


def _neighbours(walk: _Walk, ceilings: Ints, step: int) -> list[tuple[int, int, float]]:
    """Groups, their next offer in a direction, and the change of error; the best of them first."""
    found = []
    for g in np.flatnonzero(walk.widths > 0).tolist():
        errors, offered, _ = walk.tables[g]
        at = int(np.searchsorted(offered, walk.widths[g])) + step
        if 0 <= at < len(offered) and 0 < offered[at] <= ceilings[g]:
            change = float(errors[offered[at]] - errors[walk.widths[g]])
            found.append((g, int(offered[at]), change))
    return sorted(found, key=lambda option: option[2])[:NEAREST]


def _offer(heap: list[tuple[float, int, int]], walk: _Walk, g: int, ceilings: Ints) -> None:
    """Push the error saved (negative), the group, and its next wider offer, if it has one."""
    errors, offered, _ = walk.tables[g]
    now = int(walk.widths[g])
    at = int(np.searchsorted(offered, now, "right"))
    if at < len(offered) and offered[at] <= ceilings[g]:
        heapq.heappush(heap, (float(errors[offered[at]] - errors[now]), g, int(offered[at])))


def uniform(
    cost: CostModel,
    budgets: Mapping[str, float],
    tables: Sequence[Table],
    times: Times | None = None,
) -> Widths:
    """Every group keeps the same share of its channels, as near as offers allow.

    The share is bisected; between the last share that fails and the first that holds, groups
    step one by one, cheapest error first, so that the result ends just below the budgets.
    """
    walk = _Walk(cost, budgets, tables, times)
    full = walk.widths.copy()

    def at(share: float) -> Ints:
        rows = zip(tables, full, strict=True)
        return np.array([t.offered[np.abs(t.offered - share * n).argmin()] for t, n in rows])

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        walk.reset(at(middle))
        low, high = (middle, high) if walk.finish().met else (low, middle)
    ceilings, goal = at(high), at(low)
    walk.reset(ceilings)
    steps = [(float(t.errors[goal[g]] - t.errors[ceilings[g]]), g) for g, t in enumerate(tables)]
    for _, g in sorted(steps):
        if walk.met(walk.now):
            break
        if goal[g] < ceilings[g] and (after := walk.after(g, int(goal[g]))) is not None:
            walk.go(g, int(goal[g]), after)
    _give_back(walk, ceilings)
    return walk.finish()
