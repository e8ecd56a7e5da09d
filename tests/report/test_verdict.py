"""The one line that a report begins with."""

from dataclasses import replace

import pytest

from onnxprune.ir.timing import Latency
from onnxprune.report.values import Fidelity, Measured
from onnxprune.report.verdict import verdict
from onnxprune.surgery.proof import Proof

PASSED, SEEDED = Proof(0.0, True), Fidelity(0.9, 20.0, 1.0, 2, "seeded inputs")


def model(macs: float, size: int, ms: float | None = None) -> Measured:
    time = None if ms is None else Latency(ms, ms, ms, 11)
    return Measured(macs, 100, size, 7, time)


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (model(200, 1000, 4.0), "all MACs, the same time, 1.00 of the file, proof passed"),
        (model(100.5, 500, 2.76), "half the MACs, 0.69 of the time, half the file, proof passed"),
        (
            model(98, 1010, 5.0),
            "0.49 of the MACs, 1.25 of the time, 1.01 of the file, proof passed",
        ),
        (model(180, 900), "0.90 of the MACs, 0.90 of the file, proof passed"),
    ],
)
def test_what_is_left(after: Measured, text: str) -> None:
    assert verdict(model(200, 1000, 4.0), after, SEEDED, PASSED) == text


def test_what_became_of_the_accuracy() -> None:
    def told(drift: Fidelity | None, score: tuple[float, float] | None = None) -> str:
        evaluation = score and {"before": score[0], "after": score[1]}
        return verdict(model(2, 2), model(1, 1), drift, PASSED, evaluation or None)

    begin, end = "half the MACs, half the file, ", ", proof passed"
    data = replace(SEEDED, data="the given data", agreement=0.975)
    assert told(data) == f"{begin}the same top-1 for 97.5% of samples{end}"
    right = replace(data, accuracy=(0.996, 0.992))
    assert told(right) == f"{begin}top-1 −0.4 points{end}"
    assert told(replace(right, accuracy=(0.5, 0.6))) == f"{begin}top-1 +10.0 points{end}"
    assert told(replace(right, accuracy=(0.5, 0.5001))) == f"{begin}top-1 ±0.0 points{end}"
    assert told(None, (0.9, 0.875)) == f"{begin}score −0.025{end}"
    assert told(None) == f"{begin.rstrip(', ')}{end}"


def test_a_proof_that_failed_is_not_overlooked() -> None:
    text = verdict(model(2, 2), model(1, 1), None, Proof(0.5, False))
    assert text.endswith("proof FAILED")
