"""What a descent overshot is given back, and width moved from one group to another."""

from __future__ import annotations

import heapq

import numpy as np

from onnxprune.allocation.state import AllocationState
from onnxprune.types import Ints

__all__ = ["exchange", "give_back"]

#: Exchanges of width between two groups, and how many groups are looked at for each side.
EXCHANGES, NEAREST = 40, 32


def give_back(ledger: AllocationState, ceilings: Ints) -> None:
    """Widen single groups again, the largest error first, as long as all budgets hold.

    The last step before a target may save more than was needed; smaller ones taken before it are
    then to spare. `ceilings` (n_groups,) are the largest widths allowed. What is gone stays gone.
    """
    if not ledger.met(ledger.now):
        return
    heap: list[tuple[float, int, int]] = []
    for g in np.flatnonzero((ledger.widths > 0) & (ledger.widths < ceilings)).tolist():
        _offer(heap, ledger, g, ceilings)
    while heap:
        _, g, width = heapq.heappop(heap)
        after = ledger.after(g, width)
        if after is not None and ledger.met(after):
            ledger.go(g, width, after)
            _offer(heap, ledger, g, ceilings)


def exchange(ledger: AllocationState, ceilings: Ints) -> None:
    """Make one group narrower for another that gets wider, as long as the error falls.

    Steps of time are large, so that the last ones before a target seldom fit.
    """
    for _ in range(EXCHANGES):
        if not ledger.met(ledger.now):
            return
        best: tuple[float, int, int, int, int] | None = None
        for g, narrower, rise in _neighbours(ledger, ceilings, -1):
            before, now = int(ledger.widths[g]), ledger.now
            after = ledger.after(g, narrower)
            if after is None:
                continue
            ledger.go(g, narrower, after)
            for h, wider, change in _neighbours(ledger, ceilings, 1):
                there = None if h == g else ledger.after(h, wider)
                if there is not None and ledger.met(there):
                    best = min(best or (0.0, 0, 0, 0, 0), (rise + change, g, narrower, h, wider))
            ledger.go(g, before, now)
        if best is None or best[0] > -1e-12:
            return
        for g, width in (best[1:3], best[3:5]):
            after = ledger.after(g, width)
            if after is not None:
                ledger.go(g, width, after)


def _neighbours(ledger: AllocationState, ceilings: Ints, step: int) -> list[tuple[int, int, float]]:
    """Groups, their next offer in a direction, and the change of error; the best of them first."""
    found = []
    for g in np.flatnonzero(ledger.widths > 0).tolist():
        errors, offered, _ = ledger.tables[g]
        at = int(np.searchsorted(offered, ledger.widths[g])) + step
        if 0 <= at < len(offered) and 0 < offered[at] <= ceilings[g]:
            change = float(errors[offered[at]] - errors[ledger.widths[g]])
            found.append((g, int(offered[at]), change))
    return sorted(found, key=lambda option: option[2])[:NEAREST]


def _offer(
    heap: list[tuple[float, int, int]], ledger: AllocationState, g: int, ceilings: Ints
) -> None:
    """Push the error saved (negative), the group, and its next wider offer, if it has one."""
    errors, offered, _ = ledger.tables[g]
    now = int(ledger.widths[g])
    at = int(np.searchsorted(offered, now, "right"))
    if at < len(offered) and offered[at] <= ceilings[g]:
        heapq.heappush(heap, (float(errors[offered[at]] - errors[now]), g, int(offered[at])))
