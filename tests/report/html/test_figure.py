"""Figures have a name and a description, and places are percentages."""

from pages import tree

from onnxprune.report.html.figure import Drawing, Legend, figure, path, percentage, stretched
from onnxprune.report.html.scales import linear

DRAWING = Drawing("f", "A title", "What it shows.")


def test_a_figure_says_what_it_is() -> None:
    x, y = linear("across", [0, 1]), linear("up", [0, 10])
    made = tree(figure(DRAWING, x, y, None, [Legend("after", "kept")]))
    (svg,) = made.all("svg")
    assert svg["role"] == "img" and svg["aria-labelledby"] == "f-t f-d"
    assert [one["id"] for one in (*made.all("title"), *made.all("desc"))] == ["f-t", "f-d"]
    for word in ("A title", "What it shows.", "across", "up", "kept"):
        assert word in made.text


def test_a_tick_stands_where_its_number_belongs() -> None:
    x, y = linear("across", [0, 1]), linear("up", [0, 10])
    made = tree(figure(DRAWING, x, y, None))
    lines = made.all("line")
    assert [one["x1"] for one in lines if one["x1"] == one["x2"]] == [
        percentage(x.at(tick)) for tick in x.ticks
    ]
    assert [one["y1"] for one in lines if one["y1"] == one["y2"]] == [
        percentage(100 - y.at(tick)) for tick in y.ticks
    ]
    assert not tree(figure(DRAWING, x, None, None)).all("line")[len(x.ticks) :]


def test_a_path_through_points() -> None:
    made = tree(stretched(path([(0, 100), (50, 2.5)], "line", "a name", closed=True)))
    (drawn,) = made.all("path")
    assert drawn["d"] == "M0 100L50 2.5Z" and made.all("svg")[0]["viewbox"] == "0 0 100 100"
    assert "a name" in made.text


def test_percentages() -> None:
    assert [percentage(v) for v in (0, 33.3333, 100.0, 5e-9)] == ["0%", "33.33%", "100%", "0%"]
