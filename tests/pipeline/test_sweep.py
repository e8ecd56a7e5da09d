"""Many targets from one calibration."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import NETWORKS, samples_of

import onnxprune
from onnxprune import InputError, Settings, TargetError
from onnxprune.importance.units_channels import measure_channels
from onnxprune.pipeline import prune_calibrated

MODEL = NETWORKS["residual_spine"]()
CALIB = samples_of(MODEL, np.random.default_rng(0), 16)
OPTIONS = Settings(latency=False, round_to=1, distill=False)


def test_groups_are_measured_once_and_each_result_is_that_of_prune(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = list[int]()

    def counted(*given: Any) -> Any:
        calls.append(1)
        return measure_channels(*given)

    monkeypatch.setattr(prune_calibrated, "measure_channels", counted)
    targets: list[dict[str, str | float]] = [{"macs": 0.8}, {"macs": 0.6, "params": "90%"}]
    found = onnxprune.sweep(MODEL, targets, OPTIONS, out=tmp_path / "new/folder", calib=CALIB)
    assert len(calls) == 1
    for one, target in zip(found.targets, targets, strict=True):
        alone = onnxprune.prune(MODEL, target, OPTIONS, calib=CALIB)
        assert one.report and one.report.values() == alone.report.values()
        assert onnx.load(one.file).SerializeToString() == alone.model.SerializeToString()
    names = sorted(path.name for path in (tmp_path / "new/folder").iterdir())
    assert names == ["model-macs_0.6+params_90percent.onnx", "model-macs_0.8.onnx"]


def test_a_target_out_of_reach_costs_no_other_one() -> None:
    shares = list[float]()
    stages = list[str]()

    def told(stage: str, share: float) -> None:
        shares.append(share)
        stages.append(stage)

    targets = [{"macs": 1e-9}, {"macs": 0.8}]
    found = onnxprune.sweep(MODEL, targets, OPTIONS, progress=told)
    assert found.targets[0].report is None and "out of reach" in found.targets[0].why
    assert found.targets[1].report and found.targets[1].report.achieved["macs"] <= 0.8
    assert shares == sorted(shares) and shares[-1] == 1
    assert stages[0].startswith("1 of 2: ") and stages[-1].startswith("2 of 2: ")
    with pytest.raises(TargetError, match="out of reach"):
        onnxprune.sweep(MODEL, targets[:1], OPTIONS)


def test_scores_of_the_user() -> None:
    found = onnxprune.sweep(MODEL, [{"macs": 0.8}], OPTIONS, evaluate=lambda session: 3.0)
    assert (found.score, found.targets[0].score) == (3.0, 3.0)


def test_what_cannot_be_done(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to do: give targets"):
        onnxprune.sweep(MODEL, [], OPTIONS)
    with pytest.raises(InputError, match="max_drop searches for one target"):
        onnxprune.sweep(MODEL, [{"macs": 0.8}], OPTIONS, max_drop=0.1, evaluate=lambda s: 1.0)
    told = list[str]()
    with pytest.raises(InputError, match="unknown target 'mac'"):
        onnxprune.sweep(
            MODEL,
            [{"macs": 0.8}, {"mac": 0.8}],
            OPTIONS,
            progress=lambda name, _: told.append(name),
        )
    assert told == []  # before any work
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file: cannot be made: .* Choose another folder"):
        onnxprune.sweep(MODEL, [{"macs": 0.8}], OPTIONS, out=tmp_path / "file")
