"""The page of a pruned model."""

from typing import Any

from pages import about, prune_values, tree

from onnxprune.report.html.prune_page import prune_page, prune_sections


def keys(values: dict[str, Any]) -> list[str]:
    return [one.key for one in prune_sections("", values)]


def test_everything_that_is_known_has_a_section() -> None:
    assert keys(prune_values()) == [
        "costs", "widths", "timing", "curves", "layers", "reached", "frozen", "notes",
    ]  # fmt: skip


def test_what_is_not_known_has_none() -> None:
    values = prune_values()
    bare = {name: values[name] for name in ("before", "after", "achieved", "proof", "fidelity")}
    bare["before"] = {**bare["before"], "latency": None}
    assert keys(bare) == ["costs", "timing"]
    bare["after"] = {**bare["after"], "latency": None}
    assert keys(bare) == ["costs"]


def test_the_verdict() -> None:
    page = prune_page(prune_values(), about())
    assert page.verdict.more == "Asked: macs=0.5, reached 0.5 of the original."
    assert [card.tone for card in page.verdict.cards] == ["good", "good", "", "good"]
    slow = prune_page(prune_values(slower=True), about()).verdict
    assert slow.tone == slow.cards[1].tone == "bad"


def test_targets_that_were_tried() -> None:
    values = prune_values()
    values["evaluation"] = {
        "function": "f", "before": 1.0, "after": 0.98, "max_drop": 0.02, "metric": "macs",
        "tries": [
            {"share": 0.9, "score": 0.99, "within": True, "achieved": {"macs": 0.9, "size": 0.8}},
            {"share": 0.5, "score": 0.98, "within": True, "achieved": {"macs": 0.5, "size": 0.4}},
            {"share": 0.3, "score": 0.9, "within": False, "achieved": {"macs": 0.3, "size": 0.2}},
            {"share": 0.1, "score": None, "within": False, "achieved": {}},
        ],
    }  # fmt: skip
    assert "candidates" in keys(values)
    made = tree(next(one for one in prune_sections("", values) if one.key == "candidates"))
    assert "3. macs=0.3 0.9 – 30% 20% – drops too much" in made.text
    assert [one.get("class") for one in made.all("tr")] == [None, None, "chosen", None, None]
    older = [{k: v for k, v in t.items() if k != "achieved"} for t in values["evaluation"]["tries"]]
    values["evaluation"]["tries"] = older
    assert "candidates" in keys(values)
