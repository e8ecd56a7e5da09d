"""The page of a sweep."""

from pages import about, sweep_values, tree

from onnxprune.report.html.sweep_page import sweep_page


def test_all_targets_side_by_side() -> None:
    page = sweep_page(sweep_values("conv"), about("sweep"))
    assert page.verdict.headline == "2 of 3 targets reached from one calibration."
    assert [card.value for card in page.verdict.cards] == ["3", "98.5%", "50%", "60%"]
    assert [one.key for one in page.sections] == ["candidates", "widths", "curves", "frozen"]
    text = tree(page.sections[0]).text
    assert "1. macs=0.8 98.5% 90% 80% 33% 40% conv.onnx" in text and "no conv" in text
    assert "conv 64 40 40" in tree(page.sections[1]).text


def test_a_slower_candidate_says_so_and_without_any_the_page_is_red() -> None:
    values = sweep_values("conv")
    values["targets"][0]["report"]["slower"] = True
    assert "slower than the original" in tree(sweep_page(values, about("sweep")).sections[0]).text
    values["targets"] = values["targets"][2:]
    assert sweep_page(values, about("sweep")).verdict.tone == "bad"
