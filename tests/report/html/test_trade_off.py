"""Trade-offs: the line through the best, and labels that can be read."""

import numpy as np
import pytest
from pages import tree

from onnxprune.report.html.figure import Drawing
from onnxprune.report.html.scales import linear
from onnxprune.report.html.trade_off import Dot, trade_off

DRAWING = Drawing("f", "A title", "What it shows.")
X, Y = linear("cost", [0, 1]), linear("quality", [0, 1])


def test_the_line_steps_through_the_best_candidates() -> None:
    dots = [
        Dot("2", 0.8, 0.9, "second"),
        Dot("1", 0.4, 0.5, "first"),
        Dot("", 1.0, 1.0, "original", "ring"),
    ]
    made = tree(trade_off(DRAWING, X, Y, dots, limit=0.25))
    (line,) = made.all("path")
    assert line["d"] == "M40 50L80 50L80 10"
    (limit,) = (one for one in made.all("line") if one.get("class") == "limit")
    assert limit["y1"] == "75%" and "least that is wanted" in made.text
    assert len(made.all("circle")) == 3 and "beaten" not in made.text


def test_one_candidate_needs_no_line() -> None:
    made = tree(
        trade_off(DRAWING, X, Y, [Dot("1", 0.5, 0.5, "a"), Dot("2", 0.6, 0.4, "b", "before")])
    )
    assert not made.all("path") and "beaten" in made.text


@pytest.mark.parametrize("seed", range(5))
def test_labels_do_not_cover_each_other(seed: int) -> None:
    """In a drawing of 300 by 240 pixels, with letters of 8 by 14."""
    rng = np.random.default_rng(seed)
    dots = [Dot(str(k), float(a), float(b), "") for k, (a, b) in enumerate(rng.random((30, 2)))]
    dots += [Dot("x", 0.5, 0.5, "x")] * 8
    boxes = []
    for one in tree(trade_off(DRAWING, X, Y, dots)).all("text"):
        if one.get("class") == "label":
            x = 3 * float((one["x"] or "").rstrip("%")) + float(one["dx"] or 0)
            y = 2.4 * float((one["y"] or "").rstrip("%")) + float(one["dy"] or 0)
            shift = {"start": 4, "middle": 0, "end": -4}[str(one["text-anchor"])]
            boxes.append((x + shift, y))
    assert 5 < len(boxes) < len(dots)
    for k, (x, y) in enumerate(boxes):
        assert all(abs(x - a) > 7 or abs(y - b) > 13 for a, b in boxes[:k])
