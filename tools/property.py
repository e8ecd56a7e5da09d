"""Draw thousands of random graphs, prune each one, and compare it with its masked original.

Usage: `python tools/property.py --examples 10000`, or in parts: `--chunks 0:20 --tally found.json`,
then `--chunks 20:40` with the same file, and so on. A chunk is 500 graphs that its number and
`--seed` decide. Every graph loses random channels twice; every third one is also given channels of
zeros, which must go without loss, and in every fourth one normalisations may lose channels too.
Prints what was drawn, which rules of `onnxprune/ops` never occurred, and the smallest graph of each
kind of failure, and exits with 1 if there is one.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))

from properties import planted_goes, pruned_is_masked
from random_cases import NEVER
from random_graphs import Random, graphs

from onnxprune import ops
from onnxprune.atomic_files import write_whole
from onnxprune.errors import one_line

#: Graphs drawn under one seed; hypothesis never draws the same one twice there.
CHUNK = 500


@dataclass
class Found:
    """What was drawn so far; `failures` holds the smallest graph for each message."""

    counts: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    quantised: Counter[str] = field(default_factory=Counter)
    failures: dict[str, tuple[str, Random]] = field(default_factory=dict)

    def take(self, drawn: Random) -> None:
        """Check one graph and count it."""
        number = self.counts["graphs"]
        self.counts["graphs"] += 1
        self.operators.update(drawn.operators().keys())
        self.quantised.update(drawn.quantised())
        try:
            channels = pruned_is_masked(drawn, inexact=number % 4 == 3)
            self.counts.update(prunable=channels > 0, channels=channels)
            if number % 3 == 2 and _wide(drawn):
                planted, gone = planted_goes(drawn)
                self.counts.update(planted=planted, gone=gone)
        except Exception as error:  # whatever it is, it is a bug
            self.counts["unequal"] += 1
            kind = f"{type(error).__name__}: {str(error).partition(':')[0][:100]}"
            smallest = self.failures.get(kind)
            if smallest is None or _size(drawn) < _size(smallest[1]):
                self.failures[kind] = f"{type(error).__name__}: {one_line(error)}", drawn

    def values(self) -> dict[str, Mapping[str, float]]:
        """The counts, ready for JSON."""
        return {
            "counts": self.counts,
            "operators": self.operators,
            "quantised": self.quantised,
        }

    def add(self, values: Mapping[str, Mapping[str, int]]) -> None:
        """Add the counts of another part."""
        self.counts.update(values["counts"])
        self.operators.update(values["operators"])
        self.quantised.update(values["quantised"])


def report(found: Found) -> str:
    """The counts as text."""
    n = found.counts
    graphs, seconds = n["graphs"], n["milliseconds"] / 1000
    rules = sorted(ops.COUPLINGS)
    return "\n".join(
        [
            f"graphs      {graphs}, {n['prunable']} of them with prunable channels",
            f"channels    {n['channels']} could go, {n['gone']} of {n['planted']} planted went",
            f"unequal     {n['unequal']}",
            f"seconds     {seconds:.0f}, {1000 * seconds / max(graphs, 1):.0f} for 1000 graphs",
            f"rules       {_never(rules, found.operators)}",
            f"quantised   {_never(rules, found.quantised)}",
            f"operators   in how many graphs each: {_listed(found.operators)}",
        ]
    )


def _never(rules: Sequence[str], drawn: Mapping[str, int]) -> str:
    """How many operators with a rule were drawn, and the names of the others."""
    missing = [op for op in rules if op not in drawn]
    others = f"; not {', '.join(missing)}" if missing else ""
    return f"{len(rules) - len(missing)} of {len(rules)}{others}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{op} {n}" for op, n in counts.most_common())


def _size(drawn: Random) -> int:
    return len(drawn.model.graph.node)


def _wide(drawn: Random) -> bool:
    """Half precision cannot tell a sum from the same in another order."""
    return all(value.type.tensor_type.elem_type != 10 for value in drawn.model.graph.output)


def drawn_chunk(found: Found, number: int, examples: int) -> None:
    """Draw and check the graphs of one chunk."""
    part = Found(failures=found.failures)
    drawn = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(graphs())(part.take))
    start = perf_counter()
    seed(number)(drawn)()
    part.counts["milliseconds"] = round(1000 * (perf_counter() - start))
    found.add(part.values())  # type: ignore[arg-type]
    if sys.stderr.isatty():
        print(
            f"{found.counts['graphs']} graphs, {found.counts['unequal']} unequal", file=sys.stderr
        )


def _chunks(text: str | None, examples: int) -> range:
    if text is None:
        return range(-(-examples // CHUNK))
    begin, _, end = text.partition(":")
    return range(int(begin), int(end))


@click.command()
@click.option("--examples", default=10_000, type=click.IntRange(1), show_default=True)
@click.option("--chunks", metavar="FROM:TO", help="These chunks of 500 in place of --examples.")
@click.option("--seed", "first", default=0, show_default=True, help="Other seeds, other graphs.")
@click.option("--tally", metavar="FILE", help="Add the counts to those of earlier parts.")
def main(examples: int, chunks: str | None, first: int, tally: str | None) -> None:
    """Check the properties of random graphs."""
    found = Found()
    known: dict[str, Any] = {}
    if tally and Path(tally).exists():
        known = json.loads(Path(tally).read_text())
        found.add(known)
    for chunk in _chunks(chunks, examples):
        size = CHUNK if chunks else min(CHUNK, examples - chunk * CHUNK)
        drawn_chunk(found, first * 100_000 + chunk, size)
        if tally:
            write_whole(Path(tally), json.dumps(found.values(), indent=1).encode())
    print(report(found))
    print("never       " + "; ".join(f"{op}: {why}" for op, why in NEVER.items()))
    for message, smallest in found.failures.values():
        print(f"\n{message}\n{smallest!r}")
    sys.exit(bool(found.counts["unequal"]))


if __name__ == "__main__":
    main()
