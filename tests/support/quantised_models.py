"""Networks as onnxruntime's own quantiser writes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from networks import IMAGE, NETWORKS, Net
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

from onnxprune.ir import graph


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


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """Seeded calibration data."""

    def __init__(self, model: onnx.ModelProto) -> None:
        rng = np.random.default_rng(0)
        (x,) = graph.graph_inputs(model)
        shape = [d.dim_value or 2 for d in x.type.tensor_type.shape.dim]
        self.rows: Iterator[dict[str, NDArray[Any]]] = iter(
            [{x.name: rng.standard_normal(shape).astype(np.float32)} for _ in range(4)]
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch, None at the end."""
        return next(self.rows, None)


def static(model: onnx.ModelProto, folder: Path, **options: Any) -> onnx.ModelProto:
    """The model quantised after calibration."""
    path = folder / "quantised.onnx"
    quantize_static(model, path, Samples(model), **options)
    return onnx.load(path)


def dynamic(model: onnx.ModelProto, folder: Path, **options: Any) -> onnx.ModelProto:
    """The model with quantised weights, activations quantised by their own range."""
    path = folder / "quantised.onnx"
    quantize_dynamic(model, path, **options)
    return onnx.load(path)


def decoded(per_channel: bool, zero_points: bool) -> onnx.ModelProto:
    """Weights of int8 behind Cast, Sub and Mul, as exporters write them without DequantizeLinear.

    Three products of matrices; scales and zero points hold one number, or one for each column, in
    the second weight for each row.
    """
    n = Net(x=("N", 4, 40))
    rng = np.random.default_rng(0)

    def weight(rows: int, columns: int, along: int) -> str:
        kind, shape = (np.uint8, (0, 255)) if zero_points else (np.int8, (-127, 127))
        sizes = [1, 1]
        sizes[along] = (rows, columns)[along] if per_channel else 1
        coded = n.const(rng.integers(*shape, (rows, columns)).astype(kind))
        value = n.op("Cast", coded, to=onnx.TensorProto.FLOAT)
        if zero_points:
            zero = n.const(rng.integers(100, 150, sizes).astype(kind))
            value = n.op("Sub", value, n.op("Cast", zero, to=onnx.TensorProto.FLOAT))
        scale = n.const(rng.uniform(0.001, 0.01, sizes).astype(np.float32))
        return n.op("Mul", value, scale) if along else n.op("Mul", scale, value)

    y = n.op("Sigmoid", n.op("MatMul", "x", weight(40, 64, 1)))
    y = n.op("Sigmoid", n.op("MatMul", y, weight(64, 48, 0)))
    return n.model(n.op("MatMul", y, weight(48, 6, 1)))
