"""Report what making a model sparse did: as values for JSON, and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from onnxprune.groups.reach import Reach
from onnxprune.ir.timing import Latency
from onnxprune.report.parts import (
    Fact,
    Part,
    Table,
    accuracy_rows,
    drift_lines,
    plain,
    ratio,
    reach_lines,
    score_lines,
    time_ratio,
)
from onnxprune.report.text import amount
from onnxprune.report.values import Fidelity
from onnxprune.sparsity.density import LayerDensity, Sizes, overall

__all__ = ["SPEED", "SparseReport", "layer_parts"]

#: The note that every report ends with.
SPEED = (
    "onnxruntime's kernels multiply zeros like any other number: the file compresses better, the "
    "model is not faster. Pruning channels is what saves time there"
)


@dataclass(frozen=True)
class SparseReport:
    """Everything that `sparsify` measured.

    Attributes:
        asked: the options that say what to make sparse.
        layers: density of each weight that was made sparse.
        skipped: by name of each other weight, why it was left as it is.
        sizes: bytes before and after.
        fidelity: how far the outputs drifted, None where it was not measured.
        latency: of both models, None where it was not measured.
        updated: whether weights that stay were changed to compensate.
        environment: what was measured on.
        notes: what else happened.
        evaluation: the user's score before and after.
        calibration: what it reached of the model, None without samples.
    """

    asked: Mapping[str, Any]
    layers: Sequence[LayerDensity]
    skipped: Mapping[str, str]
    sizes: tuple[Sizes, Sizes]
    fidelity: Fidelity | None
    latency: tuple[Latency, Latency] | None
    updated: bool
    environment: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)
    evaluation: Mapping[str, Any] | None = None
    calibration: Reach | None = None

    @property
    def density(self) -> float:
        """Share of numbers that are not zero, in the weights that were made sparse."""
        return overall(self.layers)["density"]

    def values(self) -> dict[str, Any]:
        """The content of the JSON report."""
        times = self.latency or (None, None)
        return {
            "asked": dict(self.asked),
            "density": self.density,
            "layers": [row.values() for row in self.layers],
            "skipped": dict(self.skipped),
            "before": _side(self.sizes[0], times[0]),
            "after": _side(self.sizes[1], times[1]),
            "fidelity": None if self.fidelity is None else asdict(self.fidelity),
            "updated": self.updated,
            "environment": dict(self.environment),
            "notes": list(self.notes),
            "evaluation": None if self.evaluation is None else dict(self.evaluation),
            "calibration": None if self.calibration is None else self.calibration.values(),
        }

    def __getitem__(self, key: str) -> Any:
        """An entry of `values`: `report["density"]`."""
        return self.values()[key]

    def text(self) -> str:
        """The report as a table and lines of text."""
        return plain(self.parts())

    def parts(self) -> Iterator[Part]:
        """What people read."""
        yield Table(self._rows())
        yield from self._lines()

    def _rows(self) -> list[Sequence[str]]:
        before, after = self.sizes
        rows: list[Sequence[str]] = [("", "before", "after", "ratio")]
        pairs = [("file", before.file, after.file), ("zip", before.zip, after.zip)]
        if before.zstd is not None and after.zstd is not None:
            pairs.append(("zstd", before.zstd, after.zstd))
        for name, old, new in pairs:
            rows.append((name, amount(old, "bytes"), amount(new, "bytes"), ratio(new, old)))
        if self.latency is not None:
            a_ms, b_ms = (one.median_ms for one in self.latency)
            share = time_ratio(b_ms, a_ms)
            rows.append(("latency", f"{a_ms:.3g} ms", f"{b_ms:.3g} ms", share))
        return [*rows, *accuracy_rows(self.fidelity)]

    def _lines(self) -> Iterator[Part]:
        total = int(overall(self.layers)["numbers"])
        asked = ", ".join(f"{k} {v}" for k, v in self.asked.items())
        yield Fact("asked", asked)
        yield Fact(
            "density", f"{self.density:.4f} of {total} numbers in {len(self.layers)} weights"
        )
        changed = "moved to make up for them" if self.updated else "bit-identical"
        yield Fact("kept", f"weights that stay are {changed}")
        yield from drift_lines(self.fidelity)
        yield from score_lines(self.evaluation)
        for reason, count in Counter(self.skipped.values()).most_common(5):
            yield Fact("skipped", f"{count} weight{'s' * (count > 1)}: {reason}")
        yield from reach_lines(self.calibration)
        yield from (Fact("note", note) for note in self.notes)


def _side(sizes: Sizes, latency: Latency | None) -> dict[str, Any]:
    return {**asdict(sizes), "latency": None if latency is None else asdict(latency)}


def layer_parts(rows: Sequence[LayerDensity]) -> Iterator[Part]:
    """A table of weights: density, patterns that they hold, whether TensorRT makes use of these."""
    lines: list[Sequence[str]] = [
        ("weight", "operator", "shape", "density", "patterns", "TensorRT")
    ]
    for row in rows:
        verdict = row.tensorrt or ("yes" + (f", but {row.unlikely}" if row.unlikely else ""))
        shape = "x".join(map(str, row.shape))
        patterns = " ".join(row.patterns) or "-"
        lines.append((row.name, row.op, shape, f"{row.density:.4f}", patterns, verdict))
    total = overall(rows)
    yield Table(lines)
    yield f"density {total['density']:.4f} of {int(total['numbers'])} numbers; {SPEED}"
