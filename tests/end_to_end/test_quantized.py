"""Models as onnxruntime's own quantiser writes them: pruned, proved, scales cut with channels."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import NETWORKS, Net
from onnx import numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType
from oracle import check_model
from planted_zeros import channels, zero_filters
from present import present
from quantised_models import NETS, decoded, dynamic, static

import onnxprune
from onnxprune.groups.analysis import analyze
from onnxprune.importance.group_weights import weights_of
from onnxprune.ir import graph, tensors
from onnxprune.ops.dequantize import as_real


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


@pytest.mark.parametrize("form", list(QuantFormat), ids=lambda form: form.name)
@pytest.mark.parametrize("name", ["batch_normalised", "squeeze_and_excite", "residual_spine"])
def test_no_channel_is_wrongly_constant(name: str, form: QuantFormat, tmp_path: Path):
    """Filters of zeros, quantised: whatever goes without loss leaves the outputs as they were."""
    net = NETWORKS[name]()
    for tensor in (t for t in net.graph.initializer if len(t.dims) == 4):
        values = numpy_helper.to_array(tensor).copy()
        values[::2] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    model = static(net, tmp_path, quant_format=form)
    proof = onnxprune.prune(model, lossless=True, latency=False).report.proof
    assert proof.passed and proof.reference == "original" and proof.max_relative_error == 0


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
    analysis = [analyze(m) for m in (model, quantised)]
    pairs = list(zip(*(weights_of(f, 0) for f in analysis), strict=True))
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
        quantised = analyze(static(NETS["chain"](), tmp_path, quant_format=form))
        kinds = {
            n: t
            for n, t in graph.constants(quantised.model).items()
            if t.data_type != onnx.TensorProto.INT32
        }  # zero points of biases
        added = sum(np.prod(t.dims) for n, t in kinds.items() if n.endswith(("scale", "_point")))
        assert quantised.cost.full[1] == analyze(model).cost.full[1] + added
        assert quantised.cost.full[0] == analyze(model).cost.full[0]


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
        assert len(new[name].raw_data) == -(-numbers // 2) == tensors.tensor_bytes(new[name])


def stored_as(kind: int) -> onnx.ModelProto:
    """Three layers whose weights are stored in a type that numpy lacks."""
    n, y = Net(x=("N", 9), opset=21), "x"
    for n_in, n_out in ((9, 17), (17, 13), (13, 5)):
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        weight = n.const((n.rng.standard_normal((n_in, n_out)) * 2).round().clip(0).astype(dtype))
        if kind == onnx.TensorProto.BFLOAT16:
            weight = n.op("Cast", weight, to=onnx.TensorProto.FLOAT)
        else:
            scale = n.const(n.rng.uniform(0.1, 0.3, n_out).astype(np.float32))
            weight = n.op("DequantizeLinear", weight, scale, axis=1)
        y = n.relu(n.op("MatMul", y, weight))
    model = n.model(y)
    model.ir_version = 10
    return model


@pytest.mark.parametrize("name", ["INT4", "UINT4", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2"])
def test_weights_that_numpy_lacks(name: str):
    kind = onnx.TensorProto.DataType.Value(name)
    model = stored_as(kind)
    assert check_model(model, plans=3) == 17 + 13
    for tensor in halved(model).model.graph.initializer:
        if tensor.data_type == kind:
            assert len(tensor.raw_data) == tensors.tensor_bytes(tensor)


def blockwise(bits: int, zero_points: bool) -> onnx.ModelProto:
    """Three layers of packed rows, quantised in blocks of 32 along the summed axis."""
    n, y = Net(x=("N", 64)), "x"
    for k, rows in ((64, 128), (128, 96), (96, 5)):
        blocks, width = k // 32, 32 * bits // 8
        packed = n.const(n.rng.integers(0, 256, (rows, blocks, width)).astype(np.uint8))
        scales = n.const(n.rng.uniform(0.01, 0.03, (rows, blocks)).astype(np.float32))
        shape = (rows, -(-blocks * bits // 8))
        zero = n.const(n.rng.integers(90, 170, shape).astype(np.uint8)) if zero_points else ""
        bias = n.const(n.rng.standard_normal(rows).astype(np.float32))
        inputs = (y, packed, scales, zero, "", bias)
        y = n.op(
            "MatMulNBits", *inputs, domain="com.microsoft", K=k, N=rows, bits=bits, block_size=32
        )
        y = n.relu(y)
    model = n.model(y)
    kind = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["N", 5])
    model.graph.output[0].type.CopyFrom(kind)  # inference does not know the operator
    return model


@pytest.mark.parametrize(
    ("bits", "zero_points", "free"), [(4, False, 4 + 3), (8, True, 4 + 3), (4, True, 2 + 2)]
)
def test_packed_rows_go_with_whole_blocks(bits: int, zero_points: bool, free: int):
    """What reads 32 channels as one block ties them together; two zero points share a byte."""
    model = blockwise(bits, zero_points)
    assert check_model(model, plans=3) == free
    result = onnxprune.prune(model, {"macs": 0.6}, latency=False)
    assert result.report.proof.passed and result.report.achieved["macs"] <= 0.6


def test_packed_rows_are_judged_by_their_numbers():
    """The importance of a packed row is the norm of the row that the operator multiplies with."""
    for bits, zero_points in ((4, False), (4, True), (8, True)):
        model = blockwise(bits, zero_points)
        analysis = analyze(model)
        name = present(analysis.nodes[0].inputs[1]).name
        rows = present(as_real(analysis.nodes, analysis.read)(name)).reshape(128, 64)
        del model.graph.node[1:]
        model.graph.output[0].CopyFrom(onnx.ValueInfoProto(name=model.graph.node[0].output[0]))
        model.graph.node[0].input[5] = ""
        columns = onnxruntime.InferenceSession(graph.model_bytes(model)).run(
            None, {"x": np.eye(64, dtype=np.float32)}
        )[0]
        np.testing.assert_allclose(rows, columns.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("zero_points", [False, True], ids=["symmetric", "shifted"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
def test_weights_that_arithmetic_decodes_stay_integers(per_channel: bool, zero_points: bool):
    """The file gets smaller, although the graph computes its weights from others."""
    model = decoded(per_channel, zero_points)
    assert check_model(model, plans=3) == 64 + 48
    for settings in ({}, {"importance": "l1", "compensate": False}, {"calib": "random"}):
        result = onnxprune.prune(model, {"macs": 0.5}, latency=False, calib_samples=16, **settings)
        assert result.report.proof.passed
        assert graph.stored_bytes(result.model) < 0.6 * graph.stored_bytes(model)


@pytest.mark.parametrize("zero_points", [False, True], ids=["symmetric", "shifted"])
def test_decoded_weights_are_judged_by_their_numbers(zero_points: bool):
    model = decoded(True, zero_points)
    analysis = analyze(model)
    first = next(t.name for t in model.graph.initializer if tuple(t.dims) == (40, 64))
    product = next(node for node in model.graph.node if node.op_type == "MatMul")
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=product.input[1]))
    shown = onnxruntime.InferenceSession(graph.model_bytes(model)).run(
        None, {"x": np.zeros((1, 4, 40), np.float32)}
    )[0]
    real = present(as_real(analysis.nodes, analysis.read)(first))
    np.testing.assert_allclose(np.broadcast_to(real, shown.shape), shown, rtol=1e-6)


FORMS = ["QDQ", "QOperator", "dynamic"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["chain", "spatial_flatten", "split_and_concat", "unet"])
def test_planted_channels_go(name: str, form: str, tmp_path: Path):
    """Zeroed filters vanish, whatever integer stands for zero."""
    net = NETWORKS[name]()
    planted = zero_filters(net)
    model = (
        dynamic(net, tmp_path)
        if form == "dynamic"
        else static(net, tmp_path, quant_format=QuantFormat[form])
    )
    before = channels(model)
    result = onnxprune.prune(model, lossless=True, latency=False)
    assert result.report.proof.reference == "original"
    assert result.report.proof.max_relative_error == 0
    assert before - channels(result.model) >= planted
