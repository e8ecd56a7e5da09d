"""A result that is slower than its original: whole blocks are tried, and the report says so."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result
from networks import NETWORKS, Net

import onnxprune
from onnxprune import Settings
from onnxprune.allocation.latency import search, timer
from onnxprune.cli import main
from onnxprune.errors import TargetError
from onnxprune.ir.timing import Latency
from onnxprune.pipeline import compare
from onnxprune.pipeline.not_slower import TRIED

NARROW = NETWORKS["residual_spine"]()


def wide() -> onnx.ModelProto:
    n = Net(x=(1, 3, 8, 8))
    return n.model(n.conv(n.relu(n.conv("x", 3, 64)), 64, 4))


WIDE = wide()


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What each result takes of its original's time, in turn."""
    given: list[float] = []
    compared: Any = compare.compare_models

    def told(*arguments: Any) -> compare.Comparison:
        found = compared(*arguments[:3], Settings(latency=False))
        share = given.pop(0)
        times = Latency(1.0, 1.0, 1.0, 9), Latency(share, share, share, 9)
        return compare.Comparison(found.drift, times, found.notes, share > compare.SLOWER)

    monkeypatch.setattr(compare, "compare_models", told)
    return given


def pruned(**options: Any) -> Any:
    return onnxprune.prune(WIDE, {"macs": 0.7}, importance="l2", compensate=False, **options)


@pytest.mark.parametrize(("given", "slower"), [((0.8,), False), ((1.3, 0.9), False),
                                               ((1.3, 1.1), True), ((1.1, 1.3), True)])  # fmt: skip
def test_whole_blocks_are_tried_and_the_faster_result_taken(
    shares: list[float], given: Sequence[float], slower: bool
):
    shares[:] = given
    result = pruned()
    assert not shares and result.report.slower is slower
    assert result.report.achieved["latency"] == min(given)
    assert (TRIED in result.report.notes) == (given[-1] < given[0])
    assert result.report.values()["slower"] is slower
    assert ("MORE time" in result.report.text()) == slower


def test_what_the_user_fixed_is_not_tried_again(shares: list[float]):
    shares[:] = [1.3]
    assert pruned(round_to=1).report.slower


def test_the_first_result_stays_where_whole_blocks_are_out_of_reach(shares: list[float]):
    shares[:] = [1.3]
    result = onnxprune.prune(NARROW, {"macs": 0.7}, importance="l2", compensate=False)
    assert result.report.slower and not shares


def test_a_latency_that_is_not_met_in_the_end_is_out_of_reach(
    shares: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(search, "_measured", lambda *_: 0.5)
    monkeypatch.setattr(timer, "timed", lambda _base, jobs, _device: [0.5] * len(jobs))
    shares[:] = [1.3]
    with pytest.raises(TargetError, match="takes more time than the original"):
        onnxprune.prune(WIDE, {"latency": 0.9})


def commanded(folder: Path, target: str, *words: str) -> tuple[Result, Path]:
    """Run `prune` on the command line, in colours."""
    source, out = folder / "in.onnx", folder / "out.onnx"
    onnx.save(WIDE, source)
    given = ["prune", str(source), str(out), "--target", target, *words]
    return CliRunner().invoke(main, given, color=True), out


@pytest.mark.parametrize("words", [(), ("-q",)])
def test_the_command_line_says_it_in_red(
    shares: list[float], tmp_path: Path, words: tuple[str, ...]
):
    shares[:] = [1.3, 1.1]
    result, out = commanded(tmp_path, "macs=0.7", "--no-compensate", *words)
    assert result.exit_code == 0 and out.exists()
    assert "\x1b[31mslower" in result.output and "MORE time" in result.output
    shares[:] = [0.8]
    assert "\x1b[31m" not in commanded(tmp_path, "macs=0.7", "--no-compensate", *words)[0].output


def test_a_latency_that_ends_slower_exits_with_3(
    shares: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(search, "_measured", lambda *_: 0.5)
    monkeypatch.setattr(timer, "timed", lambda _base, jobs, _device: [0.5] * len(jobs))
    shares[:] = [1.3]
    result, out = commanded(tmp_path, "latency=0.9")
    assert result.exit_code == 3 and not out.exists()
    assert "takes more time than the original" in result.output


def test_the_report_says_where_no_plan_on_blocks_meets_the_target():
    words = "no plan on the blocks of the runtime's kernels meets the target"
    options: dict[str, Any] = {"importance": "l2", "compensate": False, "latency": False}
    narrow = onnxprune.prune(NETWORKS["chain"](), {"macs": 0.03}, **options)
    assert any(words in note for note in narrow.report.notes)
    fixed = onnxprune.prune(NETWORKS["chain"](), {"macs": 0.03}, round_to=1, **options)
    assert not any(
        words in note for note in [*pruned(latency=False).report.notes, *fixed.report.notes]
    )
    held = onnxprune.prune(WIDE, layer_ratio={".": 0.49}, target={"macs": 0.9}, **options)
    assert not any(words in note for note in held.report.notes)


def test_nothing_is_known_where_nothing_is_timed():
    result = pruned(latency=False)
    assert result.report.slower is None and result.report.values()["slower"] is None


def test_report_and_plan_say_which_blocks():
    result = pruned(latency=False)
    assert result.report.values()["blocks"]["convolution"] == 16
    assert '"blocks": {"convolution": 16' in result.plan_json
    assert "16 channels of convolutions" in result.report.text()
    fixed = pruned(latency=False, round_to=8)
    assert fixed.report.values()["blocks"] is None and "blocks" not in fixed.plan_json
