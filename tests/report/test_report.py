"""Values as text and JSON: every line that a user sees, by hand."""

import json
from typing import Any

import pytest
from networks import NETWORKS
from paths import MODELS
from text_models import perceptron, text_model, two_heads

import onnxprune
from onnxprune.groups.analysis import analyze
from onnxprune.ir.timing import Latency
from onnxprune.report.report import (
    Report,
    amount,
    comparison_text,
    frozen_rows,
    group_rows,
    inspect_text,
    inspect_values,
    table,
)
from onnxprune.report.values import Fidelity, Measured
from onnxprune.settings import Settings
from onnxprune.surgery.proof import Proof

BEFORE = Measured(2.5e6, 1234.0, 65_100, 12, Latency(2.0, 1.9, 2.3, 11), 0.985)
AFTER = Measured(1.25e6, 617.0, 40_000, 12, Latency(1.0, 0.9, 1.1, 11), 0.98)
DRIFT = Fidelity(0.98765, 21.25, 0.9625, 500, "own data", (0.985, 0.98))
GROUPS = [
    {"name": "a", "channels": 16, "kept": 10},
    {"name": "b", "channels": 8, "kept": 8},
]


def frozen(reason: str) -> dict[str, Any]:
    return {"tensor": "w", "axis": 0, "reason": reason}


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "before": BEFORE,
        "after": AFTER,
        "target": {"macs": 0.5},
        "achieved": {"macs": 0.5, "params": 0.49999},
        "proof": Proof(1.25e-7, True, "y"),
        "fidelity": DRIFT,
        "groups": GROUPS,
        "frozen": [frozen("one"), frozen("two"), frozen("one")],
        "environment": {"provider": "CPU", "threads": 1},
        "notes": ["a note"],
        "warnings": ["a warning"],
    }
    return Report(**(values | changes))


def test_the_text_says_before_and_after_target_proof_drift_groups_and_why_not_more() -> None:
    assert report().text().splitlines() == [
        "               before      after   ratio",
        "MACs            2.5 M     1.25 M   0.500",
        "parameters     1.23 k        617   0.500",
        "file          65.1 kB      40 kB   0.614",
        "nodes              12         12   1.000",
        "latency     2 ±0.2 ms  1 ±0.1 ms   0.500",
        "top-1          98.50%     98.00%  -0.50%",
        "target    macs 0.5; achieved macs 0.5, params 0.5",
        "proof     pruned and masked original: equal, relative error 1.2e-07",
        "drift     cosine 0.9877, SQNR 21.2 dB, top-1 agreement 96.2% (500 samples, own data)",
        "measured  provider CPU, threads 1",
        "groups    2: 18 of 24 channels kept",
        "frozen    2 weights: one",
        "frozen    1 weight: two",
        "note      a warning",
        "note      a note",
    ]


def test_what_was_not_measured_is_not_in_the_text() -> None:
    plain = Measured(2.5e6, 1234.0, 65_100, 12)
    text = report(before=plain, after=plain, fidelity=None, target={}, frozen=[]).text()
    for word in ("latency", "top-1", "drift", "measured", "frozen"):
        assert word not in text
    assert "target    whatever is free" in text
    assert "NOT equal" in report(proof=Proof(0.5, False, "y")).text()
    equal = Fidelity(1.0, None, None, 2, "seeded inputs")
    assert "drift     cosine 1.0000, outputs equal (2 samples" in report(fidelity=equal).text()


def test_the_users_own_score_is_told_with_every_target_that_was_tried() -> None:
    tries = [
        {"share": 0.5, "score": 0.9, "within": True},
        {"share": 0.25, "score": 0.6, "within": False},
        {"share": 0.125, "score": None, "within": False},
    ]
    own = {"before": 0.95, "after": 0.9, "function": "f", "metric": "macs", "tries": tries}
    text = report(evaluation=own).text()
    assert "score     0.95 before, 0.9 after (f)" in text
    assert "tried     macs 0.5: score 0.9\n" in text
    assert "tried     macs 0.25: score 0.6, drops too much\n" in text
    assert "tried     macs 0.125: out of reach\n" in text


def test_values_are_ready_for_json_and_hold_all_parts() -> None:
    values = report().values()
    again = json.loads(json.dumps(values))
    assert again.keys() == {
        "before", "after", "target", "achieved", "proof", "fidelity", "groups", "frozen",
        "environment", "notes", "warnings", "evaluation",
    }  # fmt: skip
    assert again["before"]["latency_ms"] == again["before"]["latency"]["median_ms"] == 2.0
    assert again["fidelity"]["accuracy"] == [0.985, 0.98]
    assert again["groups"] == GROUPS and again["notes"] == ["a note"]
    assert report()["achieved"] == values["achieved"]
    assert report(fidelity=None)["fidelity"] is None


def test_a_report_of_a_run_has_its_keys() -> None:
    values = onnxprune.prune(MODELS / "digits.onnx", {"macs": 0.7}).report.values()
    keys = {"before", "after", "target", "achieved", "proof", "fidelity", "groups", "frozen"}
    assert keys <= values.keys()
    for side in ("before", "after"):
        assert {"macs", "params", "bytes", "latency_ms"} <= values[side].keys()
        assert values[side]["latency_ms"] > 0
    assert values["proof"]["passed"] and values["proof"]["max_relative_error"] <= 1e-4
    json.dumps(values)


def test_two_models_side_by_side() -> None:
    lines = comparison_text(BEFORE, AFTER, DRIFT, {"threads": 1}).splitlines()
    assert len(lines) == 9 and lines[-1] == "measured  threads 1"
    assert lines[-2].startswith("drift     cosine 0.9877")
    untimed = Measured(1.0, 1.0, 1, 1)
    assert "measured" not in comparison_text(untimed, untimed, DRIFT, {"threads": 1})


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0, "macs", "0"), (999, "macs", "999"), (1000, "macs", "1 k"), (1.25e9, "macs", "1.25 G"),
        (3.4e6, "params", "3.4 M"), (65_100, "bytes", "65.1 kB"), (12, "size", "12 B"),
        (5e16, "macs", "5e+04 T"), (1500, "nodes", "1500"),
    ],
)  # fmt: skip
def test_amounts_as_people_read_them(value: float, name: str, text: str) -> None:
    assert amount(value, name) == text


def test_columns_are_aligned() -> None:
    rows = [("", "a", "bb"), ("long name", "1", ""), ("x", "10", "100")]
    assert table(rows).splitlines() == ["            a   bb", "long name   1", "x          10  100"]


def test_inspection_names_members_shares_and_what_is_frozen() -> None:
    """All MACs and all parameters but the last bias go with the only group."""
    values = inspect_values(analyze(perceptron()))
    (group,) = values["groups"]
    assert (group["name"], group["channels"], group["heads"]) == ("a", 4, 1)
    assert group["macs_share"] == 1 and group["params_share"] == pytest.approx(24 / 26)
    assert [(m["tensor"], m["axis"]) for m in group["members"]] == [("a", 0), ("b", 0), ("c", 1)]
    assert json.loads(json.dumps(values)) == values
    assert inspect_text(values).splitlines() == [
        "20 MACs at x 1x3, 26 parameters, 358 B",
        "1 groups, shares of MACs and parameters that go with each:",
        "      4 channels  100.0%  92.3%  a[0] b[0] c[1]",
        "1 weights have channels that cannot be pruned:",
        "  c[0] (2 of 2): 'y' is an output of the model; blocked by the interface at y[1]; "
        "it is part of the model's interface",
    ]


def test_inspection_tells_heads_positions_copies_and_inexact_groups() -> None:
    text = inspect_text(inspect_values(analyze(two_heads())))
    assert "a[1]*2 c[0]*2  each of 2 heads its own" in text and "a[1]*3 scale[0] c[0]*3" in text
    shared = inspect_text(inspect_values(analyze(NETWORKS["shared_zero_bias"]())))
    assert shared.count("is a copy of shared zero") == 2
    normalised = text_model(
        """
        net (float[N, 3] x) => (float[N, 2] y) {
            h = MatMul (x, a)
            n = LayerNormalization (h, scale)
            y = MatMul (n, c)
        }
        """,
        a=(3, 4), c=(4, 2), scale=(4,),
    )  # fmt: skip
    inexact = analyze(normalised, Settings(allow_inexact=True))
    assert "inexact: changes the statistics of" in inspect_text(inspect_values(inexact))


def test_rows_of_groups_and_of_what_is_frozen() -> None:
    analysis = analyze(perceptron())
    assert group_rows(analysis, [3]) == [{"name": "a", "channels": 4, "kept": 3}]
    (row,) = frozen_rows(analysis)
    assert row["tensor"] == "c" and (row["blocked"], row["size"]) == (2, 2)
    assert row["used_by"] == "n2" and row["node"] == "" and row["at"] == "y[1]"
    with pytest.raises(ValueError, match="zip"):
        group_rows(analysis, [3, 4])
