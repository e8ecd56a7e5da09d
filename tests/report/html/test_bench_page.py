"""The page of timed models."""

from pages import about, bench_values, tree

from onnxprune.report.html.bench_page import SHOWN, bench_page


def test_the_fastest_first_in_words_and_all_in_order() -> None:
    page = bench_page(bench_values("base.onnx"), about("bench"))
    assert page.verdict.headline == "small.onnx is the fastest: 1 ms a run."
    assert [card.tone for card in page.verdict.cards] == ["", "good"]
    assert page.verdict.cards[1].more == "−50% beside the first; 12.3 k samples a second"
    table = tree(page.sections[0]).text
    assert table.index("base.onnx") < table.index("small.onnx")


def test_equal_names_keep_their_folders_and_one_model_is_not_compared() -> None:
    values = bench_values("base.onnx")
    rows = [{**row, "model": f"{k}/m.onnx"} for k, row in enumerate(values["models"])]
    assert (
        bench_page({**values, "models": rows}, about("bench")).verdict.cards[1].name == "1/m.onnx"
    )
    alone = bench_page({**values, "models": rows[:1]}, about("bench"))
    assert alone.verdict.headline == "2 ms a run."


def test_the_operators_that_take_most() -> None:
    page = bench_page(bench_values("n"), about("bench"))
    made = tree(page.sections[-1])
    assert len(made.all("tr")) == SHOWN + 1 and "10 more are in the JSON" in made.text
    assert "n29 Conv 2.9 ms" in made.text
