"""Models as onnxruntime's own quantiser writes them: pruned, proved, scales cut with channels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import IMAGE, NETWORKS, Net
from onnx import numpy_helper
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
from onnxprune.cutting import running
from onnxprune.rewrite import rewrite
from onnxprune.select import plan_of
from onnxprune.settings import Settings
from onnxprune.steps import prove_between
from onnxprune.survey import survey, weights_of
from onnxprune.types import Plan
from onnxprune.validate import Bench, Proof


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


def test_importance_is_judged_on_real_values(tmp_path: Path):
    """Filters of integers are those of the float model, up to the rounding of their scale."""
    model = NETS["chain"]()
    quantised = static(NETS["chain"](), tmp_path, per_channel=True, weight_type=QuantType.QInt8)
    found = [survey(m) for m in (model, quantised)]
    pairs = list(zip(*(weights_of(f, 0) for f in found), strict=True))
    assert len(pairs) == 2
    for before, after in pairs:
        assert after.group.name == f"{before.group.name}_quantized"
        for real, restored in zip(before.rows, after.rows, strict=True):
            step = np.abs(real).max(1, keepdims=True) / 127
            assert (np.abs(real - restored) <= 0.51 * step).all()


def test_integer_biases_are_parameters(tmp_path: Path):
    """A quantised model has the float model's parameters, and its scales and zero points."""
    model = NETS["chain"]()
    for form in QuantFormat:
        quantised = survey(static(NETS["chain"](), tmp_path, quant_format=form))
        kinds = {
            n: t
            for n, t in graph.constants(quantised.model).items()
            if t.data_type != onnx.TensorProto.INT32
        }  # zero points of biases
        added = sum(np.prod(t.dims) for n, t in kinds.items() if n.endswith(("scale", "_point")))
        assert quantised.cost.full[1] == survey(model).cost.full[1] + added
        assert quantised.cost.full[0] == survey(model).cost.full[0]


def test_packed_weights_are_cut_to_their_bits(tmp_path: Path):
    net = NETS["mlp"]()
    net.opset_import[0].version, net.ir_version = 21, 10
    model = static(net, tmp_path, weight_type=QuantType.QInt4, per_channel=True)
    old, new = (graph.constants(m) for m in (model, halved(model).model))
    weights = [name for name in old if name.endswith("_quantized") and len(old[name].dims) == 2]
    assert len(weights) == 3
    for name in weights:
        numbers = int(np.prod(new[name].dims))
        assert numbers < np.prod(old[name].dims)
        assert new[name].data_type == onnx.TensorProto.INT4
        assert len(new[name].raw_data) == -(-numbers // 2) == graph.tensor_bytes(new[name])


def between(model: onnx.ModelProto, spoil: float) -> Proof | None:
    """The proof between roundings for a random plan, with one kept bias off by `spoil` of it."""
    found, rng = survey(model), np.random.default_rng(0)
    kept = [rng.random(group.channels) < 0.7 for group in found.groups]
    plan: Plan = plan_of(found.groups, kept)
    pruned = rewrite(found.model, found.nodes, plan, found.read)
    bias = next(t for t in pruned.graph.initializer if t.data_type == onnx.TensorProto.INT32)
    values = numpy_helper.to_array(bias).copy()
    values[0] += round(spoil * np.abs(values).max())
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    with running(found, Settings()) as original:
        original.outputs.result()
        return prove_between(found, plan, original.bench, Bench(pruned), original.inputs)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", ["residual_spine", "dense_concat"])
def test_proof_between_roundings(name: str, per_channel: bool, tmp_path: Path):
    """Exact pieces pass; a bias that is one percent off fails, however the rest rounds it away."""
    model = static(NETS[name](), tmp_path, per_channel=per_channel)
    good, bad = between(model, 0.0), between(model, 0.01)
    assert good is not None and good.passed and good.max_relative_error < 1e-6
    assert good.reference == "masked original between roundings"
    assert bad is not None and not bad.passed


def test_a_model_that_never_rounds_has_no_such_proof():
    found = survey(NETS["chain"]())
    with running(found, Settings()) as original:
        nothing = plan_of(found.groups, [np.ones(g.channels, bool) for g in found.groups])
        bench = original.bench
        assert prove_between(found, nothing, bench, bench, original.inputs) is None
