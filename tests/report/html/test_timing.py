"""Latencies: distributions where they are known, and a table."""

from pages import latency, tree

from onnxprune.report.html.timing import environment_line, timings


def test_models_that_were_timed() -> None:
    models = [("original", latency(2.0)), ("untimed", None), ("pruned", latency(1.0))]
    (section,) = timings("stage-1", models, {"provider": "CPU", "threads": 1})
    made = tree(section)
    assert section.key == "stage-1-timing" and len(made.all("path")) == 2
    assert "pruned 1 ms 0.9 ms 1.1 ms 41 0.500" in made.text and "untimed" not in made.text
    assert "Measured on provider CPU, threads 1." in made.text


def test_without_quantiles_there_is_a_table_alone() -> None:
    old = {name: value for name, value in latency(2.0).items() if name != "quantiles_ms"}
    made = tree(timings("", [("original", old)], {})[0])
    assert not made.all("path") and "original 2 ms" in made.text
    assert timings("", [("original", None)], {}) == []


def test_an_environment_that_is_not_known() -> None:
    assert tree(environment_line({})).text == ""
