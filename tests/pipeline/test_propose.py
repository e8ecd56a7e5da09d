"""A proposal looks at the model, times models of the widths it predicts, and writes nothing."""

import shlex
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS
from paths import MODELS
from setting_values import by_size
from text_models import text_model

import onnxprune
from onnxprune.cli import main
from onnxprune.pipeline import propose as module
from onnxprune.pipeline.propose import SHARES, propose
from onnxprune.report.proposal import Proposal

DIGITS = str(MODELS / "digits.onnx")


@pytest.fixture(scope="module")
def proposal() -> Proposal:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SECONDS", 0.02)
        return propose(DIGITS, onnxprune.Settings(round_to=8))


def test_what_is_predicted_is_what_pruning_without_samples_gives(proposal) -> None:
    last = proposal.candidates[-1]
    settings = onnxprune.Settings(round_to=8, latency=False)
    report = onnxprune.prune(DIGITS, {"macs": SHARES[-1]}, settings).report
    assert report.achieved["macs"] == pytest.approx(last.shares["macs"])
    assert sum(group["kept"] for group in report.groups) == last.kept
    assert report.achieved["size"] == pytest.approx(last.shares["size"], abs=0.01)


def test_further_samples_alone_are_refused() -> None:
    with pytest.raises(onnxprune.InputError, match=r"more is learnt from beside .* give calib too"):
        propose(DIGITS, onnxprune.Settings(more="random"))


def test_a_timer_elsewhere_times_what_is_proposed() -> None:
    settings = onnxprune.Settings(round_to=8, timer=lambda models, *_: [len(m) for m in models])
    with pytest.raises(onnxprune.InputError, match="give its function an attribute `identity`"):
        propose(DIGITS, settings)
    found = propose(DIGITS, replace(settings, timer=by_size))
    times = [one.time for one in found.candidates]
    assert all(time is not None and 0 < time < 1 for time in times)
    assert times == sorted(times, key=lambda time: -(time or 0))


def test_targets_hold_and_are_timed(proposal) -> None:
    for share, one in zip(SHARES, proposal.candidates, strict=True):
        assert one.shares["macs"] <= share and one.time is not None and one.time > 0
        assert 0 < one.kept < proposal.channels == 720


def test_a_model_without_groups_and_one_that_cannot_be_narrowed_enough() -> None:
    settings = onnxprune.Settings(latency=False)
    text = "m (float[1, 3] x) => (float[1, 2] y) { y = MatMul (x, a) }"
    assert propose(text_model(text, a=(3, 2)), settings).candidates == []
    held = onnxprune.Settings(latency=False, min_channels=1000)
    assert all(one.refused for one in propose(NETWORKS["chain"](), held).candidates)


def test_the_command_proposes_and_writes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(NETWORKS["chain"](), "m.onnx")
    words = ["prune", "m.onnx", "--no-latency", "--min-channels", "2", "--round-to", "4"]
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0 and len(found.output.splitlines()) < 30
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    commands = [shlex.split(line) for line in found.output.splitlines() if "m_pruned" in line]
    assert {"--min-channels", "2", "--no-latency", "4"} <= set(commands[0])
    plain = next(words for words in commands if "--calib" not in words)
    assert CliRunner().invoke(main, plain[1:]).exit_code == 0  # as it stands
    assert Path("m_pruned.onnx").exists()


@pytest.mark.parametrize("words", [["--target", "macs=0.5"], ["--lossless"], ["--dry-run"]])
def test_what_asks_for_a_result_needs_an_output(words: list[str]) -> None:
    found = CliRunner().invoke(main, ["prune", DIGITS, *words])
    assert found.exit_code == 2 and "Missing argument 'OUTPUT'" in found.output


def test_an_output_without_a_target_is_still_refused(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["prune", DIGITS, str(tmp_path / "o.onnx")])
    assert found.exit_code == 2 and found.output.startswith("Error: nothing to do")
