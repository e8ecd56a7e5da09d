"""Steps down from full widths, the least error per cost saved first.

That is Lagrangian relaxation for error curves that are convex, as sums of sorted scores are. Time
is a cost that falls in steps, so with times all narrower widths compete for the next step, not only
the next one: the lower hull of error over time. A step that saves no time is none.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnxprune.allocation.state import AllocationState
from onnxprune.groups.cost import METRICS
from onnxprune.types import Floats

__all__ = ["Greedy", "Step", "greedy_for", "remove_greedily"]

#: Steps a wide group is first taken in; the last steps before the target are single offers.
COARSE = 32
#: A result this close below the target is as good as on it.
SLACK = 0.98


class Step(NamedTuple):
    """To a width (0: a block goes), the cost there, and the error for what it saves."""

    width: int
    cost: Floats
    price: float


class Greedy:
    """Steps down from full widths: coarse ones first, single offers near the target."""

    def __init__(self, state: AllocationState, priced: str | None) -> None:
        self.state = state
        self.level = [len(table.offered) - 1 for table in state.tables]
        self.stride = [max(1, len(table.offered) // COARSE) for table in state.tables]
        self.priced = None if priced is None else METRICS.index(priced)

    def step(self, g: int) -> Step | None:
        """The group's next step; None at the end."""
        narrower, gone = self._narrower(g), self._gone(g)
        if narrower is None or gone is None:
            return narrower or gone
        better = gone.price < narrower.price and not self.overshoots(gone.cost)
        return gone if better else narrower

    def overshoots(self, after: Floats) -> bool:
        """Whether a cost lies further below the budgets than need be."""
        state = self.state
        return state.met(after) and float((after / state.limit).max()) < SLACK

    def _gone(self, g: int) -> Step | None:
        """The same for all groups of the block together."""
        block = self.state.tables[g].block
        if not block or not self.state.widths[g]:
            return None
        after = self.state.without(block)
        errors = [self.state.tables[m].errors[self.state.widths[m]] for m in block]
        rise = float(self.state.tables[g].errors[0] - sum(errors))
        return Step(0, after, self._price(rise, after))

    def _narrower(self, g: int) -> Step | None:
        while self.level[g]:
            width = int(self.state.tables[g].offered[max(self.level[g] - self.stride[g], 0)])
            step = self._to(g, width)
            if step is not None or not self.refine(g):
                return step
        return None

    def _to(self, g: int, width: int) -> Step | None:
        """The step of a group to a width; None if that would empty an axis."""
        after = self.state.after(g, width)
        if after is None:
            return None
        errors = self.state.tables[g].errors
        rise = float(errors[width] - errors[self.state.widths[g]])
        return Step(width, after, self._price(rise, after))

    def _price(self, rise: float, after: Floats) -> float:
        """A rise of the error for each unit of cost that it saves."""
        state = self.state
        saved = state.now - after
        if state.now[-1] > state.limit[-1] and saved[-1] <= 0:
            return np.inf
        if self.priced is None:
            amount = float(saved @ (state.scale * (state.now > state.limit)))
        else:
            amount = float(saved[self.priced])
        return rise / amount if amount > 0 else np.inf

    def refine(self, g: int) -> bool:
        """Halve the group's steps; False if they are single ones already."""
        fine = self.stride[g] == 1
        self.stride[g] = max(1, self.stride[g] // 2)
        return not fine

    def take(self, g: int, step: Step) -> None:
        """Take the step."""
        width, cost, _ = step
        block = self.state.tables[g].block
        if block and not width:
            for member in block:
                self.level[member] = 0
                self.state.vanish(member)
            return
        self.level[g] = int(np.searchsorted(self.state.tables[g].offered, width))
        self.state.go(g, width, cost)


class _Stairs(Greedy):
    """Steps down where cost falls in steps: to any narrower width, none of them refined."""

    def _narrower(self, g: int) -> Step | None:
        """The best of all narrower widths, of those that do not overshoot if there are any."""
        offered = self.state.tables[g].offered[: self.level[g]].tolist()
        steps = [step for width in offered if (step := self._to(g, width)) is not None]
        steps = [step for step in steps if step.price < np.inf]
        near = [step for step in steps if not self.overshoots(step.cost)]
        return min(near or steps, key=lambda step: step.price, default=None)

    def refine(self, g: int) -> bool:
        """Nothing to halve."""
        return False


def greedy_for(state: AllocationState, priced: str | None) -> Greedy:
    """The way down that suits the costs; errors are divided by the metric `priced`.

    None: by what the open budgets ask for.
    """
    return (Greedy if state.times is None else _Stairs)(state, priced)


def remove_greedily(state: AllocationState, greedy: Greedy, groups: Sequence[int]) -> list[int]:
    """Take steps of `groups` until all budgets hold; those whose next step would overshoot."""
    heap = [(-np.inf, g) for g in groups]
    heapq.heapify(heap)
    spare: list[int] = []
    while heap and not state.met(state.now):
        _, g = heapq.heappop(heap)
        step = greedy.step(g)
        if step is None:
            continue
        if (heap and step.price > heap[0][0]) or (state.met(step.cost) and greedy.refine(g)):
            heapq.heappush(heap, (step.price, g))
        elif greedy.overshoots(step.cost):
            spare.append(g)  # too large a step, unless no other group gets there
        else:
            greedy.take(g, step)
            heapq.heappush(heap, (step.price, g))
    return spare
