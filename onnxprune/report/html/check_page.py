"""The page of two models that were compared: `check`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxprune.report.html.about import About
from onnxprune.report.html.costs import (
    accuracy_card,
    before_after,
    headline,
    size_card,
    time_card,
)
from onnxprune.report.html.parts import Card, Page, Verdict, notes
from onnxprune.report.html.timing import timings

__all__ = ["check_page"]

Values = Mapping[str, Any]
#: Gates by the name of the setting: the value that they look at, and what it is called.
GATES = {"max_drop": ("drop", "drop"), "max_latency_ratio": ("latency_ratio", "ratio of times")}


def check_page(values: Values, about: About) -> Page:
    """Show a comparison, and whether gates were passed."""
    before, after = values["before"], values["after"]
    gates = [_gate(values, *GATES[name], limit) for name, limit in about.limits.items()]
    failed = [card for card in gates if card.tone == "bad"]
    text, tone = headline(before, after, None)
    if gates:
        passed = (
            "All gates are passed" if not failed else f"{len(failed)} of {len(gates)} gates fail"
        )
        text, tone = f"{passed}. {text}", "bad" if failed else "good"
    cards = [
        *gates,
        size_card(before, after),
        time_card(before.get("latency"), after.get("latency")),
        accuracy_card(values["fidelity"]),
    ]
    pair = [("original", before.get("latency")), ("other", after.get("latency"))]
    sections = [
        before_after("", (before, after)),
        *timings("", pair, values.get("environment", {})),
        *notes(values, ""),
    ]
    return Page("Compared", Verdict(text, cards, tone), sections)


def _gate(values: Values, key: str, name: str, limit: float) -> Card:
    """A limit, and whether the comparison is within it."""
    found = values[key]
    passed = found is None or found <= limit
    shown = "not measured" if found is None else f"{found:.4g}"
    more = f"{name} {shown}, limit {limit:g}"
    return Card("Gate", "passed" if passed else "FAILED", more, "good" if passed else "bad")
