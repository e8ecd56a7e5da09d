"""The page of sensitivities."""

from pages import about, sensitivity_values, tree

from onnxprune.report.html.sensitivity_page import sensitivity_page


def test_the_most_and_the_least_sensitive_group() -> None:
    page = sensitivity_page(sensitivity_values("steep"), about("sensitivity"))
    assert page.verdict.headline == "steep is the most sensitive group, flat the least."
    assert [one.key for one in page.sections] == ["curves", "groups", "notes"]
    text = tree(page.sections[1]).text
    assert text.index("steep 8 0.1 4: 0.1") < text.index("flat 8 0.001 4: 0.001")


def test_no_groups() -> None:
    values = {**sensitivity_values(), "groups": []}
    page = sensitivity_page(values, about("sensitivity"))
    assert page.verdict.headline == "No group of channels can get narrower."
