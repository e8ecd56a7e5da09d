"""Report what pruning did, and how two models differ: as values for JSON, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxprune.groups.group_divergence import GroupDivergence
from onnxprune.groups.reach import Reach
from onnxprune.ir.timing import Latency
from onnxprune.report.parts import (
    Fact,
    Marked,
    Part,
    Table,
    plain,
    ratio,
    reach_lines,
    rise,
    time_ratio,
)
from onnxprune.report.text import amount
from onnxprune.report.values import Fidelity, LayerDivergences, Measured
from onnxprune.report.verdict import verdict
from onnxprune.surgery.proof import SEEDED, Proof

__all__ = ["SLOWER", "Report", "comparison"]

#: What is said of a pruned model that takes more time than its original.
SLOWER = (
    "the pruned model takes MORE time than the original on this machine: widths on its kernels' "
    "blocks save nothing here. Prune further, or ask for --target latency=0.8"
)
_TITLES = {"macs": "MACs", "params": "parameters", "bytes": "file", "nodes": "nodes"}


@dataclass(frozen=True)
class Report:
    """Everything that `prune` measured.

    Attributes:
        before: costs of the original.
        after: costs of the pruned model.
        target: what the user asked for.
        achieved: costs of the pruned model in shares of the original's.
        proof: that the cut was exact.
        fidelity: how far the outputs drifted, None where it was not measured.
        groups: name, channels and kept channels of each group.
        frozen: weights with channels that cannot be pruned, and why.
        environment: what was measured on.
        notes: what else happened.
        warnings: what may be wrong with the original.
        evaluation: the user's score before and after, and all targets that were tried for it.
        calibration: what it reached of the model, None without samples.
        slower: the pruned model takes more time than the original; None where that was not timed.
        blocks: channels that the runtime's kernels take at once, on which widths lie; None where
            the user chose otherwise.
        sensitivities: how the outputs answer to the width of each group, where that was measured.
        layers: how far single layers drifted, where that was asked for.
    """

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
    calibration: Reach | None = None
    slower: bool | None = None
    blocks: Mapping[str, Any] | None = None
    sensitivities: Sequence[GroupDivergence] = ()
    layers: LayerDivergences | None = None

    def values(self) -> dict[str, Any]:
        """The content of the JSON report."""
        return {
            "verdict": self.verdict,
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
            "calibration": None if self.calibration is None else self.calibration.values(),
            "slower": self.slower,
            "blocks": None if self.blocks is None else dict(self.blocks),
            "sensitivities": [row.values() for row in self.sensitivities],
            "layers": None if self.layers is None else asdict(self.layers),
        }

    @property
    def verdict(self) -> str:
        """All of it in one line."""
        return verdict(self.before, self.after, self.fidelity, self.proof, self.evaluation)

    def __getitem__(self, key: str) -> Any:
        """An entry of `values`: `report["achieved"]["macs"]`."""
        return self.values()[key]

    def text(self) -> str:
        """The report as a table and lines of text."""
        return plain(self.parts())

    def parts(self) -> Iterator[Part]:
        """What people read."""
        bad = self.slower or not self.proof.passed
        yield Fact("verdict", Marked(self.verdict, "bad" if bad else "good"))
        yield _before_after(self.before, self.after)
        target = ", ".join(f"{k} {v}" for k, v in self.target.items()) or "whatever is free"
        achieved = ", ".join(f"{k} {v:.4g}" for k, v in self.achieved.items())
        yield Fact("target", f"{target}; achieved {achieved}")
        passed = "equal" if self.proof.passed else "NOT equal"
        error = self.proof.max_relative_error
        fed = "" if self.proof.inputs == SEEDED else f", on {self.proof.inputs}"
        what = f"pruned and {self.proof.reference}: {passed}, relative error {error:.1e}"
        yield Fact("proof", Marked(f"{what}{fed}", "good" if self.proof.passed else "bad"))
        yield from _drift_lines(self.fidelity, self.environment, self.before.latency is not None)
        channels = sum(row["channels"] for row in self.groups)
        kept = sum(row["kept"] for row in self.groups)
        yield from _score_lines(self.evaluation)
        yield Fact("groups", f"{len(self.groups)}: {kept} of {channels} channels kept")
        yield from _block_lines(self.blocks)
        reasons = Counter(f"{row['reason']}" for row in self.frozen)
        for reason, count in reasons.most_common(3):
            yield Fact("frozen", f"{count} weight{'s' * (count > 1)}: {reason}")
        yield from reach_lines(self.calibration)
        yield from (Fact("note", Marked(warning, "warn")) for warning in self.warnings)
        yield from (Fact("note", note) for note in self.notes)
        if self.slower:
            yield Fact("slower", Marked(SLOWER, "bad"))


def comparison(
    before: Measured, after: Measured, drift: Fidelity, environment: Mapping[str, Any]
) -> Iterator[Part]:
    """Compare two models in a table, and say how far outputs drifted and what timed them."""
    yield _before_after(before, after)
    yield from _drift_lines(drift, environment, before.latency is not None)


def _before_after(before: Measured, after: Measured) -> Table:
    """A table of the costs of both models, and their ratios."""
    rows: list[Sequence[str]] = [("", "before", "after", "ratio")]
    for name in ("macs", "params", "bytes", "nodes"):
        a, b = getattr(before, name), getattr(after, name)
        rows.append((_TITLES[name], amount(a, name), amount(b, name), ratio(b, a)))
    if before.latency and after.latency:
        times = before.latency.median_ms, after.latency.median_ms
        share = time_ratio(times[1], times[0])
        rows.append(("latency", _ms(before.latency), _ms(after.latency), share))
    if before.accuracy is not None and after.accuracy is not None:
        a, b = before.accuracy, after.accuracy
        rows.append(("top-1", f"{a:.2%}", f"{b:.2%}", rise(b, a)))
    return Table(rows)


def _drift_lines(
    drift: Fidelity | None, environment: Mapping[str, Any], timed: bool
) -> Iterator[Part]:
    """Drift, and what latency was measured on."""
    if drift is not None:
        yield Fact("drift", _drift_text(drift))
    if timed:
        yield Fact("measured", ", ".join(f"{k} {v}" for k, v in environment.items()))


def _block_lines(blocks: Mapping[str, Any] | None) -> Iterator[Part]:
    """The channels that kernels take at once."""
    if blocks is not None:
        yield Fact(
            "blocks",
            f"{blocks['convolution']} channels of convolutions, {blocks['product']} of matrix "
            f"products ({blocks['source']}); {blocks['groups_with_parts']} groups keep parts",
        )


def _score_lines(evaluation: Mapping[str, Any] | None) -> Iterator[Part]:
    """The user's own score, and every target that was tried for it."""
    if evaluation is None:
        return
    before, after = evaluation["before"], evaluation["after"]
    yield Fact("score", f"{before:.4g} before, {after:.4g} after ({evaluation['function']})")
    for tried in evaluation.get("tries", ()):
        score = "out of reach" if tried["score"] is None else f"score {tried['score']:.4g}"
        verdict = "" if tried["within"] or tried["score"] is None else ", drops too much"
        text = f"{evaluation['metric']} {tried['share']:.4g}: {score}{verdict}"
        yield Fact("tried", Marked(text, "warn" if not tried["within"] else ""))


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


def _ms(latency: Latency) -> str:
    spread = (latency.p90_ms - latency.p10_ms) / 2
    return f"{latency.median_ms:.3g} ±{spread:.2g} ms"


def _drift_text(value: Fidelity) -> str:
    agree = "" if value.agreement is None else f", top-1 agreement {value.agreement:.1%}"
    sqnr = "outputs equal" if value.sqnr_db is None else f"SQNR {value.sqnr_db:.1f} dB"
    return f"cosine {value.cosine:.4f}, {sqnr}{agree} ({value.samples} samples, {value.data})"
