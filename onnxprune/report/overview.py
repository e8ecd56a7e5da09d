"""Say in one screen what can be pruned of a model, what blocks the most, and what would free it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from onnxprune.groups.analysis import Analysis
from onnxprune.groups.work import node_macs
from onnxprune.report.inspection import inspect_text
from onnxprune.report.names import short_names
from onnxprune.report.parts import Fact, Heading, Marked, Part, Table
from onnxprune.report.text import amount
from onnxprune.types import Group

__all__ = ["group_names", "overview", "summary"]

#: Rows that the tables of groups and of causes show.
GROUPS, CAUSES = 20, 5
#: Blocked layers with less of the MACs are nothing to look into.
MUCH = 0.01
#: Columns of a bar that stands for everything.
BAR = 20
#: Names that exporters number, which say nothing of the layer.
_NUMBERED = re.compile(r"(onnx::|.*::)?[A-Za-z_]*\d+$|.*::")
#: What weights are called behind the name of their layer.
_WEIGHT = re.compile(r"[./_](weight|bias|kernel|weight_bias)$")


def overview(analysis: Analysis, values: Mapping[str, Any], every: bool = False) -> Iterator[Part]:
    """Summarise a model, then list its groups and what blocks the rest.

    Args:
        analysis: the model.
        values: what `inspect_values` says of it.
        every: list every group with its members, and every weight that is blocked.
    """
    yield from summary(analysis, values)
    if every:
        yield inspect_text(values)
        return
    groups = values["groups"]
    if groups:
        yield Heading(f"groups ({len(groups)}), and the share of MACs that goes with each")
        yield _groups(analysis, groups)
    if len(groups) > GROUPS:
        yield f"  and {len(groups) - GROUPS} smaller ones: --verbose lists all with their weights"
    if values["frozen"]:
        yield Heading("blocked, by the share of MACs in the layers")
        yield from _blocked(analysis, values["frozen"])
    if values["separated"]:
        count = len(values["separated"])
        yield Fact("note", f"{count} weights are copies of shared ones: --verbose lists them")
    yield from (Fact("note", note) for note in values.get("notes", ()))


def summary(analysis: Analysis, values: Mapping[str, Any]) -> Iterator[Part]:
    """Say what a model costs, what can go, and how much is blocked."""
    sample = ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in values["sample_input"].items())
    sizes = f"{amount(values['params'], 'params')} parameters, {amount(values['bytes'], 'bytes')}"
    yield Fact("model", f"{amount(values['macs'], 'macs')} MACs at {sample}, {sizes}")
    cost, count = analysis.cost, len(analysis.groups)
    least = cost.at(np.minimum(cost.channels, 1)) / cost.full.clip(1)
    channels = int(cost.channels.sum())
    can = f"up to {1 - least[0]:.1%} of MACs and {1 - least[1]:.1%} of parameters"
    yield Fact("can go", f"{can}: {channels} channels in {count} groups")
    frozen = values["frozen"]
    shares = _blocked_shares(analysis, frozen)
    share = sum(shares)
    have = "1 weight has" if len(frozen) == 1 else f"{len(frozen)} weights have"
    weights = f"{have} channels that cannot be pruned"
    where = f", in layers with {share:.1%} of MACs" if frozen else ""
    yield Fact("blocked", Marked(f"{weights}{where}", "warn" if share >= MUCH else ""))
    for own in _causes(frozen, shares)[:1] if share >= MUCH else ():
        first, most = frozen[own[0]], sum(shares[k] for k in own)
        yield Fact("mostly", f"{most:.1%}: {first['reason']}; {first['hint']}")


def _groups(analysis: Analysis, groups: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each of the largest groups, in the order of the graph."""
    shares = np.array([group["macs_share"] for group in groups])
    shown = np.sort(np.argsort(-shares, kind="stable")[:GROUPS])
    names = group_names(analysis)
    rows: list[Sequence[str]] = [("group", "MACs", "", "parameters", "channels")]
    for k in shown.tolist():
        group = groups[k]
        heads = f"{group['heads']} x " if group["heads"] > 1 else ""
        inexact = " inexact" if group["inexact"] else ""
        share, params = f"{group['macs_share']:.1%}", f"{group['params_share']:.1%}"
        channels = f"{heads}{group['channels']}{inexact}"
        rows.append((names[k], Marked(_bar(group["macs_share"]), "quiet"), share, params, channels))
    return Table(rows, left=2, indent=2)


def _bar(share: float) -> str:
    """A share as a bar, in eighths of a column."""
    eighths = round(share * BAR * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _causes(frozen: Sequence[Mapping[str, Any]], shares: Sequence[float]) -> list[list[int]]:
    """Numbers of rows with the same reason and remedy, what blocks the most MACs first."""
    causes: dict[tuple[str, str], list[int]] = {}
    for k, row in enumerate(frozen):
        causes.setdefault((row["reason"], row["hint"]), []).append(k)
    return sorted(causes.values(), key=lambda own: -sum(shares[k] for k in own))


def _blocked(analysis: Analysis, frozen: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    """What blocks the most, each with its largest weight and what would free it."""
    shares = _blocked_shares(analysis, frozen)
    order = _causes(frozen, shares)
    rows = []
    for own in order[:CAUSES]:
        row = frozen[max(own, key=lambda k: shares[k])]
        more = f" (and {len(own) - 1} more weight{'s' * (len(own) > 2)})" if len(own) > 1 else ""
        text = (
            f"{row['tensor']}[{row['axis']}] ({row['blocked']} of {row['size']}): {row['reason']}; "
            f"blocked by {row['node'] or 'the interface'} at {row['at']}; {row['hint']}{more}"
        )
        rows.append((f"{sum(shares[k] for k in own):.1%}", text))
    yield Table(rows, left=2, head=False, indent=2)
    if len(order) > CAUSES:
        yield f"  and {len(order) - CAUSES} other causes: --verbose lists every weight"


def _blocked_shares(analysis: Analysis, frozen: Sequence[Mapping[str, Any]]) -> list[float]:
    """Shares of the model's MACs that are spent on the channels of each row."""
    spent = node_macs(analysis.nodes)
    whole = max(float(analysis.cost.full[0]), 1.0)
    shares = (row["blocked"] / max(row["size"], 1) for row in frozen)
    used = (spent.get(row["used_by"], 0.0) for row in frozen)
    return [macs * share / whole for macs, share in zip(used, shares, strict=True)]


def group_names(analysis: Analysis) -> list[str]:
    """A short name for every group: that of the layer which makes its channels.

    Whole heads are the channels of a group of their own, beside that of the channels within them.
    """
    ops_of = {node.name: node.op for node in analysis.nodes}
    names = short_names([_layer(analysis, group, ops_of) for group in analysis.groups])
    return [_apart(analysis.groups, names, k) for k in range(len(names))]


def _apart(groups: Sequence[Group], names: Sequence[str], k: int) -> str:
    """The name of group `k`, told apart from those of the same layer before it."""
    before = [j for j in range(k) if names[j] == names[k]]
    if any(groups[j].heads == groups[k].channels for j in before):
        return f"{names[k]} (heads)"
    return f"{names[k]} #{len(before) + 1}" if before else names[k]


def _layer(analysis: Analysis, group: Group, ops_of: Mapping[str, str]) -> str:
    """The name of the layer that makes a group's channels, as its weights or its node tell it."""
    roles = analysis.roles
    stored = [axis for axis, _ in group.axes() if axis.tensor in analysis.stored]
    makers = [axis for axis in stored if axis in roles.makes]
    nodes = [roles.makes[axis] for axis in makers]
    own = (*makers[:1], *(axis for axis in stored if axis not in roles.reads))
    weights = [_WEIGHT.sub("", axis.tensor) for axis in own]
    told = [name for name in weights if not _NUMBERED.match(name)]
    layers = [re.sub(rf"/{ops_of.get(node, '')}(_\d+)?$", "", node) for node in nodes]
    return next(iter((*told, *layers, *weights)), group.name)
