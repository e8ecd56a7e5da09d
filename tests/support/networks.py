"""Small seeded networks, one per topology that exporters write; names say what is special."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {}


def samples_of(model: onnx.ModelProto, rng: np.random.Generator, count: int = 64) -> dict[str, Any]:
    """Seeded numbers for every input: `count` along a first axis that may vary, 16 along others."""
    feeds = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        sizes = [d.dim_value or (count if k == 0 else 16) for k, d in enumerate(dims)]
        feeds[value.name] = rng.standard_normal(sizes).astype(np.float32)
    return feeds


class Net:
    """Builds a graph line by line; every method returns the name of its result."""

    def __init__(self, opset: int = 17, **inputs: tuple[Any, ...]) -> None:
        self.rng = np.random.default_rng(7)
        self.opset, self.inputs = opset, inputs
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.kind: type[np.generic] = np.float32

    def const(self, value: Any, name: str = "") -> str:
        """A stored tensor."""
        name = name or f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *shape: int, name: str = "") -> str:
        """A seeded weight, scaled so that signals keep their size."""
        scale = (2 / max(int(np.prod(shape[1:])), 1)) ** 0.5
        return self.const((self.rng.standard_normal(shape) * scale).astype(self.kind), name)

    @overload
    def op(self, kind: str, *inputs: str, outputs: int, **attrs: Any) -> list[str]: ...

    @overload
    def op(self, kind: str, *inputs: str, **attrs: Any) -> str: ...

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        """Any operator."""
        names = [f"{kind.lower()}{len(self.nodes)}_{k}" for k in range(outputs)]
        domain = attrs.pop("domain", "")
        self.nodes.append(
            helper.make_node(
                kind, list(inputs), names, name=f"n{len(self.nodes)}", domain=domain, **attrs
            )
        )
        return names[0] if outputs == 1 else names

    def conv(self, x: str, n_in: int, n_out: int, k: int = 3, rank: int = 2, **attrs: Any) -> str:
        """Conv with bias that keeps the size at stride 1."""
        group = attrs.get("group", 1)
        pads = attrs.pop("pads", [k // 2] * 2 * rank)
        w = self.weight(n_out, n_in // group, *[k] * rank)
        return str(self.op("Conv", x, w, self.weight(n_out), pads=pads, **attrs))

    def bn(self, x: str, n: int) -> str:
        """BatchNormalization with seeded statistics."""
        parts = [self.const(self.rng.uniform(0.5, 1.5, n).astype(self.kind)) for _ in range(4)]
        return self.op("BatchNormalization", x, *parts)

    def relu(self, x: str) -> str:
        """Relu."""
        return self.op("Relu", x)

    def gemm(self, x: str, n_in: int, n_out: int) -> str:
        """Gemm with a transposed weight and a bias."""
        return self.op("Gemm", x, self.weight(n_out, n_in), self.weight(n_out), transB=1)

    def recurrent(
        self, kind: str, x: str, n: int, h: int, *more: str, dirs: int = 1, **attrs: Any
    ) -> list[str]:
        """LSTM, GRU or RNN from n features to h units with W, R, B; `more` inputs follow."""
        rows = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind] * h
        w, r = self.weight(dirs, rows, n), self.weight(dirs, rows, h)
        attrs["direction"] = "bidirectional" if dirs == 2 else "forward"
        outputs = attrs.pop("outputs", 2)
        b = self.weight(dirs, 2 * rows)
        names = self.op(kind, x, w, r, b, *more, hidden_size=h, outputs=outputs, **attrs)
        return list(names)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The finished model; output shapes are inferred."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(n, kind, s) for n, s in self.inputs.items()],
            [helper.make_tensor_value_info(n, kind, None) for n in outputs],
            self.weights,
        )
        domains = {node.domain for node in self.nodes} - {""}
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(d, 1) for d in sorted(domains)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def network(function: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    """Register a network under its function's name."""
    NETWORKS[function.__name__] = function
    return function


IMAGE: dict[str, Any] = {"x": ("N", 3, 16, 16)}


@network
def chain() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.conv("x", 3, 16))
    return n.model(n.conv(n.relu(n.conv(y, 16, 16)), 16, 8))


@network
def batch_normalised() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.bn(n.conv("x", 3, 16), 16))
    return n.model(n.conv(n.relu(n.bn(n.conv(y, 16, 16), 16)), 16, 8))


@network
def pooled_classifier() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.op("GlobalAveragePool", n.relu(n.conv("x", 3, 16)))
    return n.model(n.gemm(n.op("Flatten", y), 16, 10))


@network
def spatial_flatten() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.op("MaxPool", n.relu(n.conv("x", 3, 16)), kernel_shape=[4, 4], strides=[4, 4])
    return n.model(n.gemm(n.op("Flatten", y), 256, 10))


@network
def spatial_reshape() -> onnx.ModelProto:
    n = Net(x=(1, 3, 16, 16))
    y = n.op("MaxPool", n.relu(n.conv("x", 3, 16)), kernel_shape=[4, 4], strides=[4, 4])
    return n.model(n.gemm(n.op("Reshape", y, n.const(np.array([1, -1]))), 256, 10))


@network
def reduce_mean_head() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.op("ReduceMean", n.relu(n.conv("x", 3, 16)), axes=[2, 3], keepdims=0)
    return n.model(n.gemm(y, 16, 10))


@network
def residual_spine() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.bn(n.conv("x", 3, 16), 16))
    for _ in range(2):
        z = n.conv(n.relu(n.bn(n.conv(y, 16, 12), 12)), 12, 16)
        y = n.relu(n.op("Add", z, y))
    return n.model(n.gemm(n.op("Flatten", n.op("GlobalAveragePool", y)), 16, 10))


@network
def weights_cast_like_activations() -> onnx.ModelProto:
    """As torch.export writes a residual network: types of weights and biases come from the data."""
    n = Net(18, **IMAGE)

    def conv(x: str, n_in: int, n_out: int, k: int = 3, **attrs: Any) -> str:
        weight = n.op("CastLike", n.weight(n_out, n_in, k, k), x)
        if k == 1:
            return str(n.op("Conv", x, weight, **attrs))
        zero = n.op("CastLike", n.const(np.float32(0)), x)
        bias = n.op("Expand", zero, n.const(np.array([n_out])))
        return str(n.op("Conv", x, weight, bias, pads=[k // 2] * 4, **attrs))

    y = n.relu(n.bn(conv("x", 3, 16), 16))
    for stride, n_in, n_out in ((1, 16, 16), (2, 16, 24)):
        z = n.relu(n.bn(conv(y, n_in, n_out, strides=[stride] * 2), n_out))
        z = n.bn(conv(z, n_out, n_out), n_out)
        if n_in != n_out:
            y = n.bn(conv(y, n_in, n_out, 1, strides=[stride] * 2), n_out)
        y = n.relu(n.op("Add", z, y))
    return n.model(n.gemm(n.op("Flatten", n.op("GlobalAveragePool", y)), 24, 10))


@network
def pad_shortcut() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.conv("x", 3, 8))
    z = n.conv(n.relu(n.conv(y, 8, 16, strides=[2, 2])), 16, 16)
    one = n.const(np.array([1, 1]))
    s = n.op("Slice", y, n.const(np.array([0, 0])), n.const(np.array([2**31, 2**31])),
             n.const(np.array([2, 3])), n.op("Add", one, one))  # fmt: skip
    p = n.op("Pad", s, n.const(np.array([0, 4, 0, 0, 0, 4, 0, 0])))
    y = n.relu(n.op("Add", z, p))
    return n.model(n.conv(y, 16, 4))


@network
def inverted_residual() -> onnx.ModelProto:
    n = Net(**IMAGE)
    low, high = n.const(np.float32(0)), n.const(np.float32(6))
    y = n.conv("x", 3, 16)
    z = n.op("Clip", n.conv(y, 16, 64, 1), low, high)
    z = n.op("Clip", n.conv(z, 64, 64, 3, group=64), low, high)
    return n.model(n.conv(n.op("Add", n.conv(z, 64, 16, 1), y), 16, 8))


@network
def transposed_convolutions() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.conv("x", 3, 16))
    y = n.relu(n.op("ConvTranspose", y, n.weight(16, 12, 2, 2), n.weight(12), strides=[2, 2]))
    y = n.relu(n.op("ConvTranspose", y, n.weight(12, 8, 2, 2), strides=[2, 2]))
    return n.model(n.conv(y, 8, 4))


@network
def dense_concat() -> onnx.ModelProto:
    n = Net(**IMAGE)
    seen, width = n.conv("x", 3, 8), 8
    for _ in range(3):
        new = n.relu(n.conv(n.relu(n.bn(seen, width)), width, 6))
        seen, width = n.op("Concat", seen, new, axis=1), width + 6
    return n.model(n.conv(seen, width, 4))


@network
def split_and_concat() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.conv("x", 3, 16, 1))
    a, b = n.op("Split", y, outputs=2, axis=1)
    z = n.op("Add", n.conv(n.relu(n.conv(b, 8, 8)), 8, 8), b)
    return n.model(n.conv(n.op("Concat", a, b, z, axis=1), 24, 4))


@network
def pixel_shuffle() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.op("DepthToSpace", n.conv("x", 3, 64), blocksize=2, mode="CRD")
    return n.model(n.conv(y, 16, 3))


@network
def channel_shuffle() -> onnx.ModelProto:
    n = Net(x=(1, 3, 16, 16))
    y = n.relu(n.conv(n.conv("x", 3, 16, 1), 16, 16, 1, group=2))
    y = n.op("Reshape", y, n.const(np.array([1, 2, 8, 16, 16])))
    y = n.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    y = n.op("Reshape", y, n.const(np.array([1, 16, 16, 16])))
    return n.model(n.conv(n.conv(y, 16, 16, 1, group=2), 16, 4, 1))


@network
def instance_norm_and_prelu() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.op("InstanceNormalization", n.conv("x", 3, 16), n.weight(16), n.weight(16))
    y = n.op("PRelu", n.conv(y, 16, 12), n.weight(12, 1, 1))
    return n.model(n.conv(y, 12, 4))


@network
def squeeze_and_excite() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.conv("x", 3, 16))
    s = n.relu(n.conv(n.op("GlobalAveragePool", y), 16, 4, 1))
    y = n.op("Mul", y, n.op("Sigmoid", n.conv(s, 4, 16, 1)))
    return n.model(n.conv(y, 16, 8))


@network
def unet() -> onnx.ModelProto:
    n = Net(**IMAGE)
    a = n.relu(n.conv("x", 3, 8))
    b = n.relu(n.conv(a, 8, 16, strides=[2, 2]))
    up = n.op("Resize", b, "", n.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    return n.model(n.conv(n.op("Concat", up, a, axis=1), 24, 2))


@network
def pyramid_with_sizes() -> onnx.ModelProto:
    n = Net(x=(1, 3, 16, 16))
    a = n.relu(n.conv("x", 3, 8))
    b = n.relu(n.conv(a, 8, 16, strides=[2, 2]))
    top = n.conv(b, 16, 12, 1)
    up = n.op("Resize", top, "", "", n.const(np.array([1, 12, 16, 16])), mode="linear")
    side = n.op("Add", n.conv(a, 8, 12, 1), up)
    return n.model(n.conv(side, 12, 3), n.conv(top, 12, 3))


@network
def one_and_three_dimensions() -> onnx.ModelProto:
    n = Net(x=("N", 4, 20), v=("N", 2, 6, 6, 6))
    y = n.conv(n.relu(n.conv("x", 4, 12, rank=1)), 12, 4, rank=1)
    z = n.conv(n.relu(n.conv("v", 2, 10, rank=3)), 10, 4, rank=3)
    return n.model(y, z)


@network
def tied_convolutions() -> onnx.ModelProto:
    n = Net(**IMAGE)
    w, b = n.weight(16, 16, 3, 3, name="tied"), n.weight(16)
    y = n.relu(n.conv("x", 3, 16))
    for _ in range(2):
        y = n.relu(n.op("Conv", y, w, b, pads=[1, 1, 1, 1]))
    return n.model(n.conv(y, 16, 4))


@network
def shared_zero_bias() -> onnx.ModelProto:
    n = Net(**IMAGE)
    zero = n.const(np.zeros(8, np.float32), "zero")
    y = "x"
    for n_in in (3, 8, 8):
        y = n.relu(n.op("Conv", y, n.weight(8, n_in, 3, 3), zero, pads=[1, 1, 1, 1]))
    return n.model(n.conv(y, 8, 4))


@network
def symbolic_shape_arithmetic() -> onnx.ModelProto:
    n = Net(x=("N", 3, "H", "W"))
    y = n.relu(n.conv("x", 3, 16))
    size = n.op("Gather", n.op("Shape", y), n.const(np.array([0])))
    width = n.op("Gather", n.op("Shape", y), n.const(np.array([1])))
    target = n.op("Concat", size, width, n.const(np.array([-1])), axis=0)
    flat = n.op("Reshape", y, target)
    scale = n.op("Cast", width, to=TensorProto.FLOAT)  # the width as a number, not as a shape
    y = n.op("ReduceMean", n.op("Div", flat, scale), axes=[2], keepdims=0)
    return n.model(n.gemm(y, 16, 10))


@network
def channels_last() -> onnx.ModelProto:
    n = Net(x=("N", 16, 16, 3))
    y = n.relu(n.conv(n.op("Transpose", "x", perm=[0, 3, 1, 2]), 3, 16))
    y = n.op("Transpose", y, perm=[0, 2, 3, 1])
    y = n.op("Add", y, n.weight(16))
    y = n.conv(n.op("Transpose", y, perm=[0, 3, 1, 2]), 16, 8)
    y = n.op("Transpose", n.op("GlobalAveragePool", y), perm=[0, 2, 3, 1])
    y = n.op("Reshape", y, n.const(np.array([-1, 8])))
    return n.model(n.op("MatMul", y, n.weight(8, 10)))


@network
def concat_of_itself() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.conv("x", 3, 8))
    return n.model(n.conv(n.op("Concat", y, y, axis=1), 16, 4))


@network
def gated_halves() -> onnx.ModelProto:
    n = Net(x=("N", 10))
    a, b = n.op("Split", n.gemm("x", 10, 24), outputs=2, axis=1)
    return n.model(n.gemm(n.op("Mul", a, n.op("Sigmoid", b)), 12, 4))


@network
def one_channel() -> onnx.ModelProto:
    n = Net(**IMAGE)
    return n.model(n.conv(n.conv(n.conv("x", 3, 1), 1, 6), 6, 1))


@network
def grouped_convolutions() -> onnx.ModelProto:
    n = Net(**IMAGE)
    y = n.relu(n.conv("x", 3, 32, 1))
    y = n.relu(n.conv(y, 32, 32, 3, group=8))
    y = n.relu(n.conv(y, 32, 24, 3, group=2))
    return n.model(n.conv(y, 24, 4, 1))


@network
def pruned_tensor_is_an_output() -> onnx.ModelProto:
    n = Net(**IMAGE)
    a = n.relu(n.conv("x", 3, 8))
    b = n.relu(n.conv(a, 8, 12))
    return n.model(a, n.conv(b, 12, 4))


@network
def two_inputs() -> onnx.ModelProto:
    n = Net(x=("N", 3, 8, 8), z=("N", 5))
    y = n.op("Flatten", n.op("GlobalAveragePool", n.relu(n.conv("x", 3, 12))))
    y = n.op("Concat", y, n.relu(n.gemm("z", 5, 7)), axis=1)
    return n.model(n.gemm(y, 19, 4))


@network
def constant_nodes_as_weights() -> onnx.ModelProto:
    model = chain()
    for tensor in list(model.graph.initializer):
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
        model.graph.initializer.remove(tensor)
    return model


@network
def half_precision() -> onnx.ModelProto:
    n = Net(**IMAGE)
    n.kind = np.float16
    return n.model(n.conv(n.relu(n.conv("x", 3, 16)), 16, 4))


@network
def captured_by_branches() -> onnx.ModelProto:
    n = Net(x=(1, 3, 8, 8), flag=(1,))
    a = n.relu(n.conv("x", 3, 8))
    y = n.conv(n.relu(n.conv(a, 8, 12)), 12, 8)

    def branch(kind: str, name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node(kind, [y, a], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )

    asked = n.op("Squeeze", n.op("Cast", "flag", to=TensorProto.BOOL))
    z = n.op("If", asked, then_branch=branch("Add", "t"), else_branch=branch("Sub", "e"))
    return n.model(n.conv(z, 8, 4))


@network
def operator_without_a_rule() -> onnx.ModelProto:
    n = Net(x=(1, 3, 8, 8))
    y = n.relu(n.conv("x", 3, 8))
    y = n.op("Trilu", n.conv(y, 8, 6), domain="com.microsoft")
    model = n.model(n.conv(y, 6, 4))
    known = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4, 8, 8])
    model.graph.output[0].type.CopyFrom(known.type)
    return model


@network
def standardised_weights() -> onnx.ModelProto:
    """The graph divides a weight by its statistics over the input channels on every run."""
    n = Net(x=("N", 3, 8, 8))
    y = n.relu(n.conv("x", 3, 16))
    w = n.weight(12, 16, 3, 3)
    centred = n.op("Sub", w, n.op("ReduceMean", w, axes=[1, 2, 3]))
    spread = n.op("ReduceL2", centred, axes=[1, 2, 3])
    y = n.op("Conv", y, n.op("Div", centred, spread), n.weight(12), pads=[1, 1, 1, 1])
    return n.model(n.conv(n.relu(y), 12, 4))


@network
def unit_length() -> onnx.ModelProto:
    """Divides by what a dead channel sets to zero: the masked reference must not be NaN."""
    n = Net(**IMAGE)
    y = n.conv("x", 3, 16)
    length = n.op("ReduceL2", y, axes=[2, 3], keepdims=1)
    return n.model(n.conv(n.op("Div", y, length), 16, 4))


@network
def identity_of_shared_vectors() -> onnx.ModelProto:
    """Exporters store equal parameters once and rebuild the others with Identity."""
    n = Net(**IMAGE)
    parts = [n.const(np.full(12, v, np.float32)) for v in (1.0, 0.1, 0.0, 1.0)]
    y = n.op("BatchNormalization", n.conv("x", 3, 12), *parts)
    again = [n.op("Identity", part) for part in parts]
    y = n.op("BatchNormalization", n.conv(n.relu(y), 12, 12), *again)
    return n.model(n.conv(n.relu(y), 12, 4))


@network
def varying_length_through_strides() -> onnx.ModelProto:
    """A length that a strided convolution rounds, computed into a Reshape."""
    n = Net(x=("N", 3, "L"))
    y = n.op("Conv", "x", n.weight(8, 3, 2), n.weight(8), strides=[2])
    y = n.op("Transpose", n.relu(y), perm=[0, 2, 1])
    shape = n.op("Shape", y)
    sizes = [n.op("Gather", shape, n.const(np.array([k]))) for k in (0, 1)]
    y = n.op("Reshape", y, n.op("Concat", *sizes, n.const(np.array([8])), axis=0))
    return n.model(n.op("MatMul", y, n.weight(8, 5)))


@network
def nodes_named_like_their_outputs() -> onnx.ModelProto:
    model = symbolic_shape_arithmetic()
    for node in model.graph.node:
        node.name = node.output[0]
    return model


SEQUENCE: dict[str, Any] = {"x": ("N", "T", 6)}


def zero_state(n: Net, layers: int, units: int) -> str:
    """(layers, batch, units) of zeros, as exporters write an initial state that is not given."""
    shape = n.op("Shape", "x")
    batch = n.op("Gather", shape, n.const(np.array([0])))
    shape = n.op("Concat", n.const(np.array([layers])), batch, n.const(np.array([units])), axis=0)
    return n.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.zeros(1, np.float32)))


@network
def lstm() -> onnx.ModelProto:
    n = Net(x=("T", "N", 6))
    y = n.op("MatMul", "x", n.weight(6, 8))
    y = n.op("Squeeze", n.recurrent("LSTM", y, 8, 32)[0], n.const(np.array([1])))
    return n.model(n.op("MatMul", y, n.weight(32, 4)))


@network
def lstm_from_zero_state() -> onnx.ModelProto:
    n = Net(**SEQUENCE)
    y = n.op("Transpose", n.relu(n.op("MatMul", "x", n.weight(6, 8))), perm=[1, 0, 2])
    zero = zero_state(n, 1, 16)
    _, last, _ = n.recurrent("LSTM", y, 8, 16, "", zero, zero, outputs=3)
    return n.model(n.gemm(n.op("Squeeze", last, n.const(np.array([0]))), 16, 4))


@network
def stacked_bidirectional_lstm() -> onnx.ModelProto:
    """One state for all layers, sliced; directions merge into the features of the next layer."""
    n = Net(**SEQUENCE)
    zero, width = zero_state(n, 4, 16), 6
    y = n.op("Transpose", "x", perm=[1, 0, 2])
    for layer in range(2):
        ends = n.const(np.array([2 * layer])), n.const(np.array([2 * layer + 2]))
        h, c = (n.op("Slice", zero, *ends, n.const(np.array([0]))) for _ in range(2))
        y = n.recurrent("LSTM", y, width, 16, "", h, c, dirs=2)[0]
        y = n.op("Transpose", y, perm=[0, 2, 1, 3])
        y = n.op("Reshape", y, n.const(np.array([0, 0, -1])))
        width = 32
    y = n.op("Transpose", y, perm=[1, 0, 2])
    return n.model(n.op("MatMul", y, n.weight(32, 4)))


@network
def gru_linear_before_reset() -> onnx.ModelProto:
    """The last states of both directions, side by side."""
    n = Net(**SEQUENCE)
    y = n.op("Transpose", "x", perm=[1, 0, 2])
    zero = zero_state(n, 2, 12)
    _, last = n.recurrent("GRU", y, 6, 12, "", zero, dirs=2, linear_before_reset=1)
    ends = [n.op("Gather", last, n.const(np.array(k)), axis=0) for k in (-2, -1)]
    return n.model(n.gemm(n.op("Concat", *ends, axis=1), 24, 4))


@network
def rnn_over_image_rows() -> onnx.ModelProto:
    """A convolution's channels and pixels of one column are the features of one step."""
    n = Net(x=("N", 3, 4, "W"))
    y = n.relu(n.conv("x", 3, 8))
    y = n.op("Transpose", y, perm=[3, 0, 1, 2])
    y = n.op("Reshape", y, n.const(np.array([0, 0, 32])))
    y = n.recurrent("RNN", y, 32, 12, activations=["Relu"])[0]
    y = n.op("Squeeze", y, n.const(np.array([1])))
    return n.model(n.op("MatMul", y, n.weight(12, 4)))


@network
def lstm_over_an_embedding() -> onnx.ModelProto:
    n = Net(x=("N", "T"))
    y = n.op("Gather", n.weight(20, 8), n.op("Cast", "x", to=TensorProto.INT64))
    y = n.op("Transpose", y, perm=[1, 0, 2])
    _, last = n.recurrent("LSTM", y, 8, 16)
    y = n.relu(n.gemm(n.op("Squeeze", last, n.const(np.array([0]))), 16, 10))
    return n.model(n.gemm(y, 10, 2))


@network
def lstm_with_reordered_gates() -> onnx.ModelProto:
    """Unfolded exports cut stored weights into gates and put them together in ONNX's order."""
    n = Net(x=("T", "N", 6))

    def gates(*shape: int) -> str:
        stored, axis = n.weight(*shape), n.const(np.array([0]))
        ends = [n.const(np.array([12 * k])) for k in range(5)]
        parts = [n.op("Slice", stored, ends[k], ends[k + 1], axis) for k in (0, 3, 1, 2)]
        return str(n.op("Concat", *parts, axis=0))

    one = n.const(np.array([0]))
    w, r = (n.op("Unsqueeze", gates(48, k), one) for k in (6, 12))
    b = n.op("Unsqueeze", n.op("Concat", gates(48), gates(48), axis=0), one)
    y = n.op("LSTM", "x", w, r, b, hidden_size=12)
    y = n.op("Squeeze", y, n.const(np.array([1])))
    return n.model(n.op("MatMul", y, n.op("Transpose", n.weight(4, 12), perm=[1, 0])))


import nested_networks  # noqa: E402, F401
import operator_networks  # noqa: E402, F401  they register more networks
import transformer_networks  # noqa: E402, F401
