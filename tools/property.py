"""Draw thousands of random graphs, prune each one, and compare it with its masked original.

Usage: `python tools/property.py --examples 10000`. Every graph loses random channels twice; every
third one is also given channels of zeros, which must go without loss, and in every fourth one
normalisations may lose channels too. Prints what was drawn and the smallest graph of each kind of
failure, and exits with 1 if there is one.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import click
from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))

from properties import planted_goes, pruned_is_masked
from random_graphs import Random, graphs

#: Graphs drawn under one seed; hypothesis never draws the same one twice there.
CHUNK = 500


@dataclass
class Found:
    """What was drawn so far; `failures` holds the smallest graph for each message."""

    operators: Counter[str] = field(default_factory=Counter)
    graphs: int = 0
    prunable: int = 0
    channels: int = 0
    unequal: int = 0
    planted: int = 0
    gone: int = 0
    failures: dict[str, Random] = field(default_factory=dict)

    def take(self, drawn: Random) -> None:
        """Check one graph and count it."""
        self.graphs += 1
        self.operators.update(drawn.operators().keys())
        try:
            channels = pruned_is_masked(drawn, inexact=self.graphs % 4 == 0)
            self.prunable += channels > 0
            self.channels += channels
            if self.graphs % 3 == 0 and _wide(drawn):
                planted, gone = planted_goes(drawn)
                self.planted += planted
                self.gone += gone
        except Exception as error:  # whatever it is, it is a bug
            self.unequal += 1
            kind = f"{type(error).__name__}: {str(error).partition(':')[0][:100]}"
            smallest = self.failures.get(kind)
            if smallest is None or len(drawn.model.graph.node) < len(smallest.model.graph.node):
                self.failures[kind] = drawn

    def report(self, seconds: float) -> str:
        """The counts as text."""
        by_count = ", ".join(f"{op} {n}" for op, n in self.operators.most_common())
        return "\n".join(
            [
                f"graphs      {self.graphs}, {self.prunable} of them with prunable channels",
                f"channels    {self.channels} could go, {self.gone} of {self.planted} planted went",
                f"unequal     {self.unequal}",
                f"seconds     {seconds:.0f}",
                f"operators   {len(self.operators)}, in how many graphs each: {by_count}",
            ]
        )


def _wide(drawn: Random) -> bool:
    """Half precision cannot tell a sum from the same in another order."""
    return all(value.type.tensor_type.elem_type != 10 for value in drawn.model.graph.output)


@click.command()
@click.option("--examples", default=10_000, type=click.IntRange(1), show_default=True)
@click.option("--seed", "first", default=0, show_default=True, help="Other seeds, other graphs.")
def main(examples: int, first: int) -> None:
    """Check the properties of random graphs."""
    found, start = Found(), perf_counter()
    for chunk in range(-(-examples // CHUNK)):
        drawn = settings(
            max_examples=min(CHUNK, examples - found.graphs),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(given(graphs())(found.take))
        seed(first * 100_000 + chunk)(drawn)()
        if sys.stderr.isatty():
            print(f"{found.graphs} graphs, {found.unequal} unequal", file=sys.stderr)
    print(found.report(perf_counter() - start))
    for kind, smallest in found.failures.items():
        print(f"\n{kind}\n{smallest!r}")
    sys.exit(bool(found.unequal))


if __name__ == "__main__":
    main()
