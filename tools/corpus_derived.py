"""Models made from others: quantised, in other number types, optimised by onnxruntime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from corpus import ENTRIES as KNOWN
from corpus import Net, derived, network, seeded
from onnx import TensorProto, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, shape_inference

Files = Callable[[str], Path]
SEED, SAMPLES = 13, 3


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """A few seeded inputs; sizes that vary are 1, or what the name of the size says."""

    def __init__(self, file: Path) -> None:
        self.left: Iterator[dict[str, Any]] = iter([_inputs(file, k) for k in range(SAMPLES)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.left, None)


def _inputs(file: Path, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(SEED + seed)
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    feeds = {}
    for value in session.get_inputs():
        shape = [v if isinstance(v, int) else 1 for v in value.shape]
        if "int" in value.type:
            feeds[value.name] = np.ones(shape, np.int64)
        else:
            feeds[value.name] = rng.random(shape, np.float32)
    return feeds


def _in_folder(make: Callable[[Path, Path], None], source: Path) -> onnx.ModelProto:
    """What `make(source, target)` writes."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        make(source, target)
        return onnx.load(target)


def _static(format_: QuantFormat, per_channel: bool, symmetric: bool) -> Any:
    """Static quantisation of activations and weights."""

    def make(source: Path, target: Path) -> None:
        prepared, newer = target.with_name("prepared.onnx"), target.with_name("newer.onnx")
        if onnx.load(source).opset_import[0].version < 13:  # scales per channel came with 13
            _later(13)(source, newer)
            source = newer
        shape_inference.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared), str(target), _Samples(prepared), quant_format=format_,
            per_channel=per_channel, weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        )  # fmt: skip

    return make


def _dynamic(source: Path, target: Path) -> None:
    """Weights in eight bits, activations quantised as they come."""
    quantization.quantize_dynamic(str(source), str(target), weight_type=QuantType.QUInt8)


def _four_bits(source: Path, target: Path) -> None:
    """Weights of matrix products in blocks of four bits."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    made = MatMulNBitsQuantizer(onnx.load(source), block_size=16, is_symmetric=False)
    made.process()
    made.model.save_model_to_file(str(target))


def _optimised(level: Any) -> Any:
    """What onnxruntime writes after its own optimisations."""

    def make(source: Path, target: Path) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(target)
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return make


def _fused(kind: str) -> Any:
    """What the transformer optimiser of onnxruntime writes: fused attention and normalisation."""

    def make(source: Path, target: Path) -> None:
        from onnxruntime.transformers import optimizer

        made = optimizer.optimize_model(str(source), kind, num_heads=4, hidden_size=64, opt_level=0)
        made.save_model_to_file(str(target))

    return make


def _half(source: Path, target: Path) -> None:
    """Half precision inside, float32 at the ends."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _stored_bfloat16(source: Path, target: Path) -> None:
    """Matrices stored as bfloat16 and cast to float32 where they are used."""
    model = onnx.load(source)
    casts = []
    for tensor in list(model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        name = tensor.name
        bits = numpy_helper.to_array(tensor).astype(np.float32).view(np.uint32) >> 16
        raw = bits.astype(np.uint16).tobytes()
        tensor.CopyFrom(
            onnx.helper.make_tensor(
                f"{name}_bf16", TensorProto.BFLOAT16, tensor.dims, raw, raw=True
            )
        )
        casts.append(
            onnx.helper.make_node(
                "Cast", [f"{name}_bf16"], [name], f"{name}_cast", to=TensorProto.FLOAT
            )
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)


def _later(version: int) -> Any:
    """The same in another opset."""

    def make(source: Path, target: Path) -> None:
        onnx.save(onnx.version_converter.convert_version(onnx.load(source), version), target)

    return make


def _add(name: str, base: str, family: str, origin: str, make: Any) -> None:
    derived(name, family, f"{origin} of {base}", lambda file_of: _in_folder(make, file_of(base)))


Q = "quantised"
QDQ, QOP = QuantFormat.QDQ, QuantFormat.QOperator
for _base in ("tv_resnet18", "timm_mobilenetv2_050", "timm_efficientnet_lite0", "yolov5", "kws"):
    _add(f"{_base}_qdq", _base, Q, "static QDQ", _static(QDQ, True, True))
_add(
    "tv_shufflenet_v2_x0_5_qdq",
    "tv_shufflenet_v2_x0_5",
    Q,
    "static QDQ",
    _static(QDQ, False, False),
)
_add("unet_resized_qdq", "unet_resized", Q, "static QDQ", _static(QDQ, True, False))
_add("hf_bert_scripted_qdq", "hf_distilbert", Q, "static QDQ", _static(QDQ, False, False))
for _base in ("tv_resnet18", "timm_mobilenetv1_100", "tv_squeezenet1_1"):
    _add(f"{_base}_qop", _base, Q, "static QOperator", _static(QOP, False, False))
_add(
    "timm_resnet26t_qop_channel", "timm_resnet26t", Q, "static QOperator", _static(QOP, True, False)
)
for _base in ("hf_bert_scripted", "hf_gpt2_scripted", "lstm_stacked"):
    _add(f"{_base}_dynamic", _base, Q, "dynamic quantisation", _dynamic)
for _base in ("hf_llama_scripted", "hf_gpt2_scripted", "hf_distilbert"):
    _add(f"{_base}_nbits", _base, Q, "MatMulNBits", _four_bits)
P = "mixed precision"
for _base in ("timm_resnet50", "hf_distilbert", "unet_resized"):
    _add(f"{_base}_fp16", _base, P, "float16", _half)
_add("hf_llama_scripted_bf16", "hf_llama_scripted", P, "bfloat16 weights", _stored_bfloat16)
_add("tv_mobilenet_v2_bf16", "tv_mobilenet_v2", P, "bfloat16 weights", _stored_bfloat16)
O = "optimised"  # noqa: E741
LEVEL = ort.GraphOptimizationLevel
_add("tv_resnet18_basic", "tv_resnet18", O, "onnxruntime basic", _optimised(LEVEL.ORT_ENABLE_BASIC))
for _base in ("timm_resnet26t", "hf_distilbert", "tv_mobilenet_v3_large", "hf_gpt2_scripted",
              "timm_vit_tiny_patch16_224"):  # fmt: skip
    _add(
        f"{_base}_extended", _base, O, "onnxruntime extended", _optimised(LEVEL.ORT_ENABLE_EXTENDED)
    )
_add("hf_bert_fused", "hf_bert_scripted", O, "transformer optimiser", _fused("bert"))
_add("hf_gpt2_fused", "hf_gpt2_scripted", O, "transformer optimiser", _fused("gpt2"))
_add("tv_resnet18_opset21", "tv_resnet18", "CNN", "opset 21", _later(21))


def _double() -> Net:
    net = seeded(KNOWN["nerf"])
    return Net(net.module.double(), tuple(v.double() for v in net.inputs))


def _half_module() -> Net:
    net = seeded(KNOWN["tv_resnet18"])
    return Net(net.module.half(), tuple(v.half() for v in net.inputs))


network("nerf_double", P, "written out in double", _double, dynamo=False, opset=13)
network("resnet18_half", P, "torchvision in half", _half_module)
