"""What was measured and cut before is not done again: steps on disk, curves for every target."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import NETWORKS
from present import present
from running import outputs, samples

import onnxprune
from onnxprune import InputError
from onnxprune.allocation import widths
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.compensation.reconstruct import compensate
from onnxprune.compensation.teacher import own_teacher
from onnxprune.importance.units_channels import measure_channels
from onnxprune.pipeline import prune_calibrated, step_cache


@pytest.fixture
def stopping(monkeypatch):
    """Counts the steps that are made; the one with the number in `stop` is interrupted."""
    real = prune_calibrated._step
    made: list[Any] = []
    stop: list[int] = []

    def step(*args):
        if len(made) in stop:
            raise KeyboardInterrupt
        made.append(args)
        return real(*args)

    monkeypatch.setattr(prune_calibrated, "_step", step)
    return made, stop


def run(model: onnx.ModelProto, cache: Path | None, share: float = 0.4, **more: Any):
    options = {"calib": samples(model), "latency": False, "steps": 3, **more}
    return onnxprune.prune(model, {"macs": share}, cache=cache, **options)


@pytest.mark.parametrize("name", ["residual_spine", "vision_transformer"])
def test_a_stopped_run_goes_on_where_it_was(name, tmp_path: Path, stopping):
    made, stop = stopping
    model = NETWORKS[name]()
    whole = run(model, None)
    assert len(made) == 3
    made.clear()
    stop.append(2)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "c.json")
    stop.clear()
    made.clear()
    again = run(model, tmp_path / "c.json")
    assert len(made) == 1
    assert any("2 finished steps were taken from" in note for note in again.report.notes)
    assert sum("a step before removed" in note for note in again.report.notes) == 2
    assert again.plan_json == whole.plan_json
    feeds = samples(model)
    np.testing.assert_allclose(outputs(again.model, feeds), outputs(whole.model, feeds), atol=1e-5)


def test_other_targets_settings_or_damage_begin_anew(tmp_path: Path, stopping):
    made, _ = stopping
    model = NETWORKS["residual_spine"]()
    run(model, tmp_path / "c.json")
    for more in ({"share": 0.45}, {"round_to": 2}):
        made.clear()
        run(model, tmp_path / "c.json", **more)
        assert len(made) == 3
    made.clear()
    run(model, tmp_path / "c.json")
    assert len(made) == 1
    for file in (tmp_path / "c.json.steps").glob("*.onnx"):
        file.write_bytes(file.read_bytes()[:-9])
    made.clear()
    run(model, tmp_path / "c.json")
    assert len(made) == 3


def test_steps_on_other_blocks_begin_anew(monkeypatch: pytest.MonkeyPatch):
    keys = []
    for wanted in ({"macs": 0.5}, {"latency": 0.5}):
        for size in (8, 16):
            monkeypatch.setattr(widths, "kernel_blocks", lambda _device, s=size: Blocks(s, s))
            keys.append(step_cache.run_key("model", "samples", wanted, onnxprune.Settings()))
    assert keys[0] != keys[1] and keys[2] == keys[3]


def test_old_steps_go(tmp_path: Path):
    model = NETWORKS["chain"]()
    for share in (0.9, 0.85, 0.8, 0.75, 0.7):
        run(model, tmp_path / "c.json", share)
    files = list((tmp_path / "c.json.steps").iterdir())
    assert sorted(file.suffix for file in files) == [".json"] * 8 + [".onnx"] * 8


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "c.json.steps").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        run(NETWORKS["chain"](), tmp_path / "c.json")


def test_all_tries_of_a_gate_share_one_table(monkeypatch):
    calls = []

    def counted(*given: Any) -> Any:
        calls.append(given)
        return measure_channels(*given)

    monkeypatch.setattr(prune_calibrated, "measure_channels", counted)
    model = NETWORKS["chain"]()
    options: dict[str, Any] = {"calib": samples(model), "latency": False, "max_drop": 0.4}
    result = onnxprune.prune(
        model, evaluate=lambda session: float(session.get_inputs()[0].shape[0] == 2), **options
    )
    assert len(present(result.report.evaluation)["tries"]) > 3 and len(calls) == 1
    memory: dict[str, Any] = {}
    for share in (0.8, 0.6):
        onnxprune.prune(model, {"macs": share}, calib=samples(model), latency=False, cache=memory)
    assert len(calls) == 2 and len(memory) == 1


def test_later_steps_aim_at_the_original(monkeypatch):
    """What the layers of the last step are compared with is what the model gave before the first.

    The steps are so uneven that aiming at the model between would keep its errors.
    """
    model = NETWORKS["residual_spine"]()
    feeds = samples(model)
    base = outputs(model, feeds)
    errors = []
    for used in (
        compensate,
        lambda a, kept, teacher, *told: compensate(a, kept, own_teacher(a, teacher.data), *told),
    ):
        monkeypatch.setattr(prune_calibrated, "compensate", used)
        result = run(model, None, 0.3, steps=5, round_to=1)
        errors.append(np.square(outputs(result.model, feeds) - base).mean())
    assert errors[0] < errors[1]
