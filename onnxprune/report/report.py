"""Values to text and JSON: the only place that formats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxprune.groups.analysis import Analysis, blocked
from onnxprune.groups.cost import METRICS
from onnxprune.ir.timing import Latency
from onnxprune.report.values import Fidelity, Measured
from onnxprune.surgery.proof import Proof
from onnxprune.types import Group

__all__ = [
    "Report",
    "amount",
    "comparison_text",
    "frozen_rows",
    "group_rows",
    "inspect_text",
    "inspect_values",
    "table",
]


@dataclass(frozen=True)
class Report:
    """Everything `prune` measured; `values` is the content of the JSON report."""

    before: Measured
    after: Measured
    target: Mapping[str, float | str]
    achieved: Mapping[str, float]
    proof: Proof
    fidelity: Fidelity | None
    groups: Sequence[Mapping[str, Any]]
    frozen: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)
    warnings: Sequence[str] = field(default_factory=tuple)
    evaluation: Mapping[str, Any] | None = None

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "before": _measured(self.before),
            "after": _measured(self.after),
            "target": dict(self.target),
            "achieved": dict(self.achieved),
            "proof": asdict(self.proof),
            "fidelity": None if self.fidelity is None else asdict(self.fidelity),
            "groups": list(self.groups),
            "frozen": list(self.frozen),
            "environment": dict(self.environment),
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "evaluation": None if self.evaluation is None else dict(self.evaluation),
        }

    def __getitem__(self, key: str) -> Any:
        """A part of `values`: `report["achieved"]["macs"]`."""
        return self.values()[key]

    def text(self) -> str:
        """The table a user sees."""
        return "\n".join([_before_after(self.before, self.after), *self._lines()])

    def _lines(self) -> Iterable[str]:
        wanted = ", ".join(f"{k} {v}" for k, v in self.target.items()) or "whatever is free"
        got = ", ".join(f"{k} {v:.4g}" for k, v in self.achieved.items())
        yield f"target    {wanted}; achieved {got}"
        passed = "equal" if self.proof.passed else "NOT equal"
        error = self.proof.max_relative_error
        yield f"proof     pruned and {self.proof.reference}: {passed}, relative error {error:.1e}"
        yield from _outcome(self.fidelity, self.environment, self.before.latency is not None)
        channels = sum(row["channels"] for row in self.groups)
        kept = sum(row["kept"] for row in self.groups)
        yield from _scores(self.evaluation)
        yield f"groups    {len(self.groups)}: {kept} of {channels} channels kept"
        reasons = Counter(f"{row['reason']}" for row in self.frozen)
        for reason, count in reasons.most_common(3):
            yield f"frozen    {count} weight{'s' * (count > 1)}: {reason}"
        yield from (f"note      {note}" for note in (*self.warnings, *self.notes))


def comparison_text(
    before: Measured, after: Measured, drift: Fidelity, environment: Mapping[str, Any]
) -> str:
    """Two models side by side."""
    lines = _outcome(drift, environment, before.latency is not None)
    return "\n".join([_before_after(before, after), *lines])


def _before_after(before: Measured, after: Measured) -> str:
    rows = [("", "before", "after", "ratio")]
    for name in ("macs", "params", "bytes", "nodes"):
        a, b = getattr(before, name), getattr(after, name)
        rows.append((_TITLES[name], amount(a, name), amount(b, name), f"{b / max(a, 1):.3f}"))
    if before.latency and after.latency:
        ratio = after.latency.median_ms / before.latency.median_ms
        rows.append(("latency", _ms(before.latency), _ms(after.latency), f"{ratio:.3f}"))
    if before.accuracy is not None and after.accuracy is not None:
        a, b = before.accuracy, after.accuracy
        rows.append(("top-1", f"{a:.2%}", f"{b:.2%}", f"{b - a:+.2%}"))
    return table(rows)


def _outcome(drift: Fidelity | None, environment: Mapping[str, Any], timed: bool) -> Iterable[str]:
    if drift is not None:
        yield f"drift     {_drift(drift)}"
    if timed:
        yield f"measured  {', '.join(f'{k} {v}' for k, v in environment.items())}"


def _scores(evaluation: Mapping[str, Any] | None) -> Iterable[str]:
    """The user's own score, and every target that was tried on the way."""
    if evaluation is None:
        return
    before, after = evaluation["before"], evaluation["after"]
    yield f"score     {before:.4g} before, {after:.4g} after ({evaluation['function']})"
    for tried in evaluation.get("tries", ()):
        score = "out of reach" if tried["score"] is None else f"score {tried['score']:.4g}"
        verdict = "" if tried["within"] or tried["score"] is None else ", drops too much"
        yield f"tried     {evaluation['metric']} {tried['share']:.4g}: {score}{verdict}"


_TITLES = {"macs": "MACs", "params": "parameters", "bytes": "file", "nodes": "nodes"}


def _measured(value: Measured) -> dict[str, Any]:
    latency = value.latency
    return {
        "macs": value.macs,
        "params": value.params,
        "bytes": value.bytes,
        "nodes": value.nodes,
        "latency_ms": None if latency is None else latency.median_ms,
        "latency": None if latency is None else asdict(latency),
        "accuracy": value.accuracy,
    }


def amount(value: float, name: str) -> str:
    """A number as people read it: 1.25 G, 3.4 M, 65.1 kB."""
    unit = "B" if name in ("bytes", "size") else ""
    if name == "nodes" or value < 1000:
        return f"{value:.0f} {unit}".rstrip()
    power = min(int(math.log10(value) // 3), 4)
    return f"{value / 1000**power:.3g} {' kMGT'[power]}{unit}".rstrip()


def _ms(latency: Latency) -> str:
    spread = (latency.p90_ms - latency.p10_ms) / 2
    return f"{latency.median_ms:.3g} ±{spread:.2g} ms"


def _drift(value: Fidelity) -> str:
    agree = "" if value.agreement is None else f", top-1 agreement {value.agreement:.1%}"
    sqnr = "outputs equal" if value.sqnr_db is None else f"SQNR {value.sqnr_db:.1f} dB"
    return f"cosine {value.cosine:.4f}, {sqnr}{agree} ({value.samples} samples, {value.data})"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the first to the left, all others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def group_rows(analysis: Analysis, widths: Sequence[int]) -> list[dict[str, Any]]:
    """What each group is and what remains of it."""
    return [
        {"name": group.name, "channels": group.channels, "kept": int(width)}
        for group, width in zip(analysis.groups, widths, strict=True)
    ]


def frozen_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Weights with channels that cannot be pruned, and why."""
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
    """Groups with members and shares, and what is frozen."""
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
    """The same for people."""
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
    return "\n".join(lines)
