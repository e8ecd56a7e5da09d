"""Candidates: which are beaten, what is drawn, what the table says."""

import numpy as np
import pytest
from pages import tree

from onnxprune.report.html.candidates import Candidate, Quality, candidates, efficient
from onnxprune.report.html.scales import number


@pytest.mark.parametrize("seed", range(8))
def test_what_is_beaten(seed: int) -> None:
    """One is beaten if another has less cost and no less quality, or more of it at no more cost."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, 5, (12, 2)).tolist()
    found = [Candidate(str(k), {"macs": c}, q) for k, (c, q) in enumerate(numbers)]
    beaten = [any((a < c and b >= q) or (a <= c and b > q) for a, b in numbers) for c, q in numbers]
    assert efficient(found, "macs") == [not one for one in beaten]


def test_what_is_out_of_reach_is_listed_and_not_drawn() -> None:
    found = [
        Candidate("macs=0.5", {"macs": 0.5, "size": 0.4}, 0.9, "small.onnx"),
        Candidate("macs=0.1", {}, None, "out of reach"),
    ]
    made = tree(candidates("", found, Quality("top-1", 0.95), chosen=0))
    assert len(made.all("figure")) == 2  # latency is known of none
    assert len(made.all("circle")) == 4 and "2. macs=0.1 – – – – –" in made.text
    assert "whose top-1 is 95%" in made.text and "out of reach" in made.text
    assert [one.get("class") for one in made.all("tr")] == [None, "chosen", None]


def test_far_below_what_is_wanted_nothing_is_drawn() -> None:
    found = [Candidate(str(k), {"macs": 0.5}, score) for k, score in enumerate((0.98, 0.2))]
    made = tree(candidates("", found, Quality("your score", 1.0, number, 0.97)))
    assert len(made.all("circle")) == 2 and "1 with much less are not drawn" in made.text
    everything = tree(candidates("", found, Quality("your score", 1.0, number)))
    assert len(everything.all("circle")) == 3


def test_no_candidate_at_all() -> None:
    made = tree(candidates("", [Candidate("a", {}, None)], Quality("top-1", 0.9)))
    assert not made.all("figure") and "a" in made.text
