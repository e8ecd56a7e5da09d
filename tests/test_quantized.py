"""Models as onnxruntime's own quantiser writes them: pruned, proved, scales cut with channels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import IMAGE, NETWORKS, Net
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from oracle import check_model

import onnxprune
from onnxprune import graph


def mlp() -> onnx.ModelProto:
    """Fully connected layers written as MatMul and Add."""
    n, y = Net(x=("N", 12)), "x"
    for n_in, n_out in ((12, 24), (24, 20), (20, 5)):
        y = n.relu(n.op("Add", n.op("MatMul", y, n.weight(n_in, n_out)), n.weight(n_out)))
    return n.model(y)


def activations() -> onnx.ModelProto:
    """Operators that have an integer form in onnxruntime."""
    n = Net(**IMAGE)
    a = n.op("LeakyRelu", n.conv("x", 3, 12), alpha=0.1)
    b = n.op("Sigmoid", n.conv(a, 12, 12))
    y = n.op("Concat", n.op("Mul", a, b), a, axis=1)
    y = n.op("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = n.op("GlobalAveragePool", n.conv(y, 24, 10))
    return n.model(n.op("Softmax", n.gemm(n.op("Flatten", y), 10, 4)))


NETS = {
    name: NETWORKS[name]
    for name in ("chain", "pooled_classifier", "spatial_flatten", "residual_spine",
                 "inverted_residual", "dense_concat", "squeeze_and_excite", "grouped_convolutions")
} | {"mlp": mlp, "activations": activations}  # fmt: skip


class Samples(CalibrationDataReader):
    """Seeded calibration data."""

    def __init__(self, model: onnx.ModelProto) -> None:
        rng = np.random.default_rng(0)
        (x,) = graph.graph_inputs(model)
        shape = [d.dim_value or 2 for d in x.type.tensor_type.shape.dim]
        self.rows: Iterator[dict] = iter(
            [{x.name: rng.standard_normal(shape).astype(np.float32)} for _ in range(4)]
        )

    def get_next(self) -> dict | None:
        return next(self.rows, None)


def static(model: onnx.ModelProto, folder: Path, **options: object) -> onnx.ModelProto:
    """The model quantised after calibration."""
    path = folder / "quantised.onnx"
    quantize_static(model, path, Samples(model), **options)
    return onnx.load(path)


def dynamic(model: onnx.ModelProto, folder: Path, **options: object) -> onnx.ModelProto:
    """The model with quantised weights, activations quantised by their own range."""
    path = folder / "quantised.onnx"
    quantize_dynamic(model, path, **options)
    return onnx.load(path)


def halved(model: onnx.ModelProto) -> onnxprune.Result:
    """Pruned to half the MACs, with a proof."""
    result = onnxprune.prune(model, {"macs": 0.5}, latency=False)
    assert result.report.proof.passed
    assert result.report.achieved["macs"] <= 0.5
    onnx.checker.check_model(result.model, full_check=True)
    return result


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("form", list(QuantFormat), ids=lambda form: form.name)
@pytest.mark.parametrize("name", NETS)
def test_calibrated_models(name: str, form: QuantFormat, per_channel: bool, tmp_path: Path):
    model = static(NETS[name](), tmp_path, quant_format=form, per_channel=per_channel)
    halved(model)
    check_model(model, plans=3)


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("name", NETS)
def test_dynamic_models(name: str, per_channel: bool, tmp_path: Path):
    model = dynamic(NETS[name](), tmp_path, per_channel=per_channel)
    halved(model)
    check_model(model, plans=3)


TYPES = [
    (QuantType.QUInt8, QuantType.QUInt8),
    (QuantType.QUInt8, QuantType.QInt8),
    (QuantType.QUInt16, QuantType.QInt16),
    (QuantType.QInt8, QuantType.QInt4),
    (QuantType.QUInt8, QuantType.QUInt4),
]


@pytest.mark.parametrize("types", TYPES, ids=lambda pair: "-".join(t.name for t in pair))
@pytest.mark.parametrize("name", ["chain", "mlp"])
def test_types(name: str, types: tuple[QuantType, QuantType], tmp_path: Path):
    net = NETS[name]()
    net.opset_import[0].version, net.ir_version = 21, 10
    activation, weight = types
    model = static(net, tmp_path, activation_type=activation, weight_type=weight, per_channel=True)
    halved(model)
