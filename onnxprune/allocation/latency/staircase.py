"""Find the widths that are worth having: each group's steps on this machine, by bisection.

Kernels work in blocks of channels, so that time falls in steps as a group gets narrower, and may
even rise. Only widths at which the group is faster than at any wider one are offered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.partition import Subgraph
from onnxprune.allocation.latency.subgraphs import Subgraphs
from onnxprune.allocation.latency.time_model import SubgraphTime, TimeModel
from onnxprune.allocation.latency.timer import NOTHING, REFERENCE, SignedModel
from onnxprune.types import Group, Ints

__all__ = ["MOST_WIDTHS", "Staircase", "grid", "measure_staircase"]

#: A difference below this share of what is timed, or of the whole model, may be chance.
NOISE, TRIFLE = 0.005, 0.0005
#: A width must free at least this share of the time that its channels' share of the work would.
PAYS = 0.4
#: What is timed for one group takes at least this long, in units of the reference.
LEAST_TIME = 4.0
#: Widths of a group that are looked at, at most.
MOST_WIDTHS = 16
#: The least share of its full time that a group is taken to have at any width.
LEAST_FACTOR = 0.01

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Staircase:
    """The model's times, and for each group the ascending widths that are steps."""

    times: TimeModel
    offered: Sequence[Ints]


@dataclass(frozen=True)
class TimedGroup:
    """One group at some widths, in a part of the model around it.

    Attributes:
        part: what is timed.
        base: the part at full widths.
        grid: ascending widths that may be timed.
        trifle: time that does not count.
        times: by width, those measured so far.
    """

    part: Subgraph
    base: SignedModel
    grid: Ints
    trifle: float
    times: Mapping[int, float]

    @property
    def full(self) -> float:
        """The time at full width."""
        return self.times[int(self.grid[-1])]

    @property
    def chance(self) -> float:
        """What two timings may differ by."""
        return max(NOISE * self.full, self.trifle)

    def falls(self, low: int, high: int) -> bool:
        """Whether there is time to gain between two places of the grid."""
        times, widths = self.times, self.grid
        return times[int(widths[high])] - times[int(widths[low])] > self.chance

    def steps(self, own: float) -> Ints:
        """Measured widths that are faster than every wider one, and worth the channels they cost.

        Args:
            own: the time that all of the group's channels take.
        """
        widths = sorted(self.times, reverse=True)
        kept = [widths[0]]
        for width in widths[1:]:
            worth = PAYS * own * (1 - width / widths[0])
            faster = self.times[kept[-1]] - self.times[width] > self.chance
            if faster and self.full - self.times[width] >= worth:
                kept.append(width)
        return np.array(kept[::-1], np.int64)

    def factors(self, own: float) -> NDArray[np.float64]:
        """(n_channels + 1,) time of the group's subgraphs in shares of their full one.

        Args:
            own: that full time; what else is in the part stays the same.
        """
        widths = sorted(self.times)
        lost = [self.full - self.times[w] for w in widths]
        shares = [max(1 - t / own, LEAST_FACTOR) if own else 1.0 for t in lost]
        return np.interp(np.arange(widths[-1] + 1), [0, *widths], [0.0, *shares])


def grid(group: Group) -> Ints:
    """List ascending widths that may be steps: blocks of channels as kernels have them, at most 16.

    Of few channels, and of what is no channel but a head, every width may be one.
    """
    n = group.channels
    unit = min((site.positions.shape[1] for site in group.sites), default=1)
    block = 16 if n * unit >= 64 else 8 if n * unit >= 32 else 4
    step = 1 if n < 8 else max(1, block // unit)
    while n / step > MOST_WIDTHS:
        step *= 2
    return np.union1d(np.arange(step, n, step), [n])


def measure_staircase(
    subgraphs: Subgraphs,
    cache: TimeCache,
    grids: Sequence[Ints],
    whole: SignedModel,
    progress: Progress,
) -> Staircase:
    """Time every group at its full width and as many others as its steps ask for.

    Args:
        subgraphs: of the model.
        cache: times that are known already.
        grids: ascending widths of each group that may be timed.
        whole: the model itself, whose time everything is a share of.
        progress: is told the share done.
    """
    jobs = [subgraphs.job(subgraph, {}) for subgraph in subgraphs.single]
    wanted = {"nothing": NOTHING, whole.signature: whole.model, **dict(jobs)}
    reference = SignedModel("reference", REFERENCE)
    times = cache.measure(wanted, reference, _part(progress, 0, 0.2))
    total = times[whole.signature]
    alone = [times[job.signature] for job in jobs]
    full = _within_model(subgraphs, alone, times["nothing"], total)
    groups = _groups(subgraphs, cache, grids, full, TRIFLE * total)
    groups = _bisect(subgraphs, cache, groups, _part(progress, 0.2, 1.0))
    cache.store()
    own = [0.0] * len(grids)
    for time, subgraph in zip(full, subgraphs.single, strict=True):
        for g in subgraph.groups:
            own[g] += time
    pairs = list(zip(groups, own, strict=True))
    shares = [
        SubgraphTime(t / total, p.groups) for t, p in zip(full, subgraphs.single, strict=True)
    ]
    rest = 1 - sum(full) / total
    model = TimeModel(rest, shares, [group.factors(time) for group, time in pairs])
    return Staircase(model, [group.steps(time) for group, time in pairs])


def _within_model(
    subgraphs: Subgraphs, times: Sequence[float], nothing: float, whole: float
) -> list[float]:
    """What each subgraph takes within the whole model.

    Alone it also takes what running anything takes, `nothing`, and time to bring what flows in and
    out into the runtime's blocked layout and back. That is assumed to grow with its bytes, so much
    that the subgraphs add up to the whole.
    """
    net = [0.0 if np.isnan(t) else max(t - nothing, 0.0) for t in times]
    moved = [subgraphs.border(subgraph) for subgraph in subgraphs.single]
    fare = max(sum(net) - (whole - nothing), 0.0) / max(sum(moved), 1)
    within = [max(t - fare * m, 0.1 * t) for t, m in zip(net, moved, strict=True)]
    return [t * min(1.0, whole / max(sum(within), 1e-12)) for t in within]


def _groups(
    subgraphs: Subgraphs,
    cache: TimeCache,
    grids: Sequence[Ints],
    full: Sequence[float],
    trifle: float,
) -> list[TimedGroup]:
    """Every group in a part of the model that takes long enough, timed at full width."""
    parts = [subgraphs.around(g, full, LEAST_TIME) for g in range(len(grids))]
    bases = [subgraphs.job(part, {}) for part in parts]
    times = cache.measure(dict(bases), SignedModel("reference", REFERENCE))
    groups = []
    for part, base, own in zip(parts, bases, grids, strict=True):
        time = float(np.nan_to_num(times[base.signature]))
        groups.append(TimedGroup(part, base, own, trifle, {int(own[-1]): time}))
    return groups


def _bisect(
    subgraphs: Subgraphs, cache: TimeCache, groups: Sequence[TimedGroup], progress: Progress
) -> list[TimedGroup]:
    """Time both ends of every group's grid, then middles where the time falls between."""
    groups = list(groups)
    spans = [(g, 0, len(group.grid) - 1) for g, group in enumerate(groups)]
    places = {g: [0] for g, group in enumerate(groups) if len(group.grid) > 1}
    begun = 0.0
    while places:
        done, begun = begun, begun + (1 - begun) / 2
        for count, (g, at) in enumerate(places.items()):
            groups[g] = _timed(subgraphs, cache, g, groups[g], at)
            progress(done + (begun - done) * (count + 1) / len(places))
        halves = [(g, a, (a + b) // 2, b) for g, a, b in spans if groups[g].falls(a, b)]
        halves = [half for half in halves if half[1] < half[2]]
        places = {}
        for g, _, middle, _ in halves:
            places.setdefault(g, []).append(middle)
        spans = [part for g, a, m, b in halves for part in ((g, a, m), (g, m, b))]
    return groups


def _timed(
    subgraphs: Subgraphs, cache: TimeCache, number: int, group: TimedGroup, places: Sequence[int]
) -> TimedGroup:
    """The group with number `number` timed at some places of its grid, next to its full width."""
    widths = [int(group.grid[place]) for place in places]
    jobs = {width: subgraphs.job(group.part, {number: width}) for width in widths}
    found = cache.measure(dict(jobs.values()), group.base)
    times = dict(group.times)
    for width, job in jobs.items():
        # what does not run cut like that alone is taken to gain nothing
        share = 1.0 if np.isnan(found[job.signature]) else found[job.signature]
        times[width] = share * group.full
    return replace(group, times=times)


def _part(progress: Progress, low: float, high: float) -> Progress:
    return lambda share: progress(low + (high - low) * share)
