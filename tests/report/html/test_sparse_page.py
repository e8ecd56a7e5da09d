"""The page of a sparse model."""

from pages import about, sparse_values, tree

from onnxprune.report.html.sparse_page import sparse_page, sparse_sections


def test_the_verdict_and_the_sections() -> None:
    page = sparse_page(sparse_values("conv"), about("sparsify"))
    assert page.verdict.headline == (
        "50% of the numbers in 1 weight are zero; zipped, the file changes by −50%."
    )
    assert [one.key for one in page.sections] == [
        "costs", "layers", "timing", "skipped", "notes",
    ]  # fmt: skip


def test_density_of_each_weight_and_what_was_left() -> None:
    costs, layers, _, skipped, _ = sparse_sections("stage-2", sparse_values("conv"))
    assert "conv Conv 32 50% 2:4" in tree(layers).text
    assert "1 weight: int8" in tree(skipped).text
    assert "zipped 900 B 450 B −50%" in tree(costs).text and costs.key == "stage-2-costs"
