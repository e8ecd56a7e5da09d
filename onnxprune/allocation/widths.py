"""Choose how wide every group gets, by the user's settings; say what to do where that fails."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from onnxprune.allocation.allocate import allocate, uniform
from onnxprune.allocation.latency.kernel_blocks import Blocks, kernel_blocks
from onnxprune.allocation.latency.kernel_times import group_blocks, kernel_times
from onnxprune.allocation.latency.search import Solve, fastest
from onnxprune.allocation.latency.staircase import MOST_WIDTHS, Staircase, grid
from onnxprune.allocation.offers import Limits, offers
from onnxprune.allocation.problem import Problem, predicted_error, problem_of
from onnxprune.allocation.state import Allocation
from onnxprune.allocation.whole_blocks import FEWEST, Choice, best_plan, block_widths
from onnxprune.errors import InputError, TargetError
from onnxprune.groups.analysis import Analysis, blocked
from onnxprune.groups.cost import METRICS, CostModel
from onnxprune.groups.units import Row
from onnxprune.settings import AUTO, CalibrationSettings, SelectionSettings, Settings
from onnxprune.types import Group, Ints

__all__ = ["blocks_of", "planned_blocks", "widths_for"]

#: What all MACs of a model are worth in units of its error, where time is what counts.
WORTH_OF_MACS = 0.01


def widths_for(
    analysis: Analysis,
    rows: Sequence[Row],
    wanted: Mapping[str, float],
    options: Settings,
    whole: Collection[int] = (),
) -> Ints:
    """Choose (n_groups,) widths at which all budgets hold.

    Errors that were measured on calibration data count against what the budgets ask for, others
    against the share of channels (decision 5). Nothing goes whole that the user gave a least width
    or a ratio.

    Args:
        analysis: the model.
        rows: the error of every group at every width, see `channel_rows`.
        wanted: largest cost by name: absolute, for `latency` a share of what the model takes now.
        options: the user's settings.
        whole: numbers of groups that keep all channels.

    Raises:
        InputError: no pattern of `layer_ratio` matches a group.
        TargetError: the budgets are out of reach.
    """
    groups = analysis.groups
    ratios = _ratios(groups, options.layer_ratio or {}, whole)
    held = {g for g, ratio in enumerate(ratios) if ratio is not None or options.min_channels > 1}
    rows = [row if held.isdisjoint(row.unit.along) else row.alone() for row in rows]
    if "latency" in wanted:
        grids = [_grid(group, ratio, options) for group, ratio in zip(groups, ratios, strict=True)]
        solve = _within_time(analysis.cost, rows, wanted, options)
        return fastest(analysis, grids, wanted["latency"], solve, options)
    chosen = _within_counts(analysis, rows, ratios, wanted, options)
    if not chosen.met:
        fine = _offering(groups, rows, ratios, _limits(options))
        nothing = dict.fromkeys(METRICS, 0.0)
        least = allocate(problem_of(analysis.cost, nothing, fine, priced=_priced(options)))
        raise TargetError(_unreachable(analysis, wanted, least.widths))
    return chosen.widths


def _ratios(
    groups: Sequence[Group], wanted: Mapping[str, float], whole: Collection[int]
) -> list[float | None]:
    """The share of its channels that each group is to keep, None where that is free."""
    ratios = [
        next((share for pattern, share in wanted.items() if re.search(pattern, group.name)), None)
        for group in groups
    ]
    if wanted and not any(ratios):
        names = ", ".join(group.name for group in groups[:3])
        raise InputError(f"layer_ratio: no pattern matches a group. Name one of: {names}, …")
    return [1.0 if g in whole else ratio for g, ratio in enumerate(ratios)]


def _offering(
    groups: Sequence[Group],
    rows: Sequence[Row],
    ratios: Sequence[float | None],
    limits: Limits,
) -> list[Row]:
    """Rows with the widths that the user allows."""
    return [
        row.offering(offers(group, limits, ratio))
        for group, row, ratio in zip(groups, rows, ratios, strict=True)
    ]


def _limits(options: SelectionSettings) -> Limits:
    """What widths the user allows, where no time is asked for."""
    step = 1 if options.round_to == AUTO else int(options.round_to)
    return Limits(options.min_channels, step)


def _solved(problem: Problem, options: SelectionSettings) -> Allocation:
    """Allocate as the user's scope says."""
    return uniform(problem) if options.scope == "layer" else allocate(problem)


def _priced(options: CalibrationSettings) -> str | None:
    """The metric that errors are divided by; None for errors that were measured."""
    measured = options.calib is not None and options.compensate
    return None if measured else "ratio"


def _within_counts(
    analysis: Analysis,
    rows: Sequence[Row],
    ratios: Sequence[float | None],
    wanted: Mapping[str, float],
    options: Settings,
) -> Allocation:
    """Allocate within budgets that are counted, with the widths that the user allows.

    They lie on the blocks of the runtime's kernels, unless no such plan is within the budgets.
    """
    priced = _priced(options)
    fine = _offering(analysis.groups, rows, ratios, _limits(options))
    problem = problem_of(analysis.cost, wanted, fine, priced=priced)
    if options.round_to == AUTO:
        times = kernel_times(analysis, kernel_blocks(options.stopwatch))
        blocks = group_blocks(times, analysis.groups)
        solve = partial(_solved, options=options)
        best = best_plan(Choice(problem, times, blocks, solve, priced is None))
        if best is not None:
            return best
    return _solved(problem, options)


def planned_blocks(wanted: Collection[str], options: SelectionSettings) -> Blocks | None:
    """The blocks that a plan depends on; None where the user chose the step, or a latency.

    Args:
        wanted: names of the metrics that are targets.
        options: the user's settings.
    """
    counted = bool(wanted) and set(wanted) <= set(METRICS)
    return kernel_blocks(options.stopwatch) if options.round_to == AUTO and counted else None


def blocks_of(
    analysis: Analysis, widths: Ints, wanted: Mapping[str, object], options: SelectionSettings
) -> dict[str, Any] | None:
    """Say what blocks a plan lies on, how many groups keep parts of them, and how many any width.

    None where the user chose the step, or a latency, for which each layer is timed.

    Args:
        analysis: the model that was cut.
        widths: (n_groups,) what stays of each group.
        wanted: the targets.
        options: the user's settings.
    """
    blocks = planned_blocks(wanted, options)
    if blocks is None:
        return None
    own = group_blocks(kernel_times(analysis, blocks), analysis.groups)
    full = analysis.cost.channels
    parts = int(((widths % np.array(own, np.int64) > 0) & (widths < full)).sum())
    ratios = _ratios(analysis.groups, options.layer_ratio or {}, ())
    chosen = zip(own, full.tolist(), widths.tolist(), ratios, strict=True)
    odd = sum(
        width not in block_widths(np.arange(n + 1), block, FEWEST[-1])
        for block, n, width, ratio in chosen
        if ratio is None
    )
    return {**blocks.values(), "groups_with_parts": parts, "groups_of_any_width": odd}


def _within_time(
    cost: CostModel, rows: Sequence[Row], wanted: Mapping[str, float], options: Settings
) -> Solve:
    """A function that allocates among the steps of a staircase, within a share of the time."""
    worked = _with_work(cost, rows)

    def solve(stairs: Staircase, share: float) -> Allocation:
        steps = zip(worked, stairs.offered, strict=True)
        offered = [row.offering(widths) for row, widths in steps]
        budgets = {**wanted, "latency": share}
        problem = problem_of(cost, budgets, offered, stairs.times, _priced(options))
        chosen = _solved(problem, options)
        return replace(chosen, error=predicted_error(rows, chosen.widths))

    return solve


def _with_work(cost: CostModel, rows: Sequence[Row]) -> list[Row]:
    """Rows with a little error added for the MACs that stay of each group.

    Of plans that seem to lose the same, the one that gets its time from the least work removed is
    the better one: measured errors near zero say nothing.
    """
    worked = []
    for g, row in enumerate(rows):
        n = int(row.unit.levels[-1])
        widths = cost.channels.copy()
        widths[g] = n // 2
        share = (cost.full[0] - cost.at(widths)[0]) / max(cost.full[0], 1) / (1 - n // 2 / n)
        more = WORTH_OF_MACS * share * (1 - row.unit.levels / n)
        worked.append(replace(row, errors=row.errors + more))
    return worked


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
    return np.union1d(widths[widths > 0][:: max(1, len(widths) // MOST_WIDTHS)], [n])


def _unreachable(analysis: Analysis, wanted: Mapping[str, float], least: Ints) -> str:
    """Say how far one gets, and what holds the rest."""
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
