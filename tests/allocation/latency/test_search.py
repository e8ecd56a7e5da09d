"""A target on latency, with a clock that is made up."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from clock import Clock, widths_of
from paths import MODELS

import onnxprune
from onnxprune.cli import main
from onnxprune.errors import TargetError

DIGITS = str(MODELS / "digits.onnx")


@pytest.mark.parametrize("share", [0.8, 0.5, 0.3])
@pytest.mark.parametrize("whole", [0.8, 1.0, 1.3])
def test_the_whole_model_meets_the_target(clock: Clock, share: float, whole: float):
    clock.whole = whole  # the whole gains more or less than its subgraphs say
    result = onnxprune.prune(DIGITS, {"latency": share})
    uncut, cut = Path(DIGITS).read_bytes(), result.model.SerializeToString()
    assert share - 0.15 < clock.ratio(uncut, cut) <= share
    assert all(kept in (n, *range(0, n, 8)) for n, kept in widths_of(result))


def test_together_with_another_target(clock: Clock):
    result = onnxprune.prune(DIGITS, {"latency": 0.8, "params": 0.4})
    assert result.report.achieved["params"] <= 0.4


def test_nothing_is_faster(clock: Clock, tmp_path: Path):
    clock.constant = True
    output = tmp_path / "out.onnx"
    done = CliRunner().invoke(main, ["prune", DIGITS, str(output), "--target", "latency=0.9"])
    assert done.exit_code == 3
    assert "no plan is faster than the original" in done.output
    assert not output.exists()


def test_out_of_reach(clock: Clock):
    with pytest.raises(TargetError, match="is the least"):
        onnxprune.prune(DIGITS, {"latency": 0.001})


def test_after_lossless_removal_the_target_is_still_the_original_s(clock: Clock):
    result = onnxprune.prune(DIGITS, {"latency": 0.5}, lossless=True)
    uncut, cut = Path(DIGITS).read_bytes(), result.model.SerializeToString()
    assert clock.ratio(uncut, cut) <= 0.5
