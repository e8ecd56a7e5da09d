"""Which widths are worth having: each group's steps on this machine, found by bisection.

Kernels work in blocks of channels, so that time falls in steps as a group gets narrower, and may
even rise. Only widths at which the group is faster than at any wider one are offered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.subgraphs import Subgraph, Subgraphs
from onnxprune.allocation.latency.time_model import SubgraphTime, TimeModel
from onnxprune.allocation.latency.timer import NOTHING, REFERENCE, TimedModel
from onnxprune.types import Group, Ints

__all__ = ["Staircase", "grid", "measured"]

#: A difference below this share of what is timed, or of the whole model, may be chance.
NOISE, TRIFLE = 0.005, 0.0005
#: A width must free at least this share of the time that its channels' share of the work would.
PAYS = 0.4
#: What is timed for one group takes at least this long, in units of the reference.
LEAST = 4.0
#: Widths of a group that are looked at, at most.
MOST = 16


Progress = Callable[[float], None]


@dataclass(frozen=True)
class Staircase:
    """The model's times, and for each group the ascending widths that are steps."""

    times: TimeModel
    offered: Sequence[Ints]


def grid(group: Group) -> Ints:
    """Ascending widths that may be steps: blocks of channels as kernels have them, at most 16.

    Of few channels, and of what is no channel but a head, every width may be one.
    """
    n = group.channels
    unit = min((site.positions.shape[1] for site in group.sites), default=1)
    block = 16 if n * unit >= 64 else 8 if n * unit >= 32 else 4
    step = 1 if n < 8 else max(1, block // unit)
    while n / step > MOST:
        step *= 2
    return np.union1d(np.arange(step, n, step), [n])


def measured(
    subgraphs: Subgraphs,
    table: TimeCache,
    grids: Sequence[Ints],
    whole: tuple[str, TimedModel],
    progress: Progress,
) -> Staircase:
    """Time every group at its full width and as many others as its steps ask for.

    `whole` is the model itself, whose time everything is a share of.
    """
    jobs = [subgraphs.job(subgraph, {}) for subgraph in subgraphs.single]
    wanted = {"nothing": NOTHING, whole[0]: whole[1], **dict(jobs)}
    times = table.measure(wanted, ("reference", REFERENCE), _part(progress, 0, 0.2))
    total = times[whole[0]]
    full = _alone(subgraphs, [times[name] for name, _ in jobs], times["nothing"], total)
    around = [subgraphs.around(g, full, LEAST) for g in range(len(grids))]
    search = _Search((subgraphs, around), table, grids, total)
    search.run(_part(progress, 0.2, 1.0))
    table.store()
    own = [0.0] * len(grids)
    for time, subgraph in zip(full, subgraphs.single, strict=True):
        for g in subgraph.groups:
            own[g] += time
    factors = [_factor(curve, time) for curve, time in zip(search.times, own, strict=True)]
    offered = [search.steps(g, time) for g, time in enumerate(own)]
    shares = [
        SubgraphTime(t / total, p.groups) for t, p in zip(full, subgraphs.single, strict=True)
    ]
    rest = 1 - sum(full) / total
    return Staircase(TimeModel(rest, shares, factors), offered)


def _alone(
    subgraphs: Subgraphs, times: Sequence[float], nothing: float, whole: float
) -> list[float]:
    """What each piece takes within the whole model.

    Alone it also takes what running anything takes, `nothing`, and time to bring what flows in and
    out into the runtime's blocked layout and back. That is assumed to grow with its bytes, so much
    that the pieces add up to the whole.
    """
    net = [0.0 if np.isnan(t) else max(t - nothing, 0.0) for t in times]
    moved = [subgraphs.border(subgraph) for subgraph in subgraphs.single]
    fare = max(sum(net) - (whole - nothing), 0.0) / max(sum(moved), 1)
    within = [max(t - fare * m, 0.1 * t) for t, m in zip(net, moved, strict=True)]
    return [t * min(1.0, whole / max(sum(within), 1e-12)) for t in within]


def _factor(times: Mapping[int, float], own: float) -> NDArray[np.float64]:
    """(n_channels + 1,) time of a group's pieces in shares of their full one, which is `own`.

    `times` are those of a model with more around it that stays the same.
    """
    widths = sorted(times)
    shares = [max(1 - (times[widths[-1]] - times[w]) / own, 0.01) if own else 1.0 for w in widths]
    every = np.arange(widths[-1] + 1)
    return np.interp(every, [0, *widths], [0.0, *shares])


class _Search:
    """Bisection of all groups side by side."""

    def __init__(
        self,
        subgraphs: tuple[Subgraphs, Sequence[Subgraph]],
        table: TimeCache,
        grids: Sequence[Ints],
        total: float,
    ) -> None:
        """`subgraphs` come with what to time for each group; `total` is the whole model's time."""
        self.subgraphs, around = subgraphs
        self.table, self.grids, self.trifle = table, grids, TRIFLE * total
        self.around = around
        self.base = [self.subgraphs.job(subgraph, {}) for subgraph in around]
        found = table.measure(dict(self.base), ("reference", REFERENCE))
        self.full = [float(np.nan_to_num(found[name])) for name, _ in self.base]
        self.times: list[dict[int, float]] = [
            {int(own[-1]): t} for own, t in zip(grids, self.full, strict=True)
        ]

    def run(self, progress: Progress) -> None:
        """Measure both ends of every group, then middles where the time falls between."""
        waiting = [(g, 0, len(own) - 1) for g, own in enumerate(self.grids)]
        points = {g: [0] for g, own in enumerate(self.grids) if len(own) > 1}
        begun = 0.0
        while points:
            done, begun = begun, begun + (1 - begun) / 2
            for count, (g, at) in enumerate(points.items()):
                self._time(g, [int(self.grids[g][k]) for k in at])
                progress(done + (begun - done) * (count + 1) / len(points))
            halves = [(g, a, (a + b) // 2, b) for g, a, b in waiting if self._falls(g, a, b)]
            halves = [half for half in halves if half[1] < half[2]]
            points = {}
            for g, _, middle, _ in halves:
                points.setdefault(g, []).append(middle)
            waiting = [part for g, a, m, b in halves for part in ((g, a, m), (g, m, b))]

    def _falls(self, g: int, low: int, high: int) -> bool:
        """Whether there is time to gain between two widths of the grid."""
        times, own = self.times[g], self.grids[g]
        return times[int(own[high])] - times[int(own[low])] > self._floor(g)

    def _floor(self, g: int) -> float:
        return max(NOISE * self.full[g], self.trifle)

    def _time(self, g: int, widths: Sequence[int]) -> None:
        """Measure a group at some widths, next to its full one."""
        jobs = {width: self.subgraphs.job(self.around[g], {g: width}) for width in widths}
        found = self.table.measure(dict(jobs.values()), self.base[g])
        for width, (name, _) in jobs.items():
            # what does not run cut like that alone is taken to gain nothing
            share = 1.0 if np.isnan(found[name]) else found[name]
            self.times[g][width] = share * self.full[g]

    def steps(self, g: int, own: float) -> Ints:
        """Measured widths that are faster than every wider one, and worth the channels they cost.

        `own` is the time of the group's pieces: what all of its channels take.
        """
        times = self.times[g]
        widths = sorted(times, reverse=True)
        kept = [widths[0]]
        for width in widths[1:]:
            worth = PAYS * own * (1 - width / widths[0])
            faster = times[kept[-1]] - times[width] > self._floor(g)
            if faster and times[widths[0]] - times[width] >= worth:
                kept.append(width)
        return np.array(kept[::-1], np.int64)


def _part(progress: Progress, low: float, high: float) -> Progress:
    return lambda share: progress(low + (high - low) * share)
