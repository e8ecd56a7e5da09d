"""The page of a pruned model: `prune`, and `apply`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxprune.report.html.about import About
from onnxprune.report.html.candidates import Candidate, Quality, candidates
from onnxprune.report.html.costs import (
    accuracy_card,
    before_after,
    headline,
    known,
    proof_card,
    size_card,
    time_card,
)
from onnxprune.report.html.groups import frozen, reached, sensitivities, widths
from onnxprune.report.html.layers import layer_divergences
from onnxprune.report.html.parts import Page, Section, Verdict, notes
from onnxprune.report.html.scales import number
from onnxprune.report.html.timing import timings

__all__ = ["prune_page", "prune_sections"]

Values = Mapping[str, Any]


def prune_page(values: Values, about: About) -> Page:
    """Show a pruned model."""
    before, after = values["before"], values["after"]
    text, tone = headline(before, after, values.get("slower"))
    cards = known(
        [
            size_card(before, after),
            time_card(before.get("latency"), after.get("latency"), values.get("slower")),
            accuracy_card(values.get("fidelity"), values.get("evaluation")),
            proof_card(values.get("proof")),
        ]
    )
    verdict = Verdict(text, cards, tone, _target(values))
    return Page("Pruned", verdict, prune_sections("", values))


def prune_sections(prefix: str, values: Values) -> list[Section]:
    """Everything below the verdict; a recipe shows it for every stage that prunes."""
    before, after = values["before"], values["after"]
    environment = values.get("environment", {})
    pair = [("original", before.get("latency")), ("pruned", after.get("latency"))]
    return [
        before_after(prefix, (before, after), values.get("evaluation")),
        *_tries(prefix, values),
        *widths(prefix, values.get("groups", ()), values.get("blocks")),
        *timings(prefix, pair, environment),
        *sensitivities(prefix, values.get("sensitivities", ())),
        *layer_divergences(prefix, values.get("layers")),
        *reached(prefix, values.get("calibration")),
        *frozen(prefix, values.get("frozen", ())),
        *notes(values, prefix),
    ]


def _target(values: Values) -> str:
    """What was asked for, and what was reached of it."""
    parts = []
    for metric, amount in values.get("target", {}).items():
        share = values["achieved"].get(metric)
        shown = f"{amount:.4g}" if isinstance(amount, float) else str(amount)
        got = "" if share is None else f", reached {share:.4g} of the original"
        parts.append(f"{metric}={shown}{got}")
    return f"Asked: {'; '.join(parts)}." if parts else ""


def _tries(prefix: str, values: Values) -> list[Section]:
    """All targets that were tried for the user's score."""
    judged = values.get("evaluation") or {}
    tries = judged.get("tries", ())
    if not tries:
        return []
    metric, after = judged["metric"], judged["after"]
    found, chosen = [], -1
    for k, one in enumerate(tries):
        costs = dict(one.get("achieved", {})) or {metric: one["share"]}
        remark = "out of reach" if one["score"] is None else "drops too much"
        taken = one["within"] and one["score"] == after
        chosen = k if taken else chosen
        remark = "" if one["within"] else remark
        found.append(Candidate(f"{metric}={one['share']:.4g}", costs, one["score"], remark))
    least = judged["before"] - judged["max_drop"] if "max_drop" in judged else None
    quality = Quality("your score", judged["before"], number, least)
    return [candidates(prefix, found, quality, chosen)]
