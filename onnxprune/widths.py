"""How wide every group gets: the options of the user, the tables, and what to say if they fail."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from onnxprune import report
from onnxprune.allocate import Table, allocate, uniform
from onnxprune.cost import METRICS
from onnxprune.errors import InputError, TargetError
from onnxprune.moments import Floats
from onnxprune.select import Limits, offers
from onnxprune.settings import Settings
from onnxprune.survey import Survey
from onnxprune.types import Ints

__all__ = ["Ends", "widths_for"]


class Ends(NamedTuple):
    """Groups that stay `whole`, and for some groups the `blocks` of those that may go with them."""

    whole: Collection[int] = ()
    blocks: Mapping[int, tuple[int, ...]] = MappingProxyType({})


def widths_for(
    found: Survey,
    errors: Sequence[Floats],
    wanted: Mapping[str, float],
    options: Settings,
    ends: Ends | None = None,
) -> Ints:
    """(n_groups,) widths at which all budgets hold.

    `errors` holds, for every group, (n_channels + 1,) what each width costs in accuracy. Errors
    that were measured on calibration data count against what the budgets ask for, others against
    the share of channels (decision 5). Nothing goes whole that the user gave a least width or a
    ratio.

    Raises:
        TargetError: the budgets are out of reach.
    """
    limits = Limits(options.min_channels, options.round_to)
    ratios = [_ratio(group.name, options.layer_ratio or {}) for group in found.groups]
    if options.layer_ratio and not any(ratios):
        names = ", ".join(group.name for group in found.groups[:3])
        raise InputError(f"layer_ratio: no pattern matches a group. Groups: {names}, …")
    whole, blocks = ends or Ends()
    for g in whole:
        ratios[g] = 1.0
    held = {g for g, ratio in enumerate(ratios) if ratio is not None or limits.min_channels > 1}
    free = {g: block for g, block in blocks.items() if held.isdisjoint(block)}
    tables = [
        Table(errors[g], offers(group, limits, ratios[g]), free.get(g, ()))
        for g, group in enumerate(found.groups)
    ]
    priced = None if options.calib is not None and options.compensate else "ratio"
    if options.scope == "layer":
        widths = uniform(found.cost, wanted, tables)
    else:
        widths = allocate(found.cost, wanted, tables, priced=priced)
    if not widths.met:
        least = allocate(found.cost, dict.fromkeys(METRICS, 0.0), tables, priced=priced)
        raise TargetError(_unreachable(found, wanted, least.widths))
    return widths.widths


def _ratio(name: str, ratios: Mapping[str, float]) -> float | None:
    return next((share for pattern, share in ratios.items() if re.search(pattern, name)), None)


def _unreachable(found: Survey, wanted: Mapping[str, float], least: Ints) -> str:
    """How far one gets and what holds the rest."""
    reach, full = found.cost.at(least), found.cost.full
    parts = []
    for metric, limit in wanted.items():
        k = METRICS.index(metric)
        if reach[k] > limit:
            parts.append(
                f"{metric} {limit / max(full[k], 1):.3g} of the original is out of reach: "
                f"{reach[k] / max(full[k], 1):.3g} is the least"
            )
    reasons: dict[str, str] = {}
    for row in report.frozen_rows(found):
        reasons.setdefault(f"{row['reason']} (at {row['node'] or row['at']})", row["tensor"])
    blocks = "; ".join(f"'{t}': {why}" for why, t in list(reasons.items())[:3])
    rest = f" Blocked: {blocks}." if blocks else ""
    more = " Run `onnxprune inspect` for all." if len(reasons) > 3 else ""
    none = "" if found.groups else " No channel of this model can be pruned."
    return f"{'; '.join(parts)}.{none}{rest}{more}"
