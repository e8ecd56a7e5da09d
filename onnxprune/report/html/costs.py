"""Say what changed between two models: in cards, and as bars before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from onnxprune.report.html.charts import bar
from onnxprune.report.html.elements import Content, el, prefixed
from onnxprune.report.html.parts import Card, Column, Section, table
from onnxprune.report.text import amount

__all__ = [
    "SAME",
    "TITLES",
    "accuracy_card",
    "before_after",
    "change",
    "headline",
    "known",
    "ms",
    "proof_card",
    "size_card",
    "time_card",
]

Values = Mapping[str, Any]
#: What costs are called, in the order in which they are shown.
TITLES = {
    "macs": "MACs",
    "params": "parameters",
    "bytes": "file",
    "file": "file",
    "zip": "zipped",
    "zstd": "by zstd",
    "nodes": "nodes",
}
#: Ratios of times that are called the same.
SAME = 0.02


def change(ratio: float) -> str:
    """A ratio as what is gone or came: −50%."""
    percent = 100 * (ratio - 1)
    if abs(percent) < 0.05:
        return "±0%"
    sign = "−" if percent < 0 else "+"
    return f"{sign}{abs(percent):.{0 if abs(percent) >= 10 else 1}f}%"


def ms(value: float) -> str:
    """A time with three digits."""
    return f"{value:.3g} ms"


def size_card(before: Values, after: Values) -> Card:
    """How much smaller the file is."""
    key = "bytes" if "bytes" in before else "file"
    a, b = before[key], after[key]
    more = f"file {amount(a, 'bytes')} → {amount(b, 'bytes')}"
    if "params" in before:
        more += f"; parameters {amount(before['params'], '')} → {amount(after['params'], '')}"
    ratio = b / max(a, 1)
    return Card("Size of the file", change(ratio), more, _tone(ratio))


def time_card(before: Values | None, after: Values | None, slower: bool | None = None) -> Card:
    """How much faster the model is; what is slower says so.

    Args:
        before: the original's latency, None where it was not measured.
        after: the result's.
        slower: whether that is no chance; None where it is not known.
    """
    if not before or not after:
        return Card("Time of one run", "not measured", "leave out --no-latency to measure it")
    a, b = before["median_ms"], after["median_ms"]
    ratio = b / a
    runs = f", {before['runs']} runs in turns" if before.get("runs") else ""
    more = f"median {ms(a)} → {ms(b)}{runs}"
    bad = ratio > 1 + SAME if slower is None else slower
    if bad:
        return Card("Time of one run", f"slower, {change(ratio)}", more, "bad")
    if ratio > 1 - SAME:
        return Card("Time of one run", "the same", more)
    return Card("Time of one run", change(ratio), f"{1 / ratio:.2f}× as fast; {more}", "good")


def accuracy_card(fidelity: Values | None, evaluation: Values | None = None) -> Card:
    """What became of the accuracy: the user's score, top-1, agreement, or the outputs."""
    if evaluation is not None and evaluation.get("after") is not None:
        a, b = evaluation["before"], evaluation["after"]
        difference = f"{b - a:+.4g}".replace("-", "−")
        return Card("Your score", difference, f"{a:.4g} → {b:.4g} by {evaluation['function']}")
    if not fidelity:
        return Card("Accuracy", "not measured", "give --data to measure it")
    count = fidelity["samples"]
    samples = f"{count} sample{'s' * (count != 1)}, {fidelity['data']}"
    drift = f"cosine of the outputs {fidelity['cosine']:.4f}"
    if fidelity.get("accuracy"):
        a, b = fidelity["accuracy"]
        points = f"{100 * (b - a):+.2f} points".replace("-", "−")
        return Card("Accuracy", points, f"top-1 {a:.2%} → {b:.2%} of {samples}; {drift}")
    if fidelity.get("agreement") is not None and fidelity["data"] != "seeded inputs":
        agree = f"{fidelity['agreement']:.1%} agree"
        return Card("Accuracy", agree, f"largest score in the same place, {samples}; {drift}")
    more = f"{samples}; labels or --evaluate say what it is worth"
    return Card("Cosine of the outputs", f"{fidelity['cosine']:.4f}", more)


def proof_card(proof: Values | None) -> Card | None:
    """Whether the cut was proved."""
    if proof is None:
        return None
    error = proof["max_relative_error"]
    largest = f"largest difference {error:.0e} of the largest value" if error else "no difference"
    more = f"pruned model and {proof['reference']}, both run in onnxruntime: {largest}"
    if proof["passed"]:
        return Card("Proof", "exact", more, "good")
    return Card("Proof", "NOT equal", more, "bad")


def headline(before: Values, after: Values, slower: bool | None) -> tuple[str, str]:
    """The verdict in a sentence, and its tone."""
    parts = []
    if before.get("macs"):
        parts.append(_less(after["macs"] / before["macs"], "computation"))
    key = "bytes" if "bytes" in before else "file"
    parts.append(_less(after[key] / max(before[key], 1), "to store"))
    times = before.get("latency"), after.get("latency")
    if times[0] and times[1]:
        parts.append(_less(times[1]["median_ms"] / times[0]["median_ms"], "time per run", SAME))
    if slower:
        return f"Slower than the original: {', '.join(parts)}.", "bad"
    text = ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}.", ""


def _less(ratio: float, what: str, same: float = 0.0005) -> str:
    """A ratio in words: 50% less computation."""
    if abs(ratio - 1) <= same:
        return f"the same {what}" if what != "to store" else "as much to store"
    word = "less" if ratio < 1 else "more"
    return f"{change(ratio)[1:]} {word} {what}"


class _Row(NamedTuple):
    """A cost of both models: as text, as numbers, and how it is drawn."""

    name: str
    shown: tuple[str, str, str]
    share: float
    marker: float | None
    class_: str

    @property
    def cells(self) -> list[Content]:
        return [self.name, *self.shown, bar(self.share, self.class_, self.marker)]


def before_after(
    prefix: str, sides: tuple[Values, Values], evaluation: Values | None = None
) -> Section:
    """Costs of both models as a table with bars, the original's cost as the whole length.

    Args:
        prefix: of the section's id.
        sides: original and result: costs by name, `latency` and `accuracy` where they are known.
        evaluation: the user's score.
    """
    before, after = sides
    rows = [
        _cost(
            title,
            amount(before[key], _unit(key)),
            amount(after[key], _unit(key)),
            after[key] / before[key],
        )
        for key, title in TITLES.items()
        if before.get(key) and after.get(key) is not None
    ]
    if before.get("latency") and after.get("latency"):
        a, b = before["latency"]["median_ms"], after["latency"]["median_ms"]
        rows.append(_cost("latency", ms(a), ms(b), b / a))
    if before.get("accuracy") is not None and after.get("accuracy") is not None:
        rows.append(_quality("top-1", before["accuracy"], after["accuracy"], "{:.2%}"))
    if evaluation is not None and evaluation.get("after") is not None:
        rows.append(_quality("your score", evaluation["before"], evaluation["after"], "{:.4g}"))
    columns = [Column("cost"), Column("before"), Column("after"), Column("change")]
    columns.append(Column("share of the original", "wide"))
    made = table("Costs of both models", columns, [row.cells for row in rows])
    worth = el("p", "A line marks the original where the result is larger.", class_="quiet")
    marked = any(row.class_ == "bad" for row in rows)
    return Section(prefixed(prefix, "costs"), "Before and after", (made, worth if marked else None))


def _cost(name: str, before: str, after: str, ratio: float) -> _Row:
    """A cost, which should get smaller."""
    if ratio > 1 + SAME / 20:
        return _Row(name, (before, after, change(ratio)), 1.0, 1 / ratio, "bad")
    return _Row(name, (before, after, change(ratio)), ratio, None, "after")


def _unit(key: str) -> str:
    """What `amount` calls a cost."""
    return "bytes" if key in ("file", "zip", "zstd") else key


def _quality(name: str, before: float, after: float, text: str) -> _Row:
    """A share of answers that are right, or a score, which should stay."""
    whole = max(abs(before), abs(after), 1.0 if "%" in text else 1e-30)
    difference = (
        f"{100 * (after - before):+.2f} points" if "%" in text else f"{after - before:+.4g}"
    )
    shown = text.format(before), text.format(after), difference.replace("-", "−")
    return _Row(name, shown, after / whole, before / whole, "after")


def _tone(ratio: float) -> str:
    """Whether a cost got smaller or larger."""
    if ratio > 1.001:
        return "bad"
    return "good" if ratio < 0.999 else ""


def known(cards: Sequence[Card | None]) -> list[Card]:
    """The cards that there are."""
    return [card for card in cards if card is not None]
