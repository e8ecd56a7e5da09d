"""The page of a comparison, with its gates."""

from pages import about, check_values

from onnxprune.report.html.check_page import check_page


def test_without_gates() -> None:
    page = check_page(check_values(), about("check"))
    assert page.verdict.headline.startswith("50% less computation") and not page.verdict.tone


def test_gates_come_first() -> None:
    passed = check_page(check_values(), about("check", max_drop=0.02, max_latency_ratio=0.6))
    assert passed.verdict.tone == "good" and "All gates are passed." in passed.verdict.headline
    failed = check_page(check_values(), about("check", max_drop=0.01, max_latency_ratio=0.6))
    assert failed.verdict.tone == "bad" and failed.verdict.headline.startswith("1 of 2 gates fail.")
    assert [card.value for card in failed.verdict.cards[:2]] == ["FAILED", "passed"]
    assert failed.verdict.cards[0].more == "drop 0.02, limit 0.01"


def test_a_number_that_is_none_passes_no_gate() -> None:
    nan = {**check_values(), "drop": float("nan")}
    assert check_page(nan, about("check", max_drop=1.0)).verdict.tone == "bad"
