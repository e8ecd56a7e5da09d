"""Graphs as exporters other than torch write them, made node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 11
Size = int | str


class _Graph:
    """A graph written from its inputs to its outputs, with seeded weights."""

    def __init__(self, opset: int, ir_version: int = 8, **inputs: tuple[Size, ...]) -> None:
        self.rng = np.random.default_rng(SEED)
        self.opset, self.ir_version = opset, ir_version
        self.inputs, self.nodes = dict(inputs), list[onnx.NodeProto]()
        self.stored, self.functions = list[TensorProto](), list[onnx.FunctionProto]()

    def store(self, values: Any, name: str = "") -> str:
        """A constant; returns its name."""
        self.stored.append(
            numpy_helper.from_array(np.asarray(values), name or f"w{len(self.stored)}")
        )
        return self.stored[-1].name

    def weight(self, *shape: int, name: str = "") -> str:
        """A seeded weight whose products keep their size."""
        fan = max(int(np.prod(shape[1:] if len(shape) > 2 else shape[:1])), 1)
        values = self.rng.standard_normal(shape, np.float32) * np.float32((2 / fan) ** 0.5)
        return self.store(values, name)

    def op(self, kind: str, *inputs: str, n: int = 0, **attrs: Any) -> Any:
        """A node; returns its output, or `n` of them."""
        names = [f"{kind.split(':')[-1].lower()}{len(self.nodes)}_{k}" for k in range(n or 1)]
        domain, _, op_type = kind.rpartition(":")
        self.nodes.append(
            helper.make_node(op_type, inputs, names, names[0], domain=domain, **attrs)
        )
        return names if n else names[0]

    def conv(self, x: str, a: int, b: int, k: int = 3, **attrs: Any) -> str:
        """A convolution of the same size with a bias, unless `attrs` say otherwise."""
        attrs.setdefault("pads", [k // 2] * 4)
        groups = attrs.get("group", 1)
        weights = (self.weight(b, a // groups, k, k), self.weight(b))
        return str(self.op("Conv", x, *weights, **attrs))

    def norm(self, x: str, n: int, **attrs: Any) -> str:
        """Batch normalisation with random statistics."""
        scale, var = (self.store(self.rng.uniform(0.5, 1.5, n).astype(np.float32)) for _ in "ab")
        return str(
            self.op("BatchNormalization", x, scale, self.weight(n), self.weight(n), var, **attrs)
        )

    def dense(self, x: str, a: int, b: int) -> str:
        """Product and sum in two nodes."""
        return str(self.op("Add", self.op("MatMul", x, self.weight(a, b)), self.weight(b)))

    def model(self, *outputs: str, shapes: Sequence[Sequence[Size]] | None = None,
              kind: int = TensorProto.FLOAT) -> onnx.ModelProto:  # fmt: skip
        """The finished model; inputs named id… are integers."""
        kinds = {
            k: TensorProto.INT64 if k.startswith("id") else TensorProto.FLOAT for k in self.inputs
        }
        ends = [
            helper.make_tensor_value_info(y, kind, None if shapes is None else shapes[k])
            for k, y in enumerate(outputs)
        ]
        starts = [helper.make_tensor_value_info(k, kinds[k], s) for k, s in self.inputs.items()]
        if self.ir_version < 4:
            starts += [
                helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.stored
            ]
        body = helper.make_graph(self.nodes, "graph", starts, ends, self.stored)
        domains = sorted({node.domain for node in self.nodes} - {""})
        imports = [
            helper.make_opsetid("", self.opset),
            *(helper.make_opsetid(d, 1) for d in domains),
        ]
        made = helper.make_model(
            body, opset_imports=imports, ir_version=self.ir_version, functions=self.functions
        )
        return made


def _branch(name: str, nodes: Sequence[onnx.NodeProto], output: str, rank: int,
            stored: Sequence[TensorProto] = ()) -> onnx.GraphProto:  # fmt: skip
    end = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)
    return helper.make_graph(nodes, name, [], [end], list(stored))


def _sklearn_mlp() -> onnx.ModelProto:
    """A classifier of skl2onnx: cast, product and sum apart, class and probabilities."""
    g = _Graph(13, x=("N", 20))
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
    g = _Graph(13, image=("N", 32, 32, 3))
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
    g = _Graph(12, image=("N", 16, 16, 1))
    y = g.op("Transpose", "image", perm=[0, 3, 1, 2])
    for a, b in ((1, 16), (16, 32)):
        y = g.op("MaxPool", g.op("Relu", g.conv(y, a, b)), kernel_shape=[2, 2], strides=[2, 2])
    y = g.op("Transpose", y, perm=[0, 2, 3, 1])
    y = g.op("Reshape", y, g.store(np.array([-1, 512], np.int64)))
    return g.model(g.dense(g.op("Relu", g.dense(y, 512, 64)), 64, 10))


def _keras_lstm() -> onnx.ModelProto:
    """tf2onnx: time first by a transpose, LSTM, the last step by a slice."""
    g = _Graph(12, x=("N", 10, 8))
    y = g.op("Transpose", "x", perm=[1, 0, 2])
    w, r, b = g.weight(1, 128, 8), g.weight(1, 128, 32), g.weight(1, 256)
    y = g.op("LSTM", y, w, r, b, hidden_size=32)
    y = g.op("Squeeze", y, axes=[1])
    last = [g.store(np.array([v], np.int64)) for v in (-1, 2**31 - 1, 0)]
    y = g.op("Squeeze", g.op("Slice", y, *last), axes=[0])
    return g.model(g.dense(g.op("Relu", g.dense(y, 32, 40)), 40, 4))


def _keras_gru() -> onnx.ModelProto:
    """Two GRU layers in both directions, directions joined by transpose and reshape."""
    g = _Graph(13, x=("N", 10, 8))
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
    g = _Graph(opset, x=("x_dim_0", 3, 48, 48))
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
    g = _Graph(11, x=("N", 3, "H", "W"))
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
    g = _Graph(7, 3, data=(1, 3, 64, 64))
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
    g = _Graph(opset, image=("N", 3, 32, 32))
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
    g = _Graph(16, x=(1, 3, 32, 32), flag=(1,))
    y = g.op("Relu", g.norm(g.conv("x", 3, 48, strides=[2, 2]), 48))
    y = g.op("Relu", g.norm(g.conv(y, 48, 64, strides=[2, 2]), 64))
    bodies = {}
    for name, width in (("then_branch", 32), ("else_branch", 64)):
        inner = _Graph(16)
        inner.rng = np.random.default_rng(width)
        z = inner.op("Relu", inner.conv(y, 64, width))
        z = inner.op("Flatten", inner.op("GlobalAveragePool", z))
        z = inner.op("Gemm", z, inner.weight(10, width), inner.weight(10), transB=1)
        for node in inner.nodes:
            for names in (node.input, node.output):
                names[:] = [v if v == y else f"{name}_{v}" for v in names]
        for tensor in inner.stored:
            tensor.name = f"{name}_{tensor.name}"
        bodies[name] = _branch(name, inner.nodes, f"{name}_{z}", 2, inner.stored)
    test = g.op(
        "Cast", g.op("Squeeze", "flag", g.store(np.array([0], np.int64))), to=TensorProto.BOOL
    )
    return g.model(g.op("If", test, **bodies))


def _loop() -> onnx.ModelProto:
    """A layer is applied four times in a Loop, between two convolutions outside."""
    g = _Graph(16, x=(1, 3, 24, 24))
    y = g.op("Relu", g.conv("x", 3, 32))
    inner = _Graph(16)
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
    return g.model(g.conv(g.op("Relu", g.conv(y, 64, 64)), 64, 4, 1))
