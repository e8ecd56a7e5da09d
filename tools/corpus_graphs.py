"""Graphs as exporters other than torch write them, made node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from corpus import graph
from corpus_builder import Graph, branch
from onnx import TensorProto, helper, numpy_helper


def _sklearn_mlp() -> onnx.ModelProto:
    """A classifier of skl2onnx: cast, product and sum apart, class and probabilities."""
    g = Graph(13, x=("N", 20))
    y = g.op("Cast", "x", to=TensorProto.FLOAT)
    for a, b in ((20, 64), (64, 48)):
        y = g.op("Relu", g.dense(y, a, b))
    p = g.op("Softmax", g.dense(y, 48, 3), axis=1)
    best = g.op("ArgMax", p, axis=1)
    classes = g.store(np.array([10, 20, 30], np.int64))
    label = g.op("ai.onnx.ml:ArrayFeatureExtractor", classes, best)
    whole = g.op("Cast", label, to=TensorProto.FLOAT)
    return g.model(p, g.op("Reshape", whole, g.store(np.array([-1], np.int64))))


def _transposed_net() -> onnx.ModelProto:
    """tf2onnx: images channels last, transposes around what it could not move, mean over 1, 2."""
    g = Graph(13, image=("N", 32, 32, 3))
    y = g.op("Transpose", "image", perm=[0, 3, 1, 2])
    width = 3
    for out in (32, 64):
        y = g.op(
            "Clip",
            g.norm(g.conv(y, width, out), out),
            g.store(np.float32(0)),
            g.store(np.float32(6)),
        )
        last = g.op("Transpose", y, perm=[0, 2, 3, 1])
        last = g.op("Mul", last, g.store(g.rng.uniform(0.5, 1.5, out).astype(np.float32)))
        y = g.op("Transpose", g.op("Add", last, g.weight(out)), perm=[0, 3, 1, 2])
        depth = g.conv(y, out, out, group=out)
        y = g.op("MaxPool", g.op("Relu", depth), kernel_shape=[2, 2], strides=[2, 2])
        width = out
    y = g.op("ReduceMean", g.op("Transpose", y, perm=[0, 2, 3, 1]), axes=[1, 2], keepdims=0)
    return g.model(g.op("Softmax", g.dense(g.op("Relu", g.dense(y, 64, 96)), 96, 10), axis=-1))


def _keras_flatten() -> onnx.ModelProto:
    """tf2onnx: flatten in channels-last order, so a channel is every sixteenth column."""
    g = Graph(12, image=("N", 16, 16, 1))
    y = g.op("Transpose", "image", perm=[0, 3, 1, 2])
    for a, b in ((1, 16), (16, 32)):
        y = g.op("MaxPool", g.op("Relu", g.conv(y, a, b)), kernel_shape=[2, 2], strides=[2, 2])
    y = g.op("Transpose", y, perm=[0, 2, 3, 1])
    y = g.op("Reshape", y, g.store(np.array([-1, 512], np.int64)))
    return g.model(g.dense(g.op("Relu", g.dense(y, 512, 64)), 64, 10))


def _keras_lstm() -> onnx.ModelProto:
    """tf2onnx: time first by a transpose, LSTM, the last step by a slice."""
    g = Graph(12, x=("N", 10, 8))
    y = g.op("Transpose", "x", perm=[1, 0, 2])
    w, r, b = g.weight(1, 128, 8), g.weight(1, 128, 32), g.weight(1, 256)
    y = g.op("LSTM", y, w, r, b, hidden_size=32)
    y = g.op("Squeeze", y, axes=[1])
    last = [g.store(np.array([v], np.int64)) for v in (-1, 2**31 - 1, 0)]
    y = g.op("Squeeze", g.op("Slice", y, *last), axes=[0])
    return g.model(g.dense(g.op("Relu", g.dense(y, 32, 40)), 40, 4))


def _keras_gru() -> onnx.ModelProto:
    """Two GRU layers in both directions, directions joined by transpose and reshape."""
    g = Graph(13, x=("N", 10, 8))
    y, width = g.op("Transpose", "x", perm=[1, 0, 2]), 8
    for _ in range(2):
        w, r, b = g.weight(2, 72, width), g.weight(2, 72, 24), g.weight(2, 144)
        y = g.op(
            "GRU", y, w, r, b, hidden_size=24, direction="bidirectional", linear_before_reset=1
        )
        y = g.op("Transpose", y, perm=[0, 2, 1, 3])
        y, width = g.op("Reshape", y, g.store(np.array([0, 0, 48], np.int64))), 48
    return g.model(g.dense(g.op("ReduceMean", y, axes=[0], keepdims=0), 48, 4))


def _paddle(opset: int = 11) -> onnx.ModelProto:
    """paddle2onnx: batch -1, biases reshaped and added apart, hard swish in pieces, gates."""
    g = Graph(opset, x=("x_dim_0", 3, 48, 48))
    y, width = "x", 3
    for out, stride in ((16, 2), (32, 2), (64, 2)):
        y = g.op("Conv", y, g.weight(out, width, 3, 3), pads=[1] * 4, strides=[stride] * 2)
        y = g.norm(y, out, epsilon=1e-5)
        gate = g.op("Clip", g.op("Add", y, g.store(np.float32(3))), g.store(np.float32(0)),
                    g.store(np.float32(6)))  # fmt: skip
        y = g.op("Div", g.op("Mul", y, gate), g.store(np.float32(6)))
        pooled = g.op("GlobalAveragePool", y)
        shape = g.store(np.array([1, out // 4, 1, 1], np.int64))
        mid = g.op("Conv", pooled, g.weight(out // 4, out, 1, 1))
        mid = g.op("Relu", g.op("Add", mid, g.op("Reshape", g.weight(out // 4), shape)))
        gate = g.op("HardSigmoid", g.conv(mid, out // 4, out, 1), alpha=0.2, beta=0.5)
        y, width = g.op("Mul", y, gate), out
    y = g.op("Squeeze", g.op("GlobalAveragePool", y), axes=[2, 3])
    y = g.op("Add", g.op("MatMul", y, g.weight(64, 96)), g.weight(96))
    return g.model(g.op("Softmax", g.dense(g.op("Relu", y), 96, 10), axis=1))


def _paddle_ocr() -> onnx.ModelProto:
    """paddle2onnx's text detector in small: computed sizes feed the upsampling of a pyramid."""
    g = Graph(11, x=("N", 3, "H", "W"))
    levels, y, width = [], "x", 3
    for out in (16, 32, 64):
        y = g.op("Relu", g.norm(g.conv(y, width, out, strides=[2, 2]), out))
        levels.append(g.conv(y, out, 48, 1))
        width = out
    for k in (1, 0):
        sizes = g.op(
            "Slice", g.op("Shape", levels[k]), *(g.store(np.array([v], np.int64)) for v in (2, 4))
        )
        head = g.op("Slice", g.op("Shape", levels[k + 1]),
                    *(g.store(np.array([v], np.int64)) for v in (0, 2)))  # fmt: skip
        target = g.op("Concat", head, sizes, axis=0)
        empty = g.store(np.zeros(0, np.float32))
        up = g.op("Resize", levels[k + 1], empty, empty, target, mode="nearest",
                  coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
        levels[k] = g.op("Add", levels[k], up)
    y = g.op("Relu", g.norm(g.conv(levels[0], 48, 24), 24))
    y = g.op("ConvTranspose", y, g.weight(24, 24, 2, 2), g.weight(24), strides=[2, 2])
    return g.model(g.op("Sigmoid", g.conv(g.op("Relu", y), 24, 1, 1)))


def _caffe_old() -> onnx.ModelProto:
    """Opset 7, IR 3: initializers are inputs, grouped convolutions, LRN, dropout, Gemm."""
    g = Graph(7, 3, data=(1, 3, 64, 64))
    y = g.op("Relu", g.conv("data", 3, 32, 5, strides=[2, 2]))
    y = g.op("LRN", y, size=5)
    y = g.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2])
    y = g.op("Relu", g.conv(y, 32, 48, group=2))
    y = g.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2])
    y = g.op("Relu", g.conv(y, 48, 64))
    y = g.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2])
    y = g.op("Reshape", y, g.store(np.array([1, -1], np.int64)))
    y = g.op("Dropout", g.op("Relu", g.op("Gemm", y, g.weight(128, 576), g.weight(128), transB=1)))
    return g.model(g.op("Softmax", g.op("Gemm", y, g.weight(10, 128), g.weight(10), transB=1)),
                   shapes=[(1, 10)])  # fmt: skip


def _pad_shortcut(opset: int = 9) -> onnx.ModelProto:
    """CIFAR ResNet whose shortcuts are strided slices with padded channels."""
    g = Graph(opset, image=("N", 3, 32, 32))
    y, width = g.op("Relu", g.conv("image", 3, 16)), 16
    for out, stride in ((16, 1), (32, 2), (64, 2)):
        z = g.op("Relu", g.norm(g.conv(y, width, out, strides=[stride] * 2), out))
        z = g.norm(g.conv(z, out, out), out)
        if stride == 2:
            y = g.op("MaxPool", y, kernel_shape=[1, 1], strides=[2, 2])
            y = g.op("Pad", y, pads=[0, out // 4, 0, 0, 0, out // 4, 0, 0])
        y, width = g.op("Relu", g.op("Add", y, z)), out
    y = g.op("Flatten", g.op("GlobalAveragePool", y))
    return g.model(g.op("Gemm", y, g.weight(10, 64), g.weight(10), transB=1))


def _branches() -> onnx.ModelProto:
    """A flag picks one of two heads; both read a tensor from outside."""
    g = Graph(16, x=(1, 3, 32, 32), flag=(1,))
    y = g.op("Relu", g.norm(g.conv("x", 3, 48, strides=[2, 2]), 48))
    y = g.op("Relu", g.norm(g.conv(y, 48, 64, strides=[2, 2]), 64))
    bodies = {}
    for name, width in (("then_branch", 32), ("else_branch", 64)):
        inner = Graph(16, prefix=name)
        inner.rng = np.random.default_rng(width)
        z = inner.op("Relu", inner.conv(y, 64, width))
        z = inner.op("Flatten", inner.op("GlobalAveragePool", z))
        z = inner.op("Gemm", z, inner.weight(10, width), inner.weight(10), transB=1)
        bodies[name] = branch(name, inner.nodes, z, 2, inner.stored)
    test = g.op(
        "Cast", g.op("Squeeze", "flag", g.store(np.array([0], np.int64))), to=TensorProto.BOOL
    )
    return g.model(g.op("If", test, **bodies), shapes=[(1, 10)])


def _loop() -> onnx.ModelProto:
    """A layer is applied four times in a Loop, between two convolutions outside."""
    g = Graph(16, x=(1, 3, 24, 24))
    y = g.op("Relu", g.conv("x", 3, 32))
    inner = Graph(16, prefix="body")
    z = inner.op("Add", "carried", inner.op("Relu", inner.conv("carried", 32, 32)))
    inner.op("Identity", "go")
    body = helper.make_graph(
        inner.nodes, "body",
        [helper.make_tensor_value_info("step", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("carried", TensorProto.FLOAT, [1, 32, 24, 24])],
        [helper.make_tensor_value_info(inner.nodes[-1].output[0], TensorProto.BOOL, []),
         helper.make_tensor_value_info(z, TensorProto.FLOAT, [1, 32, 24, 24])],
        [numpy_helper.from_array(numpy_helper.to_array(t), f"body_{t.name}") for t in inner.stored],
    )  # fmt: skip
    for node in body.node:
        node.input[:] = [
            f"body_{v}" if v in {t.name for t in inner.stored} else v for v in node.input
        ]
    steps, go = g.store(np.array(4, np.int64)), g.store(np.array(True))
    y = g.op("Loop", steps, go, y, body=body)
    y = g.op("Relu", g.conv(y, 32, 64))
    y = g.conv(g.op("Relu", g.conv(y, 64, 64)), 64, 4, 1)
    return g.model(y, shapes=[(1, 4, 24, 24)])


def _function() -> onnx.ModelProto:
    """A local function called three times: convolution and activation as one operator."""
    g = Graph(17, x=("N", 3, 32, 32))
    body = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node("Sigmoid", ["c"], ["s"]),
        helper.make_node("Mul", ["c", "s"], ["y"]),
    ]
    imports = [helper.make_opsetid("", 17)]
    g.functions.append(
        helper.make_function("local", "ConvSilu", ["x", "w", "b"], ["y"], body, imports)
    )
    y = "x"
    for a, b in ((3, 32), (32, 64), (64, 64)):
        y = g.op("local:ConvSilu", y, g.weight(b, a, 3, 3), g.weight(b))
    return g.model(g.conv(y, 64, 4, 1))


def _constant_nodes() -> onnx.ModelProto:
    """Weights in Constant nodes, some of them transposed or cast on the way."""
    g = Graph(13, x=("N", 40))

    def held(*shape: int) -> str:
        name = g.weight(*shape)
        return str(g.op("Constant", value=g.stored.pop(), doc_string=name))

    y = g.op("Relu", g.op("Add", g.op("MatMul", "x", held(40, 96)), held(96)))
    turned = g.op("Transpose", held(80, 96), perm=[1, 0])
    y = g.op("Relu", g.op("MatMul", y, turned))
    half = g.store(g.rng.standard_normal((80, 48)).astype(np.float16))
    y = g.op("Tanh", g.op("MatMul", y, g.op("Cast", half, to=TensorProto.FLOAT)))
    return g.model(g.op("Gemm", y, held(6, 48), held(6), transB=1))


def _einsum_attention() -> onnx.ModelProto:
    """Attention by Einsum with weights per head, and a feed-forward part with GLU."""
    g = Graph(14, x=(1, 10, 48))
    q, k, v = (g.op("Einsum", "x", g.weight(48, 4, 12), equation="bld,dhk->bhlk") for _ in "qkv")
    scores = g.op("Mul", g.op("Einsum", q, k, equation="bhik,bhjk->bhij"), g.store(np.float32(0.3)))
    seen = g.op("Einsum", g.op("Softmax", scores, axis=-1), v, equation="bhij,bhjk->bhik")
    y = g.op("Add", "x", g.op("Einsum", seen, g.weight(4, 12, 48), equation="bhik,hkd->bid"))
    a, b = g.op("Split", g.dense(y, 48, 192), g.store(np.array([96, 96], np.int64)), n=2, axis=-1)
    y = g.op("Add", y, g.dense(g.op("Mul", a, g.op("Sigmoid", b)), 96, 48))
    return g.model(g.dense(y, 48, 5))


def _standard_attention() -> onnx.ModelProto:
    """Opset 23: Attention, RotaryEmbedding and RMSNormalization; four heads share two."""
    g = Graph(23, 10, x=(1, 8, 64))
    angles = np.arange(8, dtype=np.float32)[None, :, None] / 10.0 ** np.arange(8, dtype=np.float32)
    turns = [g.store(f(angles).astype(np.float32)) for f in (np.cos, np.sin)]
    y = "x"
    for _ in range(2):
        z = g.op("RMSNormalization", y, g.store(g.rng.uniform(0.5, 1.5, 64).astype(np.float32)))
        q, k, v = (g.op("MatMul", z, g.weight(64, n)) for n in (64, 32, 32))
        q = g.op("RotaryEmbedding", q, *turns, num_heads=4)
        k = g.op("RotaryEmbedding", k, *turns, num_heads=2)
        z = g.op("Attention", q, k, v, q_num_heads=4, kv_num_heads=2, is_causal=1)
        y = g.op("Add", y, g.op("MatMul", z, g.weight(64, 64)))
        z = g.op("RMSNormalization", y, g.store(g.rng.uniform(0.5, 1.5, 64).astype(np.float32)))
        a, b = g.op("MatMul", z, g.weight(64, 192)), g.op("MatMul", z, g.weight(64, 192))
        a = g.op("Mul", g.op("Mul", a, g.op("Sigmoid", a)), b)
        y = g.op("Add", y, g.op("MatMul", a, g.weight(192, 64)))
    return g.model(g.op("MatMul", y, g.weight(64, 20)))


def _scan() -> onnx.ModelProto:
    """A recurrence in a Scan between two dense layers."""
    g = Graph(16, x=(12, 16))
    y = g.op("Relu", g.dense("x", 16, 64))
    inner = Graph(16, prefix="body")
    step = inner.op("MatMul", "row", g.weight(64, 48))
    back = inner.op("MatMul", "state", g.weight(48, 48))
    z = inner.op("Tanh", inner.op("Add", step, back))
    copy = inner.op("Identity", z)
    ends = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [1, 48]) for v in (z, copy)]
    starts = [
        helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 48]),
        helper.make_tensor_value_info("row", TensorProto.FLOAT, [1, 64]),
    ]
    body = helper.make_graph(inner.nodes, "body", starts, ends)
    rows = g.op("Reshape", y, g.store(np.array([12, 1, 64], np.int64)))
    zero = g.store(np.zeros((1, 48), np.float32))
    _, seen = g.op("Scan", zero, rows, n=2, body=body, num_scan_inputs=1)
    return g.model(g.dense(g.op("Relu", g.dense(seen, 48, 96)), 96, 4), shapes=[(12, 1, 4)])


def _several_ends() -> onnx.ModelProto:
    """Two inputs of different kinds, four outputs, one of which is used inside as well."""
    g = Graph(15, image=("N", 3, 32, 32), numbers=("N", 8))
    y = g.op("Relu", g.norm(g.conv("image", 3, 32, strides=[2, 2]), 32))
    inner = g.op("Relu", g.conv(y, 32, 48, strides=[2, 2]))
    flat = g.op("Flatten", g.op("GlobalAveragePool", g.op("Relu", g.conv(inner, 48, 64))))
    z = g.op("Relu", g.dense("numbers", 8, 40))
    joined = g.op("Concat", flat, z, axis=1)
    heads = [g.dense(g.op("Relu", g.dense(joined, 104, 64)), 64, n) for n in (3, 1)]
    gate = g.op("Sigmoid", g.dense(joined, 104, 48))
    return g.model(*heads, gate, z)


_GRAPHS: tuple[tuple[str, str, str, Any], ...] = (
    ("sklearn_mlp", "tables", "skl2onnx style, opset 13", _sklearn_mlp),
    ("tf_channels_last", "CNN", "tf2onnx style, opset 13", _transposed_net),
    ("keras_flatten", "CNN", "tf2onnx style, opset 12", _keras_flatten),
    ("keras_lstm", "recurrent", "tf2onnx style, opset 12", _keras_lstm),
    ("keras_gru", "recurrent", "tf2onnx style, opset 13", _keras_gru),
    ("paddle_mobile", "CNN", "paddle2onnx style, opset 11", _paddle),
    ("paddle_ocr", "detection", "paddle2onnx style, opset 11", _paddle_ocr),
    ("caffe_opset7", "CNN", "caffe2onnx style, opset 7, IR 3", _caffe_old),
    ("pad_shortcut", "CNN", "written out, opset 9", _pad_shortcut),
    ("if_branches", "control flow", "written out, opset 16", _branches),
    ("loop", "control flow", "written out, opset 16", _loop),
    ("scan", "control flow", "written out, opset 16", _scan),
    ("local_function", "CNN", "written out, opset 17", _function),
    ("constant_nodes", "tables", "written out, opset 13", _constant_nodes),
    ("einsum_attention", "ViT", "written out, opset 14", _einsum_attention),
    ("standard_attention", "text", "written out, opset 23", _standard_attention),
    ("several_ends", "CNN", "written out, opset 15", _several_ends),
)
for _name, _family, _origin, _build in _GRAPHS:
    graph(_name, _family, _origin, _build)
