"""Say what can be pruned of a model, and what is frozen: as values, and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.groups.analysis import Analysis, blocked
from onnxprune.groups.cost import METRICS
from onnxprune.report.text import amount
from onnxprune.types import Group

__all__ = ["frozen_rows", "group_rows", "inspect_text", "inspect_values"]


def group_rows(analysis: Analysis, widths: Sequence[int]) -> list[dict[str, Any]]:
    """Name, channels and kept channels of every group; `widths` (n_groups,) are the last."""
    return [
        {"name": group.name, "channels": group.channels, "kept": int(width)}
        for group, width in zip(analysis.groups, widths, strict=True)
    ]


def frozen_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Every weight axis with channels that cannot be pruned: which, how many, why, what helps."""
    return [
        {
            "tensor": axis.tensor,
            "axis": axis.axis,
            "used_by": node,
            "blocked": count,
            "size": size,
            "node": why.node,
            "at": str(why.at or why.axis),
            "reason": why.reason,
            "hint": why.hint,
        }
        for axis, node, why, count, size in blocked(analysis)
    ]


def inspect_values(analysis: Analysis) -> dict[str, Any]:
    """Costs of a model, its groups with their members and shares of the cost, what is frozen."""
    full = dict(zip(METRICS, analysis.cost.full.tolist(), strict=True))
    return {
        "macs": full["macs"],
        "params": full["params"],
        "bytes": full["size"],
        "sample_input": {k: list(v) for k, v in analysis.sample.items()},
        "groups": [_group_values(analysis, g, group) for g, group in enumerate(analysis.groups)],
        "frozen": frozen_rows(analysis),
        "separated": dict(analysis.copies),
    }


def _group_values(analysis: Analysis, index: int, group: Group) -> dict[str, Any]:
    """A group: its name and size, its weights, and the share of the cost that goes with it."""
    widths = analysis.cost.channels.copy()
    widths[index] = 0
    share = 1 - analysis.cost.at(widths) / analysis.cost.full.clip(1)
    stored = analysis.stored
    members = [
        {"tensor": axis.tensor, "axis": axis.axis, "positions_per_channel": positions.shape[1]}
        for axis, positions in group.axes()
        if axis.tensor in stored
    ]
    return {
        "name": group.name,
        "channels": group.channels,
        "inexact": group.inexact,
        "heads": group.heads,
        "macs_share": float(share[0]),
        "params_share": float(share[1]),
        "members": members,
    }


def inspect_text(values: Mapping[str, Any]) -> str:
    """The content of `inspect_values` as text."""
    sample = ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in values["sample_input"].items())
    lines = [
        f"{amount(values['macs'], 'macs')} MACs at {sample}, "
        f"{amount(values['params'], 'params')} parameters, {amount(values['bytes'], 'bytes')}",
        f"{len(values['groups'])} groups, shares of MACs and parameters that go with each:",
    ]
    for group in values["groups"]:
        members = " ".join(
            f"{m['tensor']}[{m['axis']}]"
            + (f"*{m['positions_per_channel']}" if m["positions_per_channel"] > 1 else "")
            for m in group["members"]
        )
        lines.append(
            f"  {group['channels']:5d} channels  {group['macs_share']:6.1%} "
            f"{group['params_share']:6.1%}  {members}"
            + (f"  each of {group['heads']} heads its own" if group["heads"] > 1 else "")
            + (f"  inexact: changes {group['inexact']}" if group["inexact"] else "")
        )
    lines.append(f"{len(values['frozen'])} weights have channels that cannot be pruned:")
    for row in values["frozen"]:
        lines.append(
            f"  {row['tensor']}[{row['axis']}] ({row['blocked']} of {row['size']}): "
            f"{row['reason']}; blocked by {row['node'] or 'the interface'} at {row['at']}; "
            f"{row['hint']}"
        )
    lines += [
        f"note: {copy} is a copy of shared {name}" for copy, name in values["separated"].items()
    ]
    lines += [f"note: {note}" for note in values.get("notes", ())]
    return "\n".join(lines)
