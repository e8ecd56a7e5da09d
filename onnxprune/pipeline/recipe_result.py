"""Tell what a recipe gave: the last model, and a line for every stage beside the original."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnxprune.ir.graph import ModelProto
from onnxprune.ir.model import Model
from onnxprune.ir.timing import Latency
from onnxprune.report.parts import Fact, Marked, Part, Table, plain, ratio, time_ratio
from onnxprune.report.text import amount

__all__ = ["RecipeResult", "StageReport"]


@dataclass(frozen=True)
class StageReport:
    """What one stage gave: bytes, drift, top-1, score and latency beside the original's.

    `details` is the stage's own report; `resumed`: it was finished in a run before; `notes` is what
    else there is to say; `latency` are the timings of original and result in full.
    """

    kind: str
    bytes: int
    seconds: float
    fidelity: Mapping[str, Any]
    latency_ms: tuple[float, float] | None
    score: float | None
    details: Mapping[str, Any]
    resumed: bool = False
    notes: Sequence[str] = ()
    latency: tuple[Latency, Latency] | None = None


@dataclass(frozen=True)
class RecipeResult:
    """The result of a recipe and the report of every stage.

    Attributes:
        made: the model after the last stage.
        hash: digest of all that it depends on, which tells runs apart.
        bytes: size of the original's file.
        stages: what each stage did.
        environment: what was measured on.
        score: the user's, of the original.
        notes: what else there is to say.
    """

    made: Model
    hash: str
    bytes: int
    stages: Sequence[StageReport]
    environment: Mapping[str, Any]
    score: float | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def model(self) -> ModelProto:
        """The model with all weights in memory."""
        return self.made.whole

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model, see `onnxprune.ir.model.Model.save`."""
        return self.made.save(path, external_data)

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "recipe": self.hash,
            "bytes": self.bytes,
            "score": self.score,
            "stages": [asdict(stage) for stage in self.stages],
            "environment": dict(self.environment),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """One line for each stage."""
        return plain(self.parts())

    def parts(self) -> Iterator[Part]:
        """What people read."""
        head = ("stage", "file", "ratio", "latency", "top-1", "agreement", "score")
        first = ("original", amount(self.bytes, "bytes"), "1.000", "", "", "", _number(self.score))
        rows: list[Sequence[str]] = [head, first]
        for stage in self.stages:
            drift, times = stage.fidelity, stage.latency_ms
            right = drift.get("accuracy")
            agree = drift.get("agreement")
            rows.append(
                (
                    stage.kind + (" (resumed)" if stage.resumed else ""),
                    amount(stage.bytes, "bytes"),
                    ratio(stage.bytes, self.bytes),
                    "" if times is None else _time(*times),
                    "" if right is None else f"{right[0]:.2%} → {right[1]:.2%}",
                    "" if agree is None else f"{agree:.1%}",
                    _number(stage.score),
                )
            )
        yield Table(rows)
        yield Fact("recipe", self.hash)
        yield from (Fact("note", note) for note in self.notes)


def _time(before: float, after: float) -> str:
    return Marked(f"{after:.3g} ms ({after / before:.2f})", time_ratio(after, before).mood)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
