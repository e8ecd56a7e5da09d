"""Say in one line what came of pruning: what is left to compute, time, file, accuracy, proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnxprune.report.parts import TELLS
from onnxprune.report.values import Fidelity, Measured
from onnxprune.surgery.proof import SEEDED, Proof

__all__ = ["verdict"]

#: Shares that have a word of their own, and how near they must be.
HALF, NEAR = 0.5, 0.005


def verdict(
    before: Measured,
    after: Measured,
    drift: Fidelity | None,
    proof: Proof,
    evaluation: Mapping[str, Any] | None = None,
) -> str:
    """Sum up a pruned model: `half the MACs, 0.69 of the time, top-1 −0.4 points, proof passed`.

    Args:
        before: costs of the original.
        after: costs of the pruned model.
        drift: between their outputs, None where it was not measured.
        proof: that the cut was exact.
        evaluation: the user's own score before and after.
    """
    costs = _left(after.macs, before.macs, "MACs"), _time(before, after)
    file = _left(after.bytes, before.bytes, "file")
    found = [*costs, file, *_accuracy(drift, evaluation)]
    told = [text for text in found if text]
    return ", ".join([*told, "proof passed" if proof.passed else "proof FAILED"])


def _left(after: float, before: float, what: str) -> str:
    """What is left of a cost."""
    share = after / before if before else 1.0
    if abs(share - HALF) <= NEAR:
        return f"half the {what}"
    return f"all {what}" if share == 1 and what.endswith("s") else f"{share:.2f} of the {what}"


def _time(before: Measured, after: Measured) -> str:
    """What is left of the time; none where it was not measured."""
    if before.latency is None or after.latency is None:
        return ""
    share = after.latency.median_ms / before.latency.median_ms
    return "the same time" if 1 / TELLS < share < TELLS else f"{share:.2f} of the time"


def _accuracy(drift: Fidelity | None, evaluation: Mapping[str, Any] | None) -> Iterator[str]:
    """What became of the user's score, of top-1, or else how many samples agree."""
    if evaluation is not None and evaluation.get("after") is not None:
        yield f"score {_signed(evaluation['after'] - evaluation['before'], '.4g')}"
    if drift is None:
        return
    if drift.accuracy is not None:
        first, second = drift.accuracy
        yield f"top-1 {_signed(100 * (second - first), '.1f')} points"
    elif drift.agreement is not None and drift.data != SEEDED:
        yield f"the same top-1 for {drift.agreement:.1%} of samples"


def _signed(value: float, form: str) -> str:
    """A difference with its sign; zero has both."""
    text = format(abs(value), form)
    return f"{'±' if float(text) == 0 else '+' if value > 0 else '−'}{text}"
