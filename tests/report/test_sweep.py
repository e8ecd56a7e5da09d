"""The report of a sweep, as text and as values for JSON."""

import json
from dataclasses import replace

import pytest

from onnxprune.ir.timing import Latency
from onnxprune.report.report import Report
from onnxprune.report.sweep import Sweep, Swept, target_name
from onnxprune.report.values import Fidelity, Measured
from onnxprune.surgery.proof import Proof

DRIFT = Fidelity(0.9, 10.0, 0.95, 100, "the given data", (0.99, 0.97))


def report(share: float, drift: Fidelity | None = DRIFT) -> Report:
    times = Latency(2.0, 1.9, 2.1, 11), Latency(1.5, 1.4, 1.6, 11)
    right = (None, None) if drift is None or drift.accuracy is None else drift.accuracy
    return Report(
        before=Measured(2e6, 1000, 65100, 7, times[0], right[0]),
        after=Measured(2e6 * share, 500, 30000, 7, times[1], right[1]),
        target={"macs": share},
        achieved={"macs": share, "params": 0.5, "size": 0.46, "ratio": 0.6, "latency": 0.75},
        proof=Proof(1e-7, True),
        fidelity=drift,
        groups=[],
        frozen=[],
        environment={"provider": "CPU"},
        slower=share > 0.7,
    )


def found(drift: Fidelity | None = DRIFT) -> Sweep:
    rows = [Swept({"macs": share}, report(share, drift)) for share in (0.8, 0.5)]
    return Sweep([*rows, Swept({"macs": 0.01, "size": "1KB"}, None, why="out of reach: …")])


def test_one_line_for_each_target() -> None:
    lines = [" ".join(line.split()) for line in found().text().splitlines()]
    assert lines == [
        "target MACs parameters file latency top-1 proof",
        "original 2 M 1 k 65.1 kB 0.99",
        "macs=0.8 0.800 0.500 0.460 0.750 (slower) 0.97 equal",
        "macs=0.5 0.500 0.500 0.460 0.750 0.97 equal",
        "macs=0.01+size=1KB - - - - - -",
        "missed macs=0.01+size=1KB: out of reach: …",
    ]


def test_values_are_plain_and_hold_all_reports() -> None:
    values = json.loads(json.dumps(found().values()))
    assert values["quality"] == {"name": "top-1", "original": 0.99}
    assert [row["quality"] for row in values["targets"]] == [0.97, 0.97, None]
    assert values["targets"][1]["report"]["achieved"]["macs"] == 0.5
    assert values["targets"][2]["report"] is None and values["environment"] == {"provider": "CPU"}


@pytest.mark.parametrize(
    ("drift", "name", "value"),
    [
        (replace(DRIFT, accuracy=None), "top-1 agreement", 0.95),
        (replace(DRIFT, accuracy=None, agreement=None), "cosine of the outputs", 0.9),
        (None, "cosine of the outputs", 0.0),
    ],
)
def test_the_best_that_is_known_judges(drift: Fidelity | None, name: str, value: float) -> None:
    values = found(drift).values()
    assert values["quality"]["name"] == name and values["targets"][0]["quality"] == value


def test_the_users_score_counts_most() -> None:
    rows = [Swept({"macs": 0.5}, report(0.5), score=7.0, file="a.onnx")]
    made = Sweep(rows, score=8.0)
    assert made.values()["quality"] == {"name": "your score", "original": 8.0}
    assert made.values()["targets"][0]["quality"] == 7.0 and "wrote     a.onnx" in made.text()


def test_names_of_targets() -> None:
    assert target_name({"macs": 0.5, "size": "2MB"}) == "macs=0.5+size=2MB"
