"""The values of a report: plain, frozen, and with nothing measured where nothing was."""

from dataclasses import FrozenInstanceError, asdict

import pytest

from onnxprune.ir.timing import Latency
from onnxprune.report.values import Fidelity, Measured


def test_what_was_not_measured_is_none() -> None:
    plain = Measured(macs=20.0, params=26.0, bytes=358, nodes=3)
    assert plain.latency is None and plain.accuracy is None
    assert Fidelity(1.0, None, None, 2, "seeded inputs").accuracy is None


def test_values_are_plain_and_cannot_be_changed() -> None:
    measured = Measured(20.0, 26.0, 358, 3, Latency(1.5, 1.25, 2.0, 11), 0.75)
    assert asdict(measured) == {
        "macs": 20.0, "params": 26.0, "bytes": 358, "nodes": 3, "accuracy": 0.75,
        "latency": {"median_ms": 1.5, "p10_ms": 1.25, "p90_ms": 2.0, "runs": 11,
                    "quantiles_ms": ()},
    }  # fmt: skip
    with pytest.raises(FrozenInstanceError):
        measured.macs = 0.0  # type: ignore[misc]


def test_equal_values_are_equal() -> None:
    a, b, c = (Fidelity(cosine, 30.0, 1.0, 2, "seeded") for cosine in (0.5, 0.5, 0.75))
    assert a == b and hash(a) == hash(b) and a != c
