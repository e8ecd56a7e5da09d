"""What changed between two models, in words that cannot be misread."""

import pytest
from pages import HOSTILE, latency, prune_values, tree

from onnxprune.report.html.costs import (
    accuracy_card,
    before_after,
    change,
    headline,
    known,
    ms,
    proof_card,
    size_card,
    time_card,
)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.5, "−50%"), (0.996, "−0.4%"), (1.0, "±0%"), (1.25, "+25%"), (5.68, "+468%"), (0, "−100%")],
)
def test_ratios(ratio: float, text: str) -> None:
    assert change(ratio) == text
    assert ms(0.07244) == "0.0724 ms"


def test_faster_the_same_and_slower() -> None:
    fast = time_card(latency(2.0), latency(1.0))
    assert (fast.value, fast.tone) == ("−50%", "good") and "2.00× as fast" in fast.more
    assert time_card(latency(2.0), latency(2.01)).value == "the same"
    slow = time_card(latency(2.0), latency(3.0))
    assert (slow.value, slow.tone) == ("slower, +50%", "bad")
    assert time_card(latency(2.0), latency(2.03), slower=True).tone == "bad"
    assert time_card(latency(2.0), latency(2.03), slower=False).tone == ""
    assert time_card(None, None).value == "not measured"


def test_the_best_word_for_accuracy_that_is_known() -> None:
    drift = prune_values()["fidelity"]
    assert accuracy_card(drift).value == "−2.00 points"
    judged = {"before": 0.5, "after": 0.25, "function": HOSTILE}
    assert accuracy_card(drift, judged).value == "−0.25"
    agree = {**drift, "accuracy": None}
    assert accuracy_card(agree).value == "98.0% agree"
    seeded = {**agree, "data": "seeded inputs", "samples": 1}
    assert accuracy_card(seeded).name == "Cosine of the outputs"
    assert "1 sample, seeded inputs" in accuracy_card(seeded).more
    assert accuracy_card(None).value == "not measured"


def test_a_proof_that_failed_says_so() -> None:
    proof = prune_values()["proof"]
    card = proof_card(proof)
    assert card and (card.value, card.tone) == ("exact", "good") and "2e-07" in card.more
    failed = proof_card({**proof, "passed": False})
    assert failed and (failed.value, failed.tone) == ("NOT equal", "bad")
    none = proof_card({**proof, "max_relative_error": 0.0})
    assert none and "no difference" in none.more
    assert known([proof_card(None), card]) == [card]


def test_a_larger_file_is_bad() -> None:
    small, large = {"file": 100}, {"file": 200}
    assert (size_card(small, large).tone, size_card(large, small).tone) == ("bad", "good")
    assert size_card(small, small).tone == ""


def test_the_verdict_in_a_sentence() -> None:
    values = prune_values()
    text, tone = headline(values["before"], values["after"], False)
    assert text == "50% less computation, 67% less to store, 50% less time per run." and not tone
    slow = prune_values(slower=True)
    text, tone = headline(slow["before"], slow["after"], True)
    assert text.startswith("Slower than the original: ") and tone == "bad"
    assert "50% more time per run" in text
    same, _ = headline({"file": 5}, {"file": 5}, None)
    assert same == "As much to store."


def test_bars_before_and_after() -> None:
    values = prune_values(slower=True)
    section = before_after("stage-1", (values["before"], values["after"]))
    made = tree(section)
    assert section.key == "stage-1-costs"
    bars = [one for one in made.all("rect") if one["class"] != "room"]
    assert [one["width"] for one in bars] == ["50%", "40%", "32.62%", "100%", "100%", "97%"]
    assert [one["class"] for one in bars] == ["after"] * 4 + ["bad", "after"]
    assert "A line marks the original" in made.text and "−2.00 points" in made.text
