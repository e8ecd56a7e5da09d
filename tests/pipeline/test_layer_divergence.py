"""How far single layers are from the original's: equal, as told by hand, or not comparable."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS, Net
from running import samples

import onnxprune
from onnxprune.cli import main
from onnxprune.ir import graph, inputs
from onnxprune.ir.runtime import open_session, run
from onnxprune.ir.skeleton import with_outputs
from onnxprune.pipeline.layer_divergence import FEW, Few, Layers, divergences, few_samples
from onnxprune.types import Plan

MODEL = NETWORKS["pooled_classifier"]()
FEEDS = {name: np.resize(array, (20, *array.shape[1:])) for name, array in samples(MODEL).items()}


def weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [t for t in model.graph.initializer if len(t.dims) > 1]


def compared(model: onnx.ModelProto, pruned: onnx.ModelProto) -> dict[str, float]:
    """By the names of layers that are not pruned."""
    named = {n.output[0]: n.output[0] for n in model.graph.node if n.op_type in ("Conv", "Gemm")}
    layers = Layers(named, Few([FEEDS], "samples"))
    found = divergences(model, pruned, Plan({}, {}), layers)
    assert found is not None and found.samples == 20
    return {row.name: row.divergence for row in found.rows}


def test_equal_models_do_not_differ() -> None:
    found = compared(MODEL, MODEL)
    assert len(found) == len(weights(MODEL)) and not any(found.values())


def test_a_layer_that_gives_a_tenth_more_differs_by_a_hundredth() -> None:
    other = onnx.ModelProto()
    other.CopyFrom(MODEL)
    last = other.graph.node[-1]
    assert last.op_type == "Gemm"
    for tensor in other.graph.initializer:
        if tensor.name in last.input:
            values = onnx.numpy_helper.to_array(tensor) * np.float32(1.1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    *before, changed = compared(MODEL, other).values()
    assert not any(before) and changed == pytest.approx(0.01, rel=1e-4)


def test_what_is_pruned_is_compared_where_channels_stay() -> None:
    """By hand: positions picked from the original's outputs."""
    result = onnxprune.prune(MODEL, {"macs": 0.6}, data=FEEDS, latency=False, round_to=1)
    assert result.report.layers is None
    layers = result.with_layers().report.layers
    assert layers is not None and layers.samples == FEW and layers.data == "the given data"
    few = inputs.rows(FEEDS, slice(0, FEW))
    for row in layers.rows:
        pair = [
            run(open_session(with_outputs(model, [row.output])), few)[row.output]
            for model in (result.original.proto, result.model)
        ]
        for axis, kept in result.plan.keep.items():
            if axis.tensor == row.output:
                pair[0] = np.take(pair[0], kept, axis.axis)
        error = ((pair[1] - pair[0]) ** 2).sum() / (pair[0] ** 2).sum()
        assert row.divergence == pytest.approx(error, rel=1e-4, abs=1e-9)
    assert any(row.divergence > 1e-4 for row in layers.rows)


def test_what_cannot_be_compared_is_left_out() -> None:
    n = Net(x=("N", 4))
    other = n.model(n.gemm(n.relu(n.gemm("x", 4, 6)), 6, 3))
    layers = Layers({"a": "none of both", "b": other.graph.node[0].output[0]})
    assert divergences(other, other, Plan({}, {}), layers) is None  # no samples
    few = layers.outputs, Few([{"x": np.zeros((2, 4), np.float32)}], "zeros")
    found = divergences(other, other, Plan({}, {}), Layers(*few))
    assert found is None or [row.name for row in found.rows] == ["b"]
    missing = Layers({"a": "none of both"}, few[1])
    assert divergences(other, other, Plan({}, {}), missing) is None


def fixed(batch: int) -> onnx.ModelProto:
    """The classifier for so many samples at once."""
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    for value in (*graph.graph_inputs(model), *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model


@pytest.mark.parametrize(("batch", "counts"), [(0, [1] * FEW), (1, [1] * FEW), (20, [20])])
def test_a_few_of_the_samples_are_taken_as_few_at_once_as_may_be(
    batch: int, counts: list[int]
) -> None:
    model = fixed(batch) if batch else MODEL
    taken = few_samples(model, inputs.load_data(FEEDS, model), None)
    assert taken is not None and [inputs.count(piece) for piece in taken.pieces] == counts
    name = next(iter(FEEDS))
    assert np.array_equal(taken.pieces[-1][name][-1], FEEDS[name][sum(counts) - 1])
    assert few_samples(model, None, "random") is None


def test_reports_and_overlays_tell_of_layers(tmp_path: Path) -> None:
    onnx.save(MODEL, tmp_path / "m.onnx")
    np.savez(tmp_path / "calib.npz", **FEEDS)  # type: ignore[arg-type]
    files = {name: tmp_path / f"{name}.json" for name in ("report", "overlay")}
    words = ["prune", tmp_path / "m.onnx", tmp_path / "o.onnx", "--target", "macs=0.6",
             "--calib", tmp_path / "calib.npz", "--no-distill", "--no-latency", "-q",
             "--report", files["report"], "--overlay", files["overlay"]]  # fmt: skip
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    layers = json.loads(files["report"].read_text())["layers"]
    assert layers["data"] == "calibration samples" and layers["samples"] == FEW
    (overlay,) = json.loads(files["overlay"].read_text()).values()
    told = {
        key: row["divergence"] for key, row in overlay["results"].items() if "divergence" in row
    }
    assert sorted(told.values()) == sorted(row["divergence"] for row in layers["rows"])
