"""The benchmark of calibration in passes: its networks, and how seconds are counted per stage."""

import sys
import time
from collections.abc import Callable

import onnx
import pytest
from paths import TOOLS

sys.path.insert(0, str(TOOLS))
import bench_passes_process
from bench_networks import densenet, mobilenet_v2, resnet56, vit
from bench_passes import row_of
from onnx.shape_inference import infer_shapes


@pytest.mark.parametrize(
    ("build", "millions"),
    [(resnet56, 0.85), (mobilenet_v2, 3.50), (densenet, 0.80), (vit, 22.0)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_network_is_valid_and_as_large_as_published(
    build: Callable[[], onnx.ModelProto], millions: float
) -> None:
    model = build()
    onnx.checker.check_model(infer_shapes(model, strict_mode=True))
    # statistics of normalisation and biases beside them count too
    sizes = [onnx.numpy_helper.to_array(tensor).size for tensor in model.graph.initializer]
    assert sum(sizes) / 1e6 == pytest.approx(millions, rel=0.02)


def test_seconds_count_for_the_stage_that_was_told_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.0, 7.0, 8.0])
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    times = bench_passes_process.StageTimes(quiet=True)
    times("measuring", 0.0)
    times("measuring, 5 s left", 0.5)
    times("refitting", 0.5)
    times.close()
    assert times.seconds == {"start": 1.0, "measuring": 6.0, "refitting": 1.0}


def test_a_row_shows_passes_of_each_stage() -> None:
    about = {"model": "chain", "samples": 8, "pass": {"seconds": 2.0}, "peak_bytes": 5e6}
    stages = {"start": 0.1, "measuring": 9.0}
    row = row_of({**about, "cpu_seconds": 12.0, "passes": 5.9, "stages": stages})
    assert row == ("chain", "8", "2.00", "12.0", "5.9", "5", "measuring 4.5")
