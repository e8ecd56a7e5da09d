"""The page of many targets from one calibration: `sweep`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxprune.report.html.about import About
from onnxprune.report.html.candidates import Candidate, Quality, candidates
from onnxprune.report.html.elements import Content
from onnxprune.report.html.groups import frozen, sensitivities
from onnxprune.report.html.parts import Card, Column, Page, Section, Verdict, notes, table
from onnxprune.report.html.scales import number, percent

__all__ = ["sweep_page"]

Values = Mapping[str, Any]


def sweep_page(values: Values, about: About) -> Page:
    """Show all targets of a sweep."""
    rows = values["targets"]
    done = [row["report"] for row in rows if row["report"] is not None]
    quality = _quality(values["quality"])
    found = [_candidate(row) for row in rows]
    cards = [Card("Targets", str(len(rows)), f"{len(done)} of them within reach")]
    cards += _cards(found, quality)
    text = f"{len(done)} of {len(rows)} targets reached from one calibration."
    shared = done[0] if done else {}
    curves = [
        {k: v for k, v in row.items() if k != "kept"} for row in shared.get("sensitivities", ())
    ]
    sections = [
        candidates("", found, quality),
        *_widths(rows),
        *sensitivities("", curves),
        *frozen("", shared.get("frozen", ())),
        *notes(values, ""),
    ]
    return Page("Sweep", Verdict(text, cards, "" if done else "bad"), sections)


def _quality(judged: Values) -> Quality:
    """What candidates are judged by."""
    shares = judged["name"] in ("top-1", "top-1 agreement")
    return Quality(judged["name"], judged["original"], percent if shares else number)


def _candidate(row: Values) -> Candidate:
    report = row["report"]
    costs = {} if report is None else report["achieved"]
    slower = report is not None and report.get("slower")
    remark = row["why"] or ("slower than the original" if slower else row.get("file") or "")
    return Candidate(_named(row["target"]), costs, row["quality"], remark)


def _named(target: Values) -> str:
    """A target as a user writes it."""
    return "+".join(f"{metric}={amount}" for metric, amount in target.items())


def _cards(found: Sequence[Candidate], quality: Quality) -> list[Card]:
    """The candidates with the best quality and with the least cost."""
    known = [one for one in found if one.quality is not None]
    if not known:
        return []
    best = max(known, key=lambda one: one.quality or 0.0)
    least = min(known, key=lambda one: one.costs["macs"])
    cards = [
        Card(f"Best {quality.name}", quality.text(best.quality or 0.0), best.name),
        Card("Fewest MACs", percent(least.costs["macs"]), least.name),
    ]
    timed = [one for one in known if "latency" in one.costs]
    if timed:
        fast = min(timed, key=lambda one: one.costs["latency"])
        cards.append(Card("Least time", percent(fast.costs["latency"]), fast.name))
    return cards


def _widths(rows: Sequence[Values]) -> list[Section]:
    """Channels that each target leaves of each group."""
    done = [row for row in rows if row["report"] is not None]
    if not done:
        return []
    names = [group["name"] for group in done[0]["report"]["groups"]]
    same = [row for row in done if [g["name"] for g in row["report"]["groups"]] == names]
    columns = [Column("group"), Column("original"), *(Column(_named(r["target"])) for r in same)]
    cells: list[list[Content]] = []
    for k, name in enumerate(names):
        own = [row["report"]["groups"][k] for row in same]
        cells.append([name, str(own[0]["channels"]), *(str(group["kept"]) for group in own)])
    made = table("Channels of each group that each target keeps", columns, cells)
    return [Section("widths", "Widths of the groups", (made,))]
