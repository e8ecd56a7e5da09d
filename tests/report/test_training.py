"""The report of fine-tuning, as text and as values for JSON."""

import json

import pytest

from onnxprune.groups.reach import Part
from onnxprune.report.training import TrainingReport
from onnxprune.report.values import Fidelity


@pytest.fixture
def report() -> TrainingReport:
    return TrainingReport(
        asked={"epochs": 2},
        losses={"ce": 1.0, "kl": 0.5},
        samples=(90, 10),
        history=[(0.5, 0.8), (0.25, 0.9), (0.3, 0.85)],
        best=1,
        reached=Part(1000, 900, {"a": "its numbers are int8", "b": "its numbers are int8"}),
        bytes=(4000, 4000),
        fidelity=Fidelity(0.99, 20.0, 0.9, 50, "the given data", (0.7, 0.75)),
        environment={},
        notes=["went on"],
        evaluation={"function": "f", "before": 1.0, "after": 1.5},
    )


def test_all_lines(report: TrainingReport):
    lines = [" ".join(line.split()) for line in report.text().splitlines()]
    assert lines == [
        "before after change",
        "loss (held out) 0.5000 0.2500 -0.2500",
        "score (held out) 80.00% 90.00% +10.00%",
        "top-1 70.00% 75.00% +5.00%",
        "losses ce 1, kl 0.5",
        "samples 90 trained on, 10 held out",
        "epochs 2, the best is 1",
        "drift cosine 0.9900, top-1 agreement 90.0% from the input (50 samples, the given data)",
        "score 1 before, 1.5 after (f)",
        "tuned 90.0% of 1 k parameters",
        "left 2 tensors: its numbers are int8",
        "note went on",
    ]


def test_values(report: TrainingReport):
    values = json.loads(json.dumps(report.values()))
    assert values["history"][1] == {"loss": 0.25, "score": 0.9} and report["best"] == 1
    assert values["parameters"]["left"]["a"] == "its numbers are int8"
    assert values["samples"] == {"trained": 90, "held_out": 10}
