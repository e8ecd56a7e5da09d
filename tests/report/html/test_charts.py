"""Charts draw the numbers that they are given."""

import numpy as np
import pytest
from pages import HOSTILE, tree

from onnxprune.report.html.charts import (
    BINS,
    LEAST_BINS,
    Curve,
    Runs,
    bar,
    circle,
    curves,
    distribution,
    histogram,
    silhouette,
)
from onnxprune.report.html.figure import Drawing

DRAWING = Drawing("f", "A title", "What it shows.")


def test_a_bar_is_as_long_as_its_share_and_decoration() -> None:
    made = tree(bar(0.25, "bad", marker=0.5))
    assert [one["width"] for one in made.all("rect")] == ["100%", "25%"]
    assert made.all("line")[0]["x1"] == "50%" and made.all("svg")[0]["aria-hidden"] == "true"
    assert tree(bar(7.0)).all("rect")[1]["width"] == "100%"


def test_columns_are_as_tall_as_their_groups() -> None:
    made = tree(silhouette(DRAWING, [("a", 100, 25), (HOSTILE, 50, 50)]))
    assert [one["height"] for one in made.all("rect")] == ["100%", "25%", "50%", "50%"]
    assert "a: 25 of 100 channels kept" in made.text


def test_curves_with_the_width_that_was_chosen() -> None:
    rows = [
        Curve("a", [(1.0, 0.0), (0.5, 0.01), (0.1, 1.0)], (0.5, 0.01)),
        Curve("b", [(1.0, 0.0), (0.5, 0.001), (0.1, 0.1)], (1.0, 0.0)),
    ]
    made = tree(curves(DRAWING, rows))
    assert len(made.all("path")) == 2 and len(made.all("circle")) == 1
    (dot,) = made.all("circle")
    assert dot["cx"] == "50%" and dot["cy"] == "66.67%"  # from 10⁻³ to 1, downwards
    assert "the width that was chosen" in made.text
    plain = tree(curves(DRAWING, [Curve("a", rows[0].points, None, [(0.5, 0.01)])]))
    assert len(plain.all("circle")) == 1 and "measured" in plain.text


def test_a_histogram_holds_all_runs_in_its_range() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.gamma(5.0, 1.0, 2000))
    quantiles = np.percentile(times, np.linspace(0, 100, 41)).tolist()
    counts = histogram(quantiles, quantiles[0], quantiles[-1], BINS)
    assert len(counts) == BINS and sum(counts) == pytest.approx(1, abs=1e-9)
    true, _ = np.histogram(times, BINS, (quantiles[0], quantiles[-1]))
    assert np.abs(np.cumsum(counts) - np.cumsum(true) / len(times)).max() < 0.03
    assert sum(histogram([2.0] * 5, 1.0, 3.0, 10)) == pytest.approx(1)


def test_a_distribution_marks_medians_and_leaves_out_what_took_long() -> None:
    even = [1 + k / 40 for k in range(40)] + [500.0]
    made = tree(
        distribution(DRAWING, [Runs("a", even, 500), Runs("b", [2 * q for q in even], 500)])
    )
    assert len(made.all("path")) == 2
    middles = [one for one in made.all("line") if "middle" in (one.get("class") or "")]
    places = [float((one["x1"] or "").rstrip("%")) for one in middles]
    assert 0 < places[0] < places[1] < 100 and places[1] > 50
    assert "median 1.5 ms" in made.text and "median 3 ms" in made.text


def test_few_runs_have_few_bins() -> None:
    even = [1 + k / 40 for k in range(41)]
    few, many = (tree(distribution(DRAWING, [Runs("a", even, count)])) for count in (11, 5000))
    assert len(str(few.all("path")[0]["d"]).split("L")) == 2 * LEAST_BINS + 2
    assert len(str(many.all("path")[0]["d"]).split("L")) == 2 * BINS + 2


def test_equal_times_can_be_drawn() -> None:
    made = tree(distribution(DRAWING, [Runs("a", [0.0] * 41, 11), Runs("b", [0.0] * 41, 11)]))
    assert len(made.all("path")) == 2


def test_a_dot() -> None:
    (dot,) = tree(circle((12.5, 50.0), "dot", HOSTILE, 4)).all("circle")
    assert (dot["cx"], dot["cy"], dot["r"]) == ("12.5%", "50%", "4")
