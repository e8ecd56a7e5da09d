"""Every topology and every real model: random plans are proved, and the groups are as recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import NETWORKS
from oracle import check_model
from paths import GOLDEN, ROOT

import onnxprune
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph

SHARED = ROOT.parent / "shared" / "models"
REAL = """
    resnet56_cifar10 resnet56_cifar10_bn resnet20_cifar10 resnet8_cifar10 dscnn_kws
    mobilenetv1_025_128_imagenet face_rfb320 fastestdet magika_v3_3 bert_tiny3_sst2
    silero_vad_16k
""".split()


def describe_groups(model: onnx.ModelProto) -> str:
    """One line a group: how many channels, and the stored axes they run through."""
    analysis = analyze(model)
    lines = []
    for group in analysis.groups:
        members = [
            f"{axis.tensor}[{axis.axis}]" + (f"*{p.shape[1]}" if p.shape[1] > 1 else "")
            for axis, p in group.axes()
            if axis.tensor in analysis.stored
        ]
        lines.append(f"{group.channels} channels  {' '.join(members)}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", NETWORKS)
def test_random_plans_are_exact(name: str):
    check_model(NETWORKS[name]())


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_as_recorded(name: str, request: pytest.FixtureRequest):
    path, text = GOLDEN / f"{name}.groups.txt", describe_groups(NETWORKS[name]())
    if request.config.getoption("--golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, "run pytest --golden and review the difference"


def test_the_shipped_model():
    assert check_model(onnx.load(ROOT / "models" / "digits.onnx"), plans=3) == 720


@pytest.mark.parametrize("name", REAL)
def test_real_models(name: str):
    path = SHARED / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    shapes = {"input": (1, 576), "state": (2, 1, 128), "sr": ()} if "silero" in name else None
    assert check_model(onnx.load(path), plans=2, shapes=shapes) >= 64


def test_residual_streams_are_pruned_too():
    """The spine of a residual net is one group, not frozen."""
    text = describe_groups(NETWORKS["residual_spine"]())
    assert any(line.count("[0]") >= 3 and "[1]" in line for line in text.splitlines())


@pytest.mark.parametrize("given", [None, {"x": (1, 3, 100)}, {"x": (1, 3, 7)}])
def test_varying_sizes_stay_free(given: dict[str, Any] | None):
    """A size seen at two samples must not be written down as if it never changed."""
    model = NETWORKS["varying_length_through_strides"]()
    result = onnxprune.prune(model, {"macs": 0.5}, input_shapes=given, latency=False).model
    session = onnxruntime.InferenceSession(graph.model_bytes(result))
    for batch, length in ((1, 64), (2, 40), (3, 33), (1, 6)):
        x = np.random.default_rng(0).standard_normal((batch, 3, length)).astype(np.float32)
        assert session.run(None, {"x": x})[0].shape == (batch, length // 2, 5)
    names = {name for node in result.graph.node for name in node.input}
    assert {t.name for t in result.graph.initializer} <= names
