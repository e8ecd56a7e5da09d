"""How wide every group gets: the options of the user, the tables, and what to say if they fail."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from onnxprune.allocation.allocate import allocate, uniform
from onnxprune.allocation.latency.search import fastest
from onnxprune.allocation.latency.staircase import MOST, Staircase, grid
from onnxprune.allocation.offers import Limits, offers
from onnxprune.allocation.state import Table, Widths
from onnxprune.errors import InputError, TargetError
from onnxprune.groups.analysis import Analysis, blocked
from onnxprune.groups.cost import METRICS, CostModel
from onnxprune.settings import AUTO, SelectionSettings, Settings
from onnxprune.types import Floats, Group, Ints

__all__ = ["Ends", "whole_blocks", "widths_for"]

#: A group is taken in whole blocks of a kernel if it has at least so many.
BLOCKS = 32
#: What all MACs of a model are worth in units of its error, where time is what counts.
WORK = 0.01
#: Share by which the predicted error may grow for that.
WORTH = 0.01


class Ends(NamedTuple):
    """Groups that stay `whole`, and for some groups the `blocks` of those that may go with them."""

    whole: Collection[int] = ()
    blocks: Mapping[int, tuple[int, ...]] = MappingProxyType({})


def widths_for(
    analysis: Analysis,
    errors: Sequence[Floats],
    wanted: Mapping[str, float],
    options: Settings,
    ends: Ends | None = None,
) -> Ints:
    """(n_groups,) widths at which all budgets hold.

    `errors` holds, for every group, (n_channels + 1,) what each width costs in accuracy. Errors
    that were measured on calibration data count against what the budgets ask for, others against
    the share of channels (decision 5). Nothing goes whole that the user gave a least width or a
    ratio. A budget for `latency` is a share of what the model takes now.

    Raises:
        TargetError: the budgets are out of reach.
    """
    ratios = [_ratio(group.name, options.layer_ratio or {}) for group in analysis.groups]
    if options.layer_ratio and not any(ratios):
        names = ", ".join(group.name for group in analysis.groups[:3])
        raise InputError(f"layer_ratio: no pattern matches a group. Groups: {names}, …")
    whole, blocks = ends or Ends()
    for g in whole:
        ratios[g] = 1.0
    held = {g for g, ratio in enumerate(ratios) if ratio is not None or options.min_channels > 1}
    free = {g: block for g, block in blocks.items() if held.isdisjoint(block)}
    choose = _Choice(analysis, errors, wanted, options, free)
    if "latency" in wanted:
        grids = [_grid(g, ratio, options) for g, ratio in zip(analysis.groups, ratios, strict=True)]
        return fastest(analysis, grids, wanted["latency"], (choose.within, choose.error), options)
    widths = choose.rounded(ratios)
    if not widths.met:
        least = choose.least(choose.offered(ratios, 1))
        raise TargetError(_unreachable(analysis, wanted, least.widths))
    return widths.widths


@dataclass(frozen=True)
class _Choice:
    """Everything that widths are chosen by, but for the widths on offer."""

    analysis: Analysis
    errors: Sequence[Floats]
    wanted: Mapping[str, float]
    options: Settings
    blocks: Mapping[int, tuple[int, ...]]

    def offered(self, ratios: Sequence[float | None], round_to: int) -> list[Ints]:
        """For each group the widths that the user allows."""
        limits = Limits(self.options.min_channels, round_to)
        groups = zip(self.analysis.groups, ratios, strict=True)
        return [offers(group, limits, ratio) for group, ratio in groups]

    def tables(
        self, offered: Sequence[Ints], errors: Sequence[Floats] | None = None
    ) -> list[Table]:
        """Choices of every group."""
        errors = errors or self.errors
        return [
            Table(errors[g], widths, self.blocks.get(g, ())) for g, widths in enumerate(offered)
        ]

    @property
    def priced(self) -> str | None:
        """What errors are divided by."""
        measured = self.options.calib is not None and self.options.compensate
        return None if measured else "ratio"

    def rounded(self, ratios: Sequence[float | None]) -> Widths:
        """Widths within what is counted, in steps of kernels where that costs next to nothing."""
        if self.options.round_to != AUTO:
            return self.solved(self.offered(ratios, int(self.options.round_to)))
        fine = self.offered(ratios, 1)
        free = self.solved(fine)
        steps = [
            own if ratio is not None else whole_blocks(own)
            for own, ratio in zip(fine, ratios, strict=True)
        ]
        if not free.met or all(len(a) == len(b) for a, b in zip(fine, steps, strict=True)):
            return free
        stepped = self.solved(steps)
        cheap = self.error(stepped) <= self.error(free) * (1 + WORTH)
        return stepped if stepped.met and cheap else free

    def error(self, widths: Widths) -> float:
        """The sum of all groups' errors, those of blocks that are gone counted once."""
        pairs = zip(self.errors, widths.widths, strict=True)
        return float(sum(errors[width] for errors, width in pairs))

    def solved(self, offered: Sequence[Ints]) -> Widths:
        """The allocation among some widths."""
        if self.options.scope == "layer":
            return uniform(self.analysis.cost, self.wanted, self.tables(offered))
        return allocate(self.analysis.cost, self.wanted, self.tables(offered), self.priced)

    def within(self, stairs: Staircase, share: float) -> Widths:
        """The allocation among the steps of a staircase, within a predicted share of the time."""
        wanted = {**self.wanted, "latency": share}
        tables = self.tables(stairs.offered, _with_work(self.analysis.cost, self.errors))
        if self.options.scope == "layer":
            return uniform(self.analysis.cost, wanted, tables, stairs.times)
        return allocate(self.analysis.cost, wanted, tables, self.priced, stairs.times)

    def least(self, offered: Sequence[Ints]) -> Widths:
        """The smallest of all."""
        nothing = dict.fromkeys(METRICS, 0.0)
        return allocate(self.analysis.cost, nothing, self.tables(offered), self.priced)


def _with_work(cost: CostModel, errors: Sequence[Floats]) -> list[Floats]:
    """Errors plus a little for the MACs that go with each group.

    Of plans that seem to lose the same, the one that gets its time from the least work removed is
    the better one: measured errors near zero say nothing.
    """
    found = []
    for g, own in enumerate(errors):
        n = len(own) - 1
        widths = cost.channels.copy()
        widths[g] = n // 2
        share = (cost.full[0] - cost.at(widths)[0]) / max(cost.full[0], 1) / (1 - n // 2 / n)
        found.append(own + WORK * share * (1 - np.arange(n + 1) / n))
    return found


def whole_blocks(offered: Ints) -> Ints:
    """The widths that are whole blocks of a kernel, of a group that has many."""
    n = int(offered[-1])
    block = next((b for b in (16, 8) if n >= BLOCKS * b), 1)
    kept: Ints = offered[(offered % block == 0) | (offered == n)]
    return kept


def _grid(group: Group, ratio: float | None, options: SelectionSettings) -> Ints:
    """Ascending widths of a group that are worth timing, the full one among them."""
    n = group.channels
    if ratio is not None:
        return np.union1d(offers(group, Limits(), ratio), [n])
    if options.round_to == AUTO:
        widths = grid(group)
        kept: Ints = widths[widths >= min(options.min_channels, n)]
        return kept
    widths = offers(group, Limits(max(options.min_channels, 1), int(options.round_to)))
    return np.union1d(widths[widths > 0][:: max(1, len(widths) // MOST)], [n])


def _ratio(name: str, ratios: Mapping[str, float]) -> float | None:
    return next((share for pattern, share in ratios.items() if re.search(pattern, name)), None)


def _unreachable(analysis: Analysis, wanted: Mapping[str, float], least: Ints) -> str:
    """How far one gets and what holds the rest."""
    reach, full = analysis.cost.at(least), analysis.cost.full
    parts = []
    for metric, limit in wanted.items():
        k = METRICS.index(metric)
        if reach[k] > limit:
            parts.append(
                f"{metric} {limit / max(full[k], 1):.3g} of the original is out of reach: "
                f"{reach[k] / max(full[k], 1):.3g} is the least"
            )
    reasons: dict[str, str] = {}
    for axis, _, why, _, _ in blocked(analysis):
        place = why.node or str(why.at or why.axis)
        reasons.setdefault(f"{why.reason} (at {place})", axis.tensor)
    blocks = "; ".join(f"'{t}': {why}" for why, t in list(reasons.items())[:3])
    rest = f" Blocked: {blocks}." if blocks else ""
    more = " Run `onnxprune inspect` for all." if len(reasons) > 3 else ""
    none = "" if analysis.groups else " No channel of this model can be pruned."
    return f"{'; '.join(parts)}.{none}{rest}{more}"
