"""Report what fine-tuning did: as values for JSON, and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxprune.groups.reach import Part as Reached
from onnxprune.report.parts import (
    Fact,
    Marked,
    Part,
    Table,
    accuracy_rows,
    drift_lines,
    left_lines,
    plain,
    rise,
    score_lines,
)
from onnxprune.report.text import amount
from onnxprune.report.values import Fidelity

__all__ = ["TrainingReport"]


@dataclass(frozen=True)
class TrainingReport:
    """Everything that `finetune` measured.

    Attributes:
        asked: the options that differ from their defaults.
        losses: weight of every loss that counted, by name.
        samples: trained on, and held out.
        history: loss and score (None without labels) on held-out samples, before and after each
            epoch.
        best: number of the epoch whose weights were taken, 0: none was better.
        reached: the parameters that were trained, and by name why others were not.
        bytes: size of the file, before and after.
        fidelity: drift of the outputs, accuracy where labels of a test are known.
        environment: what was run on.
        notes: what else happened.
        evaluation: the user's score before and after.
    """

    asked: Mapping[str, Any]
    losses: Mapping[str, float]
    samples: tuple[int, int]
    history: Sequence[tuple[float, float | None]]
    best: int
    reached: Reached
    bytes: tuple[int, int]
    fidelity: Fidelity | None
    environment: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)
    evaluation: Mapping[str, Any] | None = None

    def values(self) -> dict[str, Any]:
        """The content of the JSON report."""
        return {
            "asked": dict(self.asked),
            "losses": dict(self.losses),
            "samples": {"trained": self.samples[0], "held_out": self.samples[1]},
            "history": [{"loss": loss, "score": score} for loss, score in self.history],
            "best": self.best,
            "parameters": asdict(self.reached),
            "before": {"file": self.bytes[0]},
            "after": {"file": self.bytes[1]},
            "fidelity": None if self.fidelity is None else asdict(self.fidelity),
            "environment": dict(self.environment),
            "notes": list(self.notes),
            "evaluation": None if self.evaluation is None else dict(self.evaluation),
        }

    def __getitem__(self, key: str) -> Any:
        """An entry of `values`: `report["best"]`."""
        return self.values()[key]

    def text(self) -> str:
        """The report as a table and lines of text."""
        return plain(self.parts())

    def parts(self) -> Iterator[Part]:
        """What people read."""
        yield Table(self._rows())
        yield from self._lines()

    def _rows(self) -> list[Sequence[str]]:
        first, last = self.history[0], self.history[self.best]
        rows: list[Sequence[str]] = [("", "before", "after", "change")]
        mood = "good" if last[0] < first[0] else ""
        change = Marked(f"{last[0] - first[0]:+.4f}", mood)
        rows.append(("loss (held out)", f"{first[0]:.4f}", f"{last[0]:.4f}", change))
        if first[1] is not None and last[1] is not None:
            moved = rise(last[1], first[1])
            rows.append(("score (held out)", f"{first[1]:.2%}", f"{last[1]:.2%}", moved))
        return [*rows, *accuracy_rows(self.fidelity)]

    def _lines(self) -> Iterator[Part]:
        losses = ", ".join(f"{name} {weight:g}" for name, weight in self.losses.items())
        yield Fact("losses", losses)
        count, held = self.samples
        yield Fact("samples", f"{count} trained on, {held} held out")
        epochs = len(self.history) - 1
        best = f"the best is {self.best}" if self.best else "none was better, the weights stay"
        yield Fact("epochs", f"{epochs}, {best}")
        yield from drift_lines(self.fidelity, " from the input")
        yield from score_lines(self.evaluation)
        share = self.reached.reached / max(self.reached.count, 1)
        shown = amount(self.reached.count, "params")
        yield Fact("tuned", f"{share:.1%} of {shown} parameters")
        yield from left_lines(self.reached, "tensor")
        yield from (Fact("note", note) for note in self.notes)
