"""What a proposal says, and which commands it gives."""

import pytest

from onnxprune.report.parts import Fact
from onnxprune.report.proposal import Candidate, Proposal

SHARES = {"macs": 0.5, "params": 0.4, "size": 0.45, "ratio": 0.6}


def candidates(*times: float | None) -> list[Candidate]:
    return [Candidate(0.8 - 0.15 * k, SHARES, 6, time) for k, time in enumerate(times)]


def test_every_line() -> None:
    table = [
        Candidate(0.8, SHARES, 6, 0.9),
        Candidate(0.5, {}, refused="macs: 0.6 is the least; fc stays"),
    ]
    proposal = Proposal([Fact("model", "20 MACs")], 10, table, notes=["seen"])
    text = proposal.text("dir/my net.onnx", ["--exclude", "^fc"])
    assert text.splitlines() == [
        "model     20 MACs",
        "targets, and what would be left",
        "  target       MACs  parameters   file   time  channels",
        "  macs=0.8    0.500       0.400  0.450  0.900   6 of 10",
        "  macs=0.5  refused",
        "refused   macs: 0.6 is the least; fc stays",
        "note      seen",
        "advised   give a few hundred samples without labels (--calib): without them accuracy "
        "falls quickly. The table follows from weights alone; samples may choose other widths",
        "advised   accuracy is not predicted: --data test.npz with labels measures it",
        "to type",
        "  # calibrated on your samples",
        "  onnxprune prune 'dir/my net.onnx' 'my net_pruned.onnx' --target macs=0.8 "
        "--calib samples.npz --exclude '^fc'",
        "  # without samples, where accuracy falls quickly",
        "  onnxprune prune 'dir/my net.onnx' 'my net_pruned.onnx' --target macs=0.8 "
        "--exclude '^fc'",
        "  # the smallest that keeps your own score",
        "  onnxprune prune 'dir/my net.onnx' 'my net_pruned.onnx' --max-drop 0.01 "
        "--evaluate score.py:accuracy --calib samples.npz --exclude '^fc'",
    ]


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ((0.9, 0.8, 0.7), 2),
        ((0.9, 0.89, 0.95), 0),  # the others are no faster
        ((0.9, 0.8, 0.79), 1),
        ((None, None, None), 2),
    ],
)
def test_with_samples_the_last_target_that_saves_time(
    times: tuple[float | None, ...], best: int
) -> None:
    proposal = Proposal([], 10, candidates(*times))
    assert proposal.advised(calibrated=True) is proposal.candidates[best]
    assert proposal.advised(calibrated=False) is proposal.candidates[0]


def test_samples_that_are_given_are_not_asked_for() -> None:
    proposal = Proposal([], 10, candidates(None), calibrated=True)
    text = proposal.text("m.onnx", ["--calib", "mine.npz"])
    assert "samples.npz" not in text and text.count("--calib mine.npz") == 2


def test_what_is_no_faster_is_said() -> None:
    assert "fewer MACs take no less time" in Proposal([], 10, candidates(1.0, 0.99)).text("m.onnx")
    assert "no less time" not in Proposal([], 10, candidates(0.9)).text("m.onnx")


def test_nothing_within_reach() -> None:
    proposal = Proposal([], 0, [])
    assert proposal.advised(calibrated=True) is None
    assert "onnxprune inspect m.onnx --verbose" in proposal.text("m.onnx")
