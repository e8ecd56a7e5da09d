"""Whole pages: structure, hostile names, no script, no network, sizes, the same bytes."""

import json
from typing import Any

import pytest
from pages import HOSTILE, VALUES, about, assert_page, prune_values, report_in

from onnxprune.report.html.elements import plain_values, shown
from onnxprune.report.html.page import PAGES, page


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_of_each_kind(kind: str) -> None:
    text = page(VALUES[kind], about(kind))
    made = assert_page(text)
    assert report_in(text) == plain_values(VALUES[kind])
    assert "alert('1')" in made.text and shown(HOSTILE).split()[0] in made.text
    assert f"onnxprune {kind}" in made.text and text == page(VALUES[kind], about(kind))


def test_the_verdict_comes_before_everything_else() -> None:
    text = page(prune_values(slower=True), about())
    made = assert_page(text)
    assert made.text.index("Slower than the original") < made.text.index("Before and after")


def test_the_page_of_a_model_as_large_as_resnet_50_is_small() -> None:
    """54 groups of up to 2,048 channels, and more frozen weights than any model of that size."""
    text = page(large_values(54, 400), about())
    assert_page(text)
    assert len(text.encode()) < 400_000


def test_a_page_of_many_groups_holds_little_beside_the_report() -> None:
    """Tables end, columns become one shape, and of the curves the highest are drawn."""
    values = large_values(400, 800)
    text = page(values, about())
    made = assert_page(text)
    report = len(json.dumps(values, separators=(",", ":")))
    assert report > 300_000 and len(text) < report + 500_000
    assert "and 100 more" in made.text


def large_values(groups: int, frozen: int) -> dict[str, Any]:
    values = prune_values("layer")
    name = "backbone.layer3.{}.conv2.weight_of_the_exported_model"
    widths = [2 ** (6 + k % 6) for k in range(groups)]
    values["groups"] = [
        {"name": name.format(k), "channels": n, "kept": n // 2} for k, n in enumerate(widths)
    ]
    values["sensitivities"] = [
        {"name": name.format(k), "channels": n, "kept": n // 2, "measured": [n, n // 2],
         "divergence": {str(w): (n - w) / n for w in range(n, 0, -n // 12)} | {str(n // 2): 0.5}}
        for k, n in enumerate(widths)
    ]  # fmt: skip
    row = values["frozen"][0]
    values["frozen"] = [{**row, "tensor": name.format(k)} for k in range(frozen)]
    return values
