"""Report the results of many targets side by side: as values for JSON, and as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxprune.report.parts import Fact, Marked, Part, Table, plain
from onnxprune.report.report import Report
from onnxprune.report.text import amount

__all__ = ["Sweep", "Swept", "Target", "target_name"]

Target = Mapping[str, str | float]


@dataclass(frozen=True)
class Swept:
    """What one target gave.

    Attributes:
        target: metrics and amounts.
        report: of the pruned model; None where there is none.
        score: the user's, None without a function.
        why: why there is no model; else empty.
        file: where the model was written; empty where it was not.
    """

    target: Target
    report: Report | None
    score: float | None = None
    why: str = ""
    file: str = ""


@dataclass(frozen=True)
class Sweep:
    """The results of all targets, in the order that they were asked for.

    Attributes:
        targets: what each gave.
        score: the user's, of the original; None without a function.
        notes: what else there is to say.
    """

    targets: Sequence[Swept]
    score: float | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def reports(self) -> list[Report]:
        """The reports of all targets that were reached."""
        return [one.report for one in self.targets if one.report is not None]

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        name, original, _ = self._judged()
        environment = self.reports[0].environment if self.reports else {}
        return {
            "quality": {"name": name, "original": original},
            "targets": [self._row(one) for one in self.targets],
            "environment": dict(environment),
            "notes": list(self.notes),
        }

    def _row(self, one: Swept) -> dict[str, Any]:
        return {
            "target": dict(one.target),
            "quality": self._quality(one),
            "score": one.score,
            "why": one.why,
            "file": one.file,
            "report": None if one.report is None else one.report.values(),
        }

    def _quality(self, one: Swept) -> float | None:
        """What a target is judged by; None where it was not reached."""
        if one.report is None:
            return None
        return one.score if self.score is not None else self._judged()[2](one.report)

    def _judged(self) -> tuple[str, float, Callable[[Report], float]]:
        """What all results are judged by: its name, the original's, and how it is read."""
        drifts = [report.fidelity for report in self.reports]
        if self.score is not None:
            return "your score", self.score, lambda _: 0.0
        if drifts and all(drift and drift.accuracy for drift in drifts):
            first = drifts[0].accuracy if drifts[0] else None
            return "top-1", first[0] if first else 0.0, lambda one: one.after.accuracy or 0.0
        if drifts and all(drift and drift.agreement is not None for drift in drifts):
            return "top-1 agreement", 1.0, lambda r: (r.fidelity and r.fidelity.agreement) or 0.0
        return "cosine of the outputs", 1.0, lambda r: r.fidelity.cosine if r.fidelity else 0.0

    def text(self) -> str:
        """One line for each target."""
        return plain(self.parts())

    def parts(self) -> Iterator[Part]:
        """What people read: one line for each target."""
        name, original, _ = self._judged()
        head = ("target", "MACs", "parameters", "file", "latency", name, "proof")
        rows: list[Sequence[str]] = [head]
        if self.reports:
            before = self.reports[0].before
            costs = (amount(getattr(before, n), n) for n in ("macs", "params", "bytes"))
            rows.append(("original", *costs, "", f"{original:.4g}", ""))
        yield Table([*rows, *map(self._line, self.targets)])
        for one in self.targets:
            if one.why:
                yield Fact("missed", Marked(f"{target_name(one.target)}: {one.why}", "bad"))
        yield from (Fact("wrote", one.file) for one in self.targets if one.file)
        yield from (Fact("note", note) for note in self.notes)

    def _line(self, one: Swept) -> Sequence[str]:
        report, name = one.report, target_name(one.target)
        if report is None:
            return (name, *["-"] * 6)
        shares = [f"{report.achieved[metric]:.3f}" for metric in ("macs", "params", "size")]
        proof = "equal" if report.proof.passed else Marked("NOT equal", "bad")
        return (name, *shares, _time(report), f"{self._quality(one) or 0.0:.4g}", proof)


def _time(report: Report) -> str:
    """Format the share of the original's time; `-` where it was not timed."""
    time = report.achieved.get("latency")
    if time is None:
        return "-"
    return Marked(f"{time:.3f} (slower)", "bad") if report.slower else f"{time:.3f}"


def target_name(target: Target) -> str:
    """A target as users write it: `macs=0.5+size=2MB`."""
    return "+".join(f"{metric}={value}" for metric, value in target.items())
