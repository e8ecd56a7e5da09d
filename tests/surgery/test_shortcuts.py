"""Which shortcuts become convolutions, and that the model computes what it did."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import Net
from onnx_text import run

import onnxprune
from onnxprune.allocation.latency import kernel_blocks
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, selection
from onnxprune.ir.selection import Selection, selecting
from onnxprune.settings import Settings
from onnxprune.surgery import shortcuts
from onnxprune.surgery.shortcuts import convolved, selections


def strided(n: Net, y: str, axes: list[int], start: int = 0, step: int = 2) -> str:
    count = len(axes)
    return n.op("Slice", y, *(n.const(np.array(v)) for v in (
        [start] * count, [2**31] * count, axes, [step] * count)))  # fmt: skip


def padded(n: Net, y: str, before: int, after: int, **attrs: str) -> str:
    return n.op("Pad", y, n.const(np.array([0, before, 0, 0, 0, after, 0, 0])), **attrs)


def network(kind: str) -> onnx.ModelProto:
    """Two stages of convolutions with a shortcut between them."""
    n = Net(x=(1, 3, 8, 8))
    y = n.relu(n.conv("x", 3, 8))
    z = n.conv(n.relu(n.conv(y, 8, 16, k=3, strides=[2, 2], pads=[1] * 4)), 16, 16)
    s = strided(n, y, [2], start=int(kind == "from the second place"))
    s = strided(n, s, [3])
    if kind == "filled with ones":
        s = n.op("Pad", s, n.const(np.array([0, 4, 0, 0, 0, 4, 0, 0])), n.const(np.float32(1)))
    elif kind == "mirrored":
        s = padded(n, s, 4, 4, mode="reflect")
    elif kind == "through a function":
        s = n.op("Tanh", padded(n, s, 4, 4))
    elif kind == "one by one":
        s = padded(n, padded(n, s, 4, 0), 0, 4)
    elif kind == "cropped":
        s = padded(n, strided(n, s, [1]), 12, 0)
    else:
        s = padded(n, s, 4, 4)
    if kind == "added to a function":
        z = n.op("Tanh", z)
    y = n.op("Add", z, s)
    if kind == "read twice":
        y = n.op("Mul", y, s)
    return n.model(n.conv(n.relu(y), 16, 4))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """These models are so small that a shortcut is a large share of them."""
    monkeypatch.setattr(shortcuts, "MOST_MACS", 1.0)
    monkeypatch.setattr(kernel_blocks, "kernel_blocks", lambda device: Blocks(16, 16))


@pytest.mark.parametrize("kind", ["plain", "one by one", "cropped"])
def test_a_shortcut_becomes_a_convolution(kind: str) -> None:
    model = network(kind)
    stage = convolved(analyze(model), Settings())
    assert stage is not None and stage.proof.passed and stage.proof.max_relative_error < 1e-5
    ops = [node.op_type for node in stage.model.graph.node]
    assert "Pad" not in ops and "Slice" not in ops and ops.count("Conv") == 5
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    for name, value in run(model, x=x).items():
        np.testing.assert_allclose(run(stage.model, x=x)[name], value, rtol=1e-5, atol=1e-6)


OTHERS = ["from the second place", "filled with ones", "mirrored", "through a function"]


@pytest.mark.parametrize("kind", [*OTHERS, "added to a function", "read twice"])
def test_what_no_convolution_picks_stays(kind: str) -> None:
    analysis = analyze(network(kind))
    assert selections(analysis) == [] and convolved(analysis, Settings()) is None


def test_what_only_leaves_channels_out_stays() -> None:
    n = Net(x=(1, 16, 8, 8))
    picked = strided(n, n.relu(n.conv("x", 16, 16)), [1])
    model = n.model(n.conv(n.op("Add", n.conv("x", 16, 8), picked), 8, 4))
    assert selections(analyze(model)) == []


def test_what_costs_much_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = analyze(network("plain"))
    assert len(selections(analysis)) == 1
    monkeypatch.setattr(shortcuts, "MOST_MACS", 1e-3)
    assert selections(analysis) == []


def test_a_model_that_would_change_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("plain")

    def wrong(proto: onnx.ModelProto, found: list[Selection]) -> onnx.ModelProto:
        (one,) = found
        return selecting(proto, [replace(one, weight=2 * one.weight)])

    monkeypatch.setattr(selection, "selecting", wrong)
    with pytest.raises(ProofError, match="shortcuts written as convolutions changed output"):
        convolved(analyze(model), Settings())
    result = onnxprune.prune(model, {"macs": 0.7}, latency=False, compensate=False)
    assert result.convolved == [] and result.report.proof.passed
    assert any(node.op_type == "Pad" for node in result.model.graph.node)


def test_plans_write_shortcuts_again(tmp_path: Path) -> None:
    """The target counts the multiply-accumulates that they add; `--round-to` leaves them."""
    model = network("plain")
    result = onnxprune.prune(model, {"macs": 0.7}, latency=False, compensate=False)
    counted = analyze(result.model).cost.full[0] / analyze(model).cost.full[0]
    assert counted == pytest.approx(result.report.achieved["macs"]) and counted <= 0.7
    (picked,) = json.loads(result.plan_json)["convolved"]
    assert any("shortcuts of slices and pads" in note for note in result.report.notes)
    path = tmp_path / "plan.json"
    path.write_text(result.plan_json)
    again = onnxprune.apply(model, path, latency=False)
    assert graph.model_bytes(again.model) == graph.model_bytes(result.model)
    plain = onnxprune.prune(model, {"macs": 0.7}, latency=False, compensate=False, round_to=1)
    assert "convolved" not in json.loads(plain.plan_json)
    assert any(node.op_type == "Pad" for node in plain.model.graph.node)
    with pytest.raises(InputError, match=f"the plan makes '{picked}' by a convolution"):
        onnxprune.apply(network("mirrored"), path, latency=False)
