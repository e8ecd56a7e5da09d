"""The report of a prune, as text and as values for JSON."""

import json
from dataclasses import replace

import pytest
from paths import MODELS

import onnxprune
from onnxprune.ir.timing import Latency
from onnxprune.report.parts import plain
from onnxprune.report.report import Report, comparison
from onnxprune.report.values import Fidelity, Measured
from onnxprune.surgery.proof import Proof


def latency(ms: float) -> Latency:
    return Latency(median_ms=ms, p10_ms=ms - 0.1, p90_ms=ms + 0.1, runs=10)


BEFORE = Measured(2e6, 1000, 65100, 7, latency(4.0), 0.9)
AFTER = Measured(1e6, 600, 32550, 6, latency(3.0), 0.89)
DRIFT = Fidelity(0.9876, 21.5, 0.95, 100, "the given data", (0.9, 0.89))
REPORT = Report(
    before=BEFORE,
    after=AFTER,
    target={"macs": 0.5},
    achieved={"macs": 0.5, "params": 0.6},
    proof=Proof(2e-7, True),
    fidelity=DRIFT,
    groups=[{"name": "w", "channels": 8, "kept": 5}, {"name": "v", "channels": 4, "kept": 4}],
    frozen=[{"reason": "an output"}, {"reason": "an output"}, {"reason": "a shape"}],
    environment={"provider": "CPU", "threads": 1},
    notes=["a note"],
    warnings=["a warning"],
    evaluation={
        "function": "m.py:f", "before": 0.9, "after": 0.88, "metric": "macs",
        "tries": [{"share": 0.5, "score": 0.88, "within": True},
                  {"share": 0.25, "score": 0.5, "within": False},
                  {"share": 0.1, "score": None, "within": False}],
    },
)  # fmt: skip

TEXT = """\
verdict   half the MACs, 0.75 of the time, half the file, score −0.02, top-1 −1.0 points, \
proof passed
                before         after   ratio
MACs               2 M           1 M   0.500
parameters         1 k           600   0.600
file           65.1 kB       32.5 kB   0.500
nodes                7             6   0.857
latency     4 ±0.1 ms     3 ±0.1 ms   0.750
top-1           90.00%        89.00%  -1.00%
target    macs 0.5; achieved macs 0.5, params 0.6
proof     pruned and masked original: equal, relative error 2.0e-07
drift     cosine 0.9876, SQNR 21.5 dB, top-1 agreement 95.0% (100 samples, the given data)
measured  provider CPU, threads 1
score     0.9 before, 0.88 after (m.py:f)
tried     macs 0.5: score 0.88
tried     macs 0.25: score 0.5, drops too much
tried     macs 0.1: out of reach
groups    2: 9 of 12 channels kept
frozen    2 weights: an output
frozen    1 weight: a shape
note      a warning
note      a note"""


def test_all_lines():
    got = [" ".join(line.split()) for line in REPORT.text().splitlines()]
    assert got == [" ".join(line.split()) for line in TEXT.splitlines()]


def test_values_are_plain():
    values = json.loads(json.dumps(REPORT.values()))
    assert values["before"]["latency_ms"] == 4 and values["after"]["accuracy"] == 0.89
    assert values["proof"]["passed"] and values["fidelity"]["accuracy"] == [0.9, 0.89]
    assert REPORT["achieved"]["params"] == 0.6
    with pytest.raises(KeyError):
        REPORT["nothing"]


def test_what_was_not_measured_is_left_out():
    before, after = (Measured(m.macs, m.params, m.bytes, m.nodes) for m in (BEFORE, AFTER))
    equal = Fidelity(1.0, None, None, 1, "seeded inputs")
    lines = plain(comparison(before, after, equal, {"provider": "CPU"})).splitlines()
    assert len(lines) == 6 and lines[-1] == (
        "drift     cosine 1.0000, outputs equal (1 samples, seeded inputs)"
    )


def test_the_report_of_a_run_has_its_keys() -> None:
    values = onnxprune.prune(MODELS / "digits.onnx", {"macs": 0.7}).report.values()
    keys = {"before", "after", "target", "achieved", "proof", "fidelity", "groups", "frozen"}
    assert keys <= values.keys()
    for side in ("before", "after"):
        assert {"macs", "params", "bytes", "latency_ms"} <= values[side].keys()
        assert values[side]["latency_ms"] > 0
    assert values["proof"]["passed"] and values["proof"]["max_relative_error"] <= 1e-4
    json.dumps(values)


def test_a_proof_that_failed_and_a_run_without_a_target_say_so() -> None:
    text = replace(REPORT, proof=Proof(0.5, False), target={}).text()
    assert "NOT equal, relative error 5.0e-01" in text
    assert "target    whatever is free; achieved" in text
