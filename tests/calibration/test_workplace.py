"""What runs the model on samples is what the user names, wherever it runs."""

from typing import Any

import onnxruntime as ort
import pytest
from networks import NETWORKS
from running import samples

import onnxprune
from onnxprune.calibration.samples import calibration
from onnxprune.calibration.workplace import Workplace
from onnxprune.ir import exact_products, runtime
from onnxprune.ir.runtime import Device
from onnxprune.settings import ImportanceSettings, Settings, settings_key

NAMES = ["FirstExecutionProvider", runtime.CPU]


def test_samples_know_where_they_run() -> None:
    model = NETWORKS["chain"]()
    data = calibration(samples(model), model, Settings(device=Device("cpu", 3), scratch="here"))
    assert data.place.device == Device("cpu", 0)
    assert str(data.place.folder) == "here"
    assert Workplace().device.resolve() == runtime.CPU


@pytest.mark.parametrize("network", ["residual_spine", "vision_transformer"])
@pytest.mark.parametrize("compensate", [True, False])
def test_the_device_arrives_wherever_the_model_runs(
    network: str, compensate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is in all sessions but those that prove, check or fold, which optimise nothing."""
    exact_products.saturates()  # asked of the processor, once
    seen, opened = list[list[str]](), ort.InferenceSession

    def session(model: Any, options: Any, providers: list[str], **others: Any) -> Any:
        if options.graph_optimization_level != ort.GraphOptimizationLevel.ORT_DISABLE_ALL:
            seen.append(providers)
        return opened(model, options, [runtime.CPU], **others)

    monkeypatch.setattr(ort, "InferenceSession", session)
    monkeypatch.setattr(ort, "get_available_providers", lambda: NAMES)
    model = NETWORKS[network]()
    options: dict[str, Any] = {"calib": samples(model), "latency": False, "data": samples(model)}
    options |= {"distill": 1} if compensate else {"importance": "wanda", "compensate": False}
    plain = onnxprune.prune(model, {"macs": 0.7}, **options)
    count = len(seen)
    assert count > 2 and all(providers == [runtime.CPU] for providers in seen)
    found = onnxprune.prune(model, {"macs": 0.7}, device=Device("first,cpu"), **options)
    assert len(seen) == 2 * count and all(providers == NAMES for providers in seen[count:])
    assert found.model.SerializeToString() == plain.model.SerializeToString()


def test_kept_results_are_those_of_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: NAMES)
    for stage in (ImportanceSettings, Settings):
        keys = {
            name: settings_key(Settings(device=Device(name)), stage=stage)
            for name in ("cpu", runtime.CPU, "first", "first,cpu")
        }
        assert keys["cpu"] == keys[runtime.CPU] == settings_key(Settings(), stage=stage)
        assert len(set(keys.values())) == 3
