"""Propose targets for a model: what each would leave of it, and the commands to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onnxprune.report.parts import Fact, Heading, Marked, Part, Table, plain, ratio, time_ratio

__all__ = ["Candidate", "Proposal"]

#: A plan that takes less than this share of the original's time is worth it.
FASTER = 0.97


@dataclass(frozen=True)
class Candidate:
    """A target, and what it would leave of the model.

    Attributes:
        share: of the MACs.
        shares: of MACs, parameters and bytes that stay, by name; empty where it is out of reach.
        kept: channels that stay.
        time: share of the original's time, None where it was not measured.
        refused: why it is out of reach.
    """

    share: float
    shares: Mapping[str, float]
    kept: int = 0
    time: float | None = None
    refused: str = ""

    @property
    def target(self) -> str:
        """The target as users type it."""
        return f"macs={self.share:g}"

    @property
    def typed(self) -> list[str]:
        """The option that asks for it."""
        return ["--target", self.target]


@dataclass(frozen=True)
class Proposal:
    """What could be done with a model.

    Attributes:
        summary: what it costs, what can go, what blocks the rest.
        channels: that can go.
        candidates: targets, the mildest first.
        calibrated: the user named samples.
        notes: what else there is to say.
    """

    summary: Sequence[Part]
    channels: int
    candidates: Sequence[Candidate]
    calibrated: bool = False
    notes: Sequence[str] = field(default_factory=tuple)

    def advised(self, calibrated: bool) -> Candidate | None:
        """The target to begin with; None where none is within reach.

        With samples the last one that takes less time than those before it, or the last one where
        nothing was timed; without them the mildest, as accuracy then falls quickly.
        """
        reached = [one for one in self.candidates if not one.refused]
        if not reached or not calibrated:
            return reached[0] if reached else None
        times = [one.time for one in reached if one.time is not None]
        if len(times) < len(reached):
            return reached[-1]
        best = 0
        for k, time in enumerate(times):
            best = k if time < FASTER * times[best] else best
        return reached[best]

    def parts(self, model: str, words: Sequence[str] = ()) -> Iterator[Part]:
        """What people read.

        Args:
            model: its path.
            words: options that the user gave, which the commands repeat.
        """
        yield from self.summary
        if self.candidates:
            yield Heading("targets, and what would be left")
            yield self._table()
        refused = [one.refused for one in self.candidates if one.refused]
        yield from (Fact("refused", Marked(why, "bad")) for why in refused[:1])
        yield from (Fact("note", note) for note in self.notes)
        yield from (Fact("advised", text) for text in self._advice())
        yield Heading("to type")
        for why, command in self.commands(model, words):
            yield Marked(f"  # {why}", "quiet")
            yield f"  {command}"

    def text(self, model: str, words: Sequence[str] = ()) -> str:
        """The parts as text."""
        return plain(self.parts(model, words))

    def _table(self) -> Table:
        rows: list[Sequence[str]] = [("target", "MACs", "parameters", "file", "time", "channels")]
        for one in self.candidates:
            if one.refused:
                rows.append((one.target, Marked("refused", "bad"), "", "", "", ""))
                continue
            costs = [ratio(one.shares[name], 1) for name in ("macs", "params", "size")]
            time = "" if one.time is None else time_ratio(one.time, 1)
            rows.append((one.target, *costs, time, f"{one.kept} of {self.channels}"))
        return Table(rows, indent=2)

    def _advice(self) -> Iterator[str]:
        """What to do with this model, in sentences."""
        if self.advised(calibrated=True) is None:
            yield "no target is within reach: --verbose lists what blocks each weight"
            return
        if not self.calibrated:
            yield (
                "give a few hundred samples without labels (--calib): without them accuracy falls "
                "quickly. The table follows from weights alone; samples may choose other widths"
            )
        times = [one.time for one in self.candidates if one.time is not None]
        if times and min(times) >= FASTER:
            yield "fewer MACs take no less time on this machine: ask for --target latency=0.9"
        yield "accuracy is not predicted: --data test.npz with labels measures it"

    def commands(self, model: str, words: Sequence[str] = ()) -> list[tuple[str, str]]:
        """What each command is for, and the command; only names of samples are to be filled in."""
        best, mild = self.advised(calibrated=True), self.advised(calibrated=False)
        if best is None or mild is None:
            return [("why", shlex.join(["onnxprune", "inspect", model, "--verbose"]))]
        samples = [] if self.calibrated else ["--calib", "samples.npz"]
        score = ["--max-drop", "0.01", "--evaluate", "score.py:accuracy"]
        found = [
            ("calibrated on your samples", [*best.typed, *samples]),
            ("the smallest that keeps your own score", [*score, *samples]),
        ]
        if not self.calibrated:
            found.insert(1, ("without samples, where accuracy falls quickly", mild.typed))
        start = ["onnxprune", "prune", model, f"{Path(model).stem}_pruned.onnx"]
        return [(why, shlex.join([*start, *own, *words])) for why, own in found]
