"""Report what changed between two models: as values for JSON, and as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxprune.ir.model_changes import ModelChanges, NodeChange, NodeName, WeightChange
from onnxprune.report.names import short_names, together
from onnxprune.report.parts import Fact, Heading, Marked, Part, Table, plain, ratio
from onnxprune.report.text import amount

__all__ = ["Difference"]

#: Rows that a list shows of nodes, and of weights, unless all are asked for.
NODES, WEIGHTS = 30, 10
_TITLES = {"macs": "MACs", "params": "parameters", "bytes": "file", "nodes": "nodes"}


@dataclass(frozen=True)
class Difference:
    """What two models have in common, and what not.

    Attributes:
        changes: nodes, weights, inputs and outputs that differ.
        totals: MACs, parameters, bytes and nodes of both by name; None where that is not known.
        notes: what could not be counted, and why.
    """

    changes: ModelChanges
    totals: Mapping[str, tuple[float | None, float | None]]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def equal(self) -> bool:
        """Whether nothing differs but names inside the graph."""
        found = self.changes
        lists = found.gone, found.new, found.changed, found.weights, found.interface, found.about
        return not any(lists)

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        found = self.changes
        return {
            "equal": self.equal,
            "totals": {
                name: {"before": a, "after": b} for name, (a, b) in sorted(self.totals.items())
            },
            "nodes": {
                "same": found.same,
                "gone": [node._asdict() for node in found.gone],
                "new": [node._asdict() for node in found.new],
                "changed": [_values_of(change) for change in found.changed],
            },
            "weights": [change._asdict() for change in found.weights],
            "interface": {name: list(pair) for name, pair in found.interface.items()},
            "about": {name: list(pair) for name, pair in found.about.items()},
            "notes": list(self.notes),
        }

    def parts(self, every: bool = False) -> Iterator[Part]:
        """What people read: `every` row with whole names, or the first ones with short names."""
        found = self.changes
        yield Table(list(self._totals()))
        if self.equal:
            yield Fact("equal", "nothing differs but names inside the graph")
        nodes = f"{len(found.changed)} changed, {len(found.gone)} gone, {len(found.new)} new"
        yield Fact("nodes", f"{nodes}, {found.same} the same")
        yield from (_interface(name, pair) for name, pair in found.interface.items())
        yield from (Fact("model", f"{name}: {_arrow(*pair)}") for name, pair in found.about.items())
        yield from (Fact("note", note) for note in self.notes)
        nodes_shown, weights_shown = (10**9, 10**9) if every else (NODES, WEIGHTS)
        yield from _listed("changed", _changed(found.changed, short=not every), nodes_shown)
        yield from _listed("gone", [_named(one, "bad") for one in found.gone], nodes_shown)
        yield from _listed("new", [_named(one, "good") for one in found.new], nodes_shown)
        rows = [_weight_row(change) for change in found.weights]
        yield from _listed("weights by size", rows, weights_shown, left=2)

    def text(self, every: bool = False) -> str:
        """The parts as text."""
        return plain(self.parts(every))

    def _totals(self) -> Iterator[Sequence[str]]:
        yield ("", "before", "after", "ratio")
        for name, title in _TITLES.items():
            a, b = self.totals[name]
            shown = ["?" if value is None else amount(value, name) for value in (a, b)]
            known = a is not None and b is not None
            yield (title, *shown, ratio(b or 0, a or 0) if known else "")


def _interface(name: str, pair: tuple[str, str]) -> Fact:
    """A line for an input or output."""
    kind, _, own = name.partition(" ")
    return Fact(kind, f"{own}: {_arrow(*pair)}")


def _arrow(before: str, after: str) -> str:
    return f"{before} → {after}"


def _listed(title: str, rows: Sequence[Sequence[str]], shown: int, left: int = 3) -> Iterator[Part]:
    """A list under its title, cut short with the number of rows that are left."""
    if not rows:
        return
    yield Heading(f"{title} ({len(rows)})")
    yield Table(rows[:shown], left=left, head=False, indent=2)
    if len(rows) > shown:
        yield f"  and {len(rows) - shown} more: --verbose lists them"


def _named(node: NodeName, mood: str) -> Sequence[str]:
    return (node.op, Marked(node.name, mood))


def _changed(changes: Sequence[NodeChange], short: bool) -> list[Sequence[str]]:
    """A row for each node: name, operator, and all that is different."""
    names = [change.node.name for change in changes]
    if short:
        layers = [re.sub(rf"(?<=.)/{re.escape(op)}(_\d+)?$", "", n) for n, op in _nodes(changes)]
        names = short_names(layers)
    told = [_differences(change, short) for change in changes]
    ops = [op for _, op in _nodes(changes)]
    return list(zip(names, ops, told, strict=True))


def _nodes(changes: Sequence[NodeChange]) -> list[NodeName]:
    return [change.node for change in changes]


def _differences(change: NodeChange, short: bool) -> str:
    """All that is different at a node."""
    told = [f"{name} {_arrow(*pair)}" for name, pair in change.attributes.items()]
    told += _weights_text(change.weights, short)
    told += [f"input {link.number} {_arrow(link.before, link.after)}" for link in change.inputs]
    if change.outputs is not None:
        told.append(f"{change.outputs[0]} → {change.outputs[1]} outputs")
    return "; ".join(told)


def _weights_text(weights: Sequence[WeightChange], short: bool) -> list[str]:
    """Weights of a node; those that change alike are named together."""
    alike: dict[str, list[str]] = {}
    for change in weights:
        own = re.split(r"[./:]", change.name)[-1] or change.name
        alike.setdefault(_what(change), []).append(own if short else change.name)
    return [
        f"{', '.join(names) if short else together(names)} {what}" for what, names in alike.items()
    ]


def _what(change: WeightChange) -> str:
    """What happened to a weight."""
    if change.before is None or change.after is None:
        return f"{change.after} new" if change.before is None else f"{change.before} gone"
    if change.before == change.after:
        return f"{change.before} other numbers"
    return _arrow(change.before, change.after)


def _weight_row(change: WeightChange) -> Sequence[str]:
    """A row for a weight: its name, what happened, and bytes."""
    a, b = change.bytes
    sizes = amount(a, "bytes") if a == b else _arrow(amount(a, "bytes"), amount(b, "bytes"))
    mood = "good" if b < a else "bad" if b > a else ""
    return (change.name, _what(change), Marked(sizes, mood))


def _values_of(change: NodeChange) -> dict[str, Any]:
    """A changed node for JSON."""
    return {
        **change.node._asdict(),
        "attributes": {name: list(pair) for name, pair in change.attributes.items()},
        "weights": [weight._asdict() for weight in change.weights],
        "inputs": [link._asdict() for link in change.inputs],
        "outputs": change.outputs,
    }
