"""What a descent overshot is given back, and width moved from one group to another."""

from __future__ import annotations

import heapq

import numpy as np

from onnxprune.allocation.state import AllocationState
from onnxprune.types import Ints

__all__ = ["exchange", "give_back"]

#: Exchanges of width between two groups, and how many groups are looked at for each side.
EXCHANGES, NEAREST = 40, 32


def give_back(state: AllocationState, ceilings: Ints) -> None:
    """Widen single groups again, the largest error first, as long as all budgets hold.

    The last step before a target may save more than was needed; smaller ones taken before it are
    then to spare. `ceilings` (n_groups,) are the largest widths allowed. What is gone stays gone.
    """
    if not state.met(state.now):
        return
    heap: list[tuple[float, int, int]] = []
    for g in np.flatnonzero((state.widths > 0) & (state.widths < ceilings)).tolist():
        _offer(heap, state, g, ceilings)
    while heap:
        _, g, width = heapq.heappop(heap)
        after = state.after(g, width)
        if after is not None and state.met(after):
            state.go(g, width, after)
            _offer(heap, state, g, ceilings)


def exchange(state: AllocationState, ceilings: Ints) -> None:
    """Make one group narrower for another that gets wider, as long as the error falls.

    Steps of time are large, so that the last ones before a target seldom fit.
    """
    for _ in range(EXCHANGES):
        if not state.met(state.now):
            return
        best: tuple[float, int, int, int, int] | None = None
        for g, narrower, rise in _neighbours(state, ceilings, -1):
            before, now = int(state.widths[g]), state.now
            after = state.after(g, narrower)
            if after is None:
                continue
            state.go(g, narrower, after)
            for h, wider, change in _neighbours(state, ceilings, 1):
                there = None if h == g else state.after(h, wider)
                if there is not None and state.met(there):
                    best = min(best or (0.0, 0, 0, 0, 0), (rise + change, g, narrower, h, wider))
            state.go(g, before, now)
        if best is None or best[0] > -1e-12:
            return
        for g, width in (best[1:3], best[3:5]):
            after = state.after(g, width)
            if after is not None:
                state.go(g, width, after)


def _neighbours(state: AllocationState, ceilings: Ints, step: int) -> list[tuple[int, int, float]]:
    """Groups, their next offer in a direction, and the change of error; the best of them first."""
    found = []
    for g in np.flatnonzero(state.widths > 0).tolist():
        errors, offered, _ = state.tables[g]
        at = int(np.searchsorted(offered, state.widths[g])) + step
        if 0 <= at < len(offered) and 0 < offered[at] <= ceilings[g]:
            change = float(errors[offered[at]] - errors[state.widths[g]])
            found.append((g, int(offered[at]), change))
    return sorted(found, key=lambda option: option[2])[:NEAREST]


def _offer(
    heap: list[tuple[float, int, int]], state: AllocationState, g: int, ceilings: Ints
) -> None:
    """Push the error saved (negative), the group, and its next wider offer, if it has one."""
    errors, offered, _ = state.tables[g]
    now = int(state.widths[g])
    at = int(np.searchsorted(offered, now, "right"))
    if at < len(offered) and offered[at] <= ceilings[g]:
        heapq.heappush(heap, (float(errors[offered[at]] - errors[now]), g, int(offered[at])))
