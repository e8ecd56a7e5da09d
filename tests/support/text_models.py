"""Models written as ONNX text, small enough to count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser

#: Two layers of 3 → 4 → 2; `a` makes the only group, four channels, and `c` reads them.
PERCEPTRON = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = Gemm <transB = 1> (x, a, b)
    r = Relu (h)
    y = Gemm <transB = 1> (r, c, d)
}
"""
PERCEPTRON_SHAPES = {"a": (4, 3), "b": (4,), "c": (2, 4), "d": (2,)}


def seeded(*shape: int) -> NDArray[np.float32]:
    """A seeded weight without zeros."""
    return np.random.default_rng(sum(shape)).uniform(0.5, 1.5, shape).astype(np.float32)


def text_model(text: str, **stored: tuple[int, ...] | NDArray[Any]) -> onnx.ModelProto:
    """A graph as ONNX text; `stored` are its weights, as arrays or as shapes of seeded ones."""
    graph = parser.parse_graph(text)
    for name, value in stored.items():
        array = seeded(*value) if isinstance(value, tuple) else value
        graph.initializer.append(numpy_helper.from_array(array, name))
    for k, node in enumerate(graph.node):
        node.name = node.name or f"n{k}"
    imports = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def perceptron() -> onnx.ModelProto:
    """Two layers with one group between them."""
    return text_model(PERCEPTRON, **PERCEPTRON_SHAPES)


def stored_array(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    """What a model stores under a name."""
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def two_heads() -> onnx.ModelProto:
    """Two heads of three columns, a scale for each head: both can be cut, and cross like a grid."""
    text = """
    net (float[1, 4] x) => (float[1, 5] y) {
        h = MatMul (x, a)
        s = Reshape (h, split)
        m = Mul (s, scale)
        t = Reshape (m, join)
        y = MatMul (t, c)
    }
    """
    shapes = {"split": np.array([1, 2, 3]), "join": np.array([1, 6])}
    return text_model(text, a=(4, 6), c=(6, 5), scale=(2, 1), **shapes)


def bottleneck() -> onnx.ModelProto:
    """A branch of three layers, 4 → 6 → 5 → 4, is added to what it reads: it can go whole."""
    text = """
    net (float[N, 3] x) => (float[N, 2] z) {
        s = Gemm <transB = 1> (x, w0, b0)
        h = Gemm <transB = 1> (s, w1, b1)
        i = Relu (h)
        j = Gemm <transB = 1> (i, w2, b2)
        k = Relu (j)
        l = Gemm <transB = 1> (k, w3, b3)
        y = Add (s, l)
        z = Gemm <transB = 1> (y, w4, b4)
    }
    """
    shapes = [(4, 3), (6, 4), (5, 6), (4, 5), (2, 4)]
    stored = {f"w{k}": shape for k, shape in enumerate(shapes)}
    return text_model(text, **stored, **{f"b{k}": shape[:1] for k, shape in enumerate(shapes)})
