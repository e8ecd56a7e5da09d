"""The smallest model within a drop: bisection, the user's function, exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from paths import ROOT

import onnxprune
from onnxprune import GateError, InputError, TargetError
from onnxprune.cli import main
from onnxprune.pipeline.score_search import MILDEST, RESOLUTION, bisect

DIGITS, TEST = str(ROOT / "models" / "digits.onnx"), ROOT / "models" / "digits_test.npz"
EVALUATE = f"""
import numpy as np
with np.load({str(TEST)!r}) as file:
    data = dict(file)
def accuracy(session):
    return (session.run(None, {{"image": data["image"]}})[0].argmax(1) == data["labels"]).mean()
def text(session):
    return "good"
def fails(session):
    raise RuntimeError("no data")
"""


def accuracy(session) -> float:
    with np.load(TEST) as file:
        data = dict(file)
    right = session.run(None, {"image": data["image"]})[0].argmax(1) == data["labels"]
    return float(right.mean())


@pytest.mark.parametrize("edge", [0.02, 0.31, 0.5, 0.77, 0.93])
def test_bisection_finds_the_edge(edge: float):
    """The score falls below what is asked for exactly at `edge`."""
    found = bisect(lambda share: share, lambda share: share, edge)
    assert found.share == found.result and edge <= found.share < edge + RESOLUTION
    assert found.tries[0].share == MILDEST and len(found.tries) <= 8
    assert all(t.within == (t.share >= edge) and t.score == t.share for t in found.tries)


def test_a_lower_bound_that_holds_ends_the_search():
    found = bisect(lambda share: share, lambda share: share, 0.1, 0.4)
    assert [t.share for t in found.tries] == [MILDEST, 0.4] and found.share == 0.4
    found = bisect(lambda share: share, lambda share: share, 0.1, 0.97)
    assert [t.share for t in found.tries] == [0.97]


def test_what_cannot_be_reached_bounds_the_search():
    def make(share: float) -> float:
        if share < 0.6:
            raise TargetError("no further")
        return share

    found = bisect(make, lambda share: 1.0, 0.5)
    assert 0.6 <= found.share < 0.6 + RESOLUTION
    assert {t.score for t in found.tries} == {None, 1.0}
    with pytest.raises(TargetError):  # not even the mildest
        bisect(lambda share: make(share / 2), lambda share: 1.0, 0.5)


def test_nothing_passes():
    with pytest.raises(GateError, match=r"at share 0\.95 the score is 0\.2, below the 0\.5"):
        bisect(lambda share: share, lambda share: 0.2, 0.5)


def test_prune_finds_the_smallest_within_the_drop():
    result = onnxprune.prune(
        DIGITS, {"macs": 0.7}, round_to=8, latency=False, evaluate=accuracy, max_drop=0.05
    )
    found = result.report["evaluation"]
    assert found["before"] == pytest.approx(0.996) and found["after"] >= found["before"] - 0.05
    assert found["metric"] == "macs" and found["tries"][0]["share"] == MILDEST
    smallest = min(t["share"] for t in found["tries"] if t["within"])
    assert result.report["achieved"]["macs"] <= smallest
    assert not any(t["within"] for t in found["tries"] if t["share"] < smallest)
    text = result.report.text()
    assert "score     0.996 before" in text and text.count("tried     macs") == len(found["tries"])


def test_a_score_alone_is_reported():
    result = onnxprune.prune(DIGITS, {"macs": 0.9}, latency=False, evaluate=accuracy)
    assert result.report["evaluation"].keys() == {"function", "before", "after"}


def test_absolute_amounts_bound_the_search():
    full = onnxprune.prune(DIGITS, {"macs": 0.95}, latency=False).report.before.params
    result = onnxprune.prune(
        DIGITS, {"params": f"{full * 0.9:.0f}"}, latency=False, evaluate=accuracy, max_drop=1.0
    )
    shares = [t["share"] for t in result.report["evaluation"]["tries"]]
    assert shares == pytest.approx([0.95, 0.9], abs=1 / full)  # the amount is a whole number


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--evaluate", "FILE:accuracy", "--max-drop", "1.5", "--target", "macs=0.8"], 0, "tried"),
        (
            ["--evaluate", "FILE:accuracy", "--max-drop", "0", "--no-compensate"],
            4,
            "gate failed: already at share",
        ),
        (["--evaluate", "FILE:text", "--target", "macs=0.9"], 2, "returned 'good', give a finite"),
        (["--evaluate", "FILE:fails", "--target", "macs=0.9"], 2, "RuntimeError in line 10"),
        (["--evaluate", "FILE:none", "--target", "macs=0.9"], 2, "has no function 'none'"),
        (["--evaluate", "FILE", "--target", "macs=0.9"], 2, "write FILE.py:FUNCTION"),
        (["--max-drop", "0.1", "--target", "macs=0.9"], 2, "max_drop needs evaluate"),
        (
            ["--evaluate", "FILE:accuracy", "--max-drop", "1", "--target", "macs=0.9,params=0.9"],
            2,
            "max_drop searches one metric",
        ),
    ],
)
def test_the_command_line(words: list[str], code: int, message: str, tmp_path: Path):
    (tmp_path / "score.py").write_text(EVALUATE)
    words = [w.replace("FILE", f"{tmp_path}/score.py") for w in words]
    out = tmp_path / "out.onnx"
    result = CliRunner().invoke(main, ["prune", DIGITS, str(out), "--no-latency", *words])
    assert result.exit_code == code, result.output
    assert message in result.output and out.exists() == (code == 0)


def test_the_report_lists_every_try(tmp_path: Path):
    (tmp_path / "score.py").write_text(EVALUATE)
    words = ["--evaluate", f"{tmp_path}/score.py:accuracy", "--max-drop", "0.02", "--report", "-"]
    words += ["--no-latency", "--dry-run", "--round-to", "8", "--target", "macs=0.8"]
    output = CliRunner().invoke(main, ["prune", DIGITS, str(tmp_path / "o.onnx"), *words]).output
    tries = json.loads(output)["evaluation"]["tries"]
    assert len(tries) > 1
    for one in tries:
        assert one.keys() == {"share", "score", "within", "achieved"}
        assert (one["score"] is None) == (not one["achieved"])
        assert one["achieved"].get("macs", 0.0) <= one["share"]


def test_evaluate_must_be_callable():
    with pytest.raises(InputError, match=r"evaluate 3: give file\.py:function"):
        onnxprune.prune(DIGITS, {"macs": 0.9}, evaluate=3)  # type: ignore[arg-type]
