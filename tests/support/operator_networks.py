"""Networks around single operators: Einsum, embeddings, normalisations, strided slices."""

from __future__ import annotations

import numpy as np
import onnx
from networks import IMAGE, Net, network
from onnx import TensorProto, helper


@network
def einsum_attention() -> onnx.ModelProto:
    """Heads and their widths are letters of the weights."""
    n = Net(x=("N", 6, 16))
    x = n.op("MatMul", "x", n.weight(16, 20))
    q, k, v = (
        n.op("Einsum", x, n.weight(20, 4, width), equation="bsd,dhk->bshk") for width in (6, 6, 8)
    )
    p = n.op("Softmax", n.op("Einsum", q, k, equation="bqhk,bthk->bhqt"))
    y = n.op("Einsum", p, v, equation="bhqt,bthv->bqhv")
    return n.model(n.op("Einsum", y, n.weight(4, 8, 10), equation="bqhv,hvd->bqd"))


@network
def tied_embedding() -> onnx.ModelProto:
    """One table looks words up and scores them."""
    n = Net(words=("N", 5))
    table = n.weight(30, 12)
    y = n.op("Gather", table, n.op("Cast", "words", to=TensorProto.INT64))
    z = n.relu(n.op("MatMul", y, n.weight(12, 24)))
    y = n.op("Add", y, n.op("MatMul", z, n.weight(24, 12)))
    return n.model(n.op("MatMul", y, n.op("Transpose", table)))


@network
def group_normalised() -> onnx.ModelProto:
    """Whole groups go; onnx infers no shape behind the operator, so the output states its own."""
    n, y = Net(opset=21, **IMAGE), "x"
    for n_in, n_out, groups in ((3, 16, 8), (16, 24, 24)):
        y = n.conv(y, n_in, n_out)
        y = n.op("GroupNormalization", y, n.weight(n_out), n.weight(n_out), num_groups=groups)
    model = n.model(n.conv(n.relu(y), 24, 4))
    (output,) = model.graph.output
    stated = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ("N", 4, 16, 16))
    output.CopyFrom(stated)
    return model


@network
def interleaved_pairs() -> onnx.ModelProto:
    """Rotates neighbouring channels into each other, as rotary embeddings do."""
    n = Net(x=("N", 5, 8))
    y = n.op("MatMul", "x", n.weight(8, 12))
    axis, step, end = (n.const(np.array([v])) for v in (-1, 2, 2**31))
    a, b = (n.op("Slice", y, n.const(np.array([k])), end, axis, step) for k in (0, 1))
    cos, sin = n.weight(5, 6), n.weight(5, 6)
    left = n.op("Sub", n.op("Mul", a, cos), n.op("Mul", b, sin))
    right = n.op("Add", n.op("Mul", a, sin), n.op("Mul", b, cos))
    parts = [n.op("Unsqueeze", v, axis) for v in (left, right)]
    y = n.op("Concat", *parts, axis=-1)
    y = n.op("Reshape", y, n.const(np.array([0, 0, 12])))
    return n.model(n.op("MatMul", y, n.weight(12, 4)))


@network
def length_over_channels() -> onnx.ModelProto:
    """A sum and a norm over the pruned axis: zeros may leave them."""
    n = Net(x=("N", 8))
    y = n.op("LpNormalization", n.gemm("x", 8, 12), axis=1)
    energy = n.op("ReduceSum", n.relu(y), n.const(np.array([1])))
    return n.model(n.op("Mul", n.gemm(y, 12, 4), energy))


@network
def shares_of_channels() -> onnx.ModelProto:
    """A softmax over the pruned axis: what goes changes the sum of the others."""
    n = Net(x=("N", 5, 8))
    y = n.op("Softmax", n.op("MatMul", "x", n.weight(8, 12)))
    y = n.relu(n.op("MatMul", y, n.weight(12, 20)))
    return n.model(n.op("MatMul", y, n.weight(20, 4)))


@network
def layer_normalised() -> onnx.ModelProto:
    """Written as an operator and spelt out, as exporters did before opset 17."""
    n = Net(x=("N", 5, 8))
    y = n.op("MatMul", "x", n.weight(8, 12))
    y = n.op("LayerNormalization", y, n.weight(12), n.weight(12))
    y = n.op("MatMul", n.relu(n.op("MatMul", y, n.weight(12, 20))), n.weight(20, 14))
    gap = n.op("Sub", y, n.op("ReduceMean", y, axes=[-1]))
    spread = n.op("ReduceMean", n.op("Mul", gap, gap), axes=[-1])
    y = n.op("Div", gap, n.op("Sqrt", n.op("Add", spread, n.const(np.float32(1e-5)))))
    return n.model(n.op("MatMul", n.op("Mul", y, n.weight(14)), n.weight(14, 4)))
