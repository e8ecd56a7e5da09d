"""Branches, loops, functions and sparse weights, as exporters write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from networks import IMAGE, Net, network
from onnx import GraphProto, TensorProto, helper


class Inner(Net):
    """A body with weights of its own; sibling bodies use the same names."""

    prefix = "in_"

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        """Any operator."""
        made = super().op(kind, *inputs, outputs=outputs, **attrs)
        node = self.nodes[-1]
        node.name = f"{self.prefix}{node.name}"
        for k, name in enumerate(node.output):
            node.output[k] = f"{self.prefix}{name}"
        return [f"{self.prefix}{name}" for name in made] if outputs > 1 else f"{self.prefix}{made}"

    def const(self, value: Any, name: str = "") -> str:
        """A tensor stored in the body."""
        return super().const(value, name or f"{self.prefix}c{len(self.weights)}")

    def graph(self, *outputs: str, constants: bool = False) -> GraphProto:
        """The body; `constants` writes its weights as Constant nodes."""
        stored = [] if constants else self.weights
        nodes = [
            helper.make_node("Constant", [], [t.name], value=t) for t in self.weights if constants
        ]
        kinds = {"i": TensorProto.INT64, "go": TensorProto.BOOL}
        return helper.make_graph(
            [*nodes, *self.nodes],
            "body",
            [
                helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), s)
                for n, s in self.inputs.items()
            ],
            [helper.make_tensor_value_info(n, kinds.get(n, TensorProto.FLOAT), None)
             for n in outputs],
            stored,
        )  # fmt: skip


def positive(n: Net, x: str) -> str:
    """A condition that the data decide."""
    return str(n.op("Greater", n.op("ReduceSum", x, keepdims=0), n.const(np.float32(0))))


@network
def branches_with_weights() -> onnx.ModelProto:
    """Both branches read a tensor of the main graph and have convolutions of their own."""
    n = Net(**IMAGE)
    y = n.relu(n.conv(n.relu(n.conv("x", 3, 8)), 8, 12))
    then, other = Inner(), Inner()
    other.rng = np.random.default_rng(8)
    first = then.graph(then.conv(then.relu(then.conv(y, 12, 6)), 6, 10))
    second = other.graph(other.conv(y, 12, 10, 1))
    z = n.op("If", positive(n, "x"), then_branch=first, else_branch=second)
    return n.model(n.conv(n.relu(z), 10, 4))


@network
def branches_in_branches() -> onnx.ModelProto:
    """Weights in Constant nodes of bodies, shape arithmetic."""
    n = Net(**IMAGE)
    y = n.relu(n.conv("x", 3, 8))
    asked = positive(n, "x")
    deep, flat = Inner(), Inner()
    deep.prefix = flat.prefix = "deep_"
    pooled = deep.op("GlobalAveragePool", y)
    sizes = deep.op("Concat", deep.op("Shape", pooled, start=0, end=2), deep.const(np.array([-1])),
                    axis=0)  # fmt: skip
    deep_end = deep.op("ReduceMean", deep.op("Reshape", pooled, sizes), axes=[2], keepdims=0)
    flat_end = flat.op("Flatten", flat.op("GlobalMaxPool", y))
    branch = Inner()
    chosen = branch.op("If", asked, then_branch=deep.graph(deep_end, constants=True),
                       else_branch=flat.graph(flat_end))  # fmt: skip
    chosen = branch.relu(branch.gemm(chosen, 8, 6))
    other = Inner()
    mean = other.op("ReduceMean", y, axes=[2, 3], keepdims=0)
    gemm = other.gemm(mean, 8, 6)
    a, b = n.op("If", asked, outputs=2,
                then_branch=branch.graph(chosen, branch.op("Neg", chosen), constants=True),
                else_branch=other.graph(gemm, other.relu(gemm), constants=True))  # fmt: skip
    return n.model(n.gemm(n.op("Concat", a, b, axis=1), 12, 4))


@network
def loop_with_a_hidden_state() -> onnx.ModelProto:
    """A cell in plain operators: the state goes from round to round, its rows are collected."""
    n = Net(x=("N", 7, 5))
    state = n.const(np.zeros((1, 12), np.float32))
    start = n.op("Expand", state, n.op("Concat", n.op("Shape", "x", start=0, end=1),
                                       n.const(np.array([12])), axis=0))  # fmt: skip
    w, u, b = n.weight(5, 12), n.weight(12, 12), n.weight(12)
    body = Inner(i=(), go=(), h=("N", 12))
    row = body.op("Gather", "x", "i", axis=1)
    total = body.op("Add", body.op("MatMul", row, w), body.op("MatMul", "h", u))
    new = body.op("Tanh", body.op("Add", total, b))
    out = body.relu(body.gemm(new, 12, 6))
    g = body.graph("go", new, out)
    last, rows = n.op("Loop", n.const(np.array(7)), "", start, outputs=2, body=g)
    y = n.op("MatMul", n.op("ReduceMean", rows, axes=[0], keepdims=0), n.weight(6, 3))
    return n.model(y, n.gemm(last, 12, 3))


@network
def scanned_cell() -> onnx.ModelProto:
    """A gated cell as tf2onnx writes one: Scan over the first axis, weights inside."""
    n = Net(x=(6, "N", 5))
    start = n.op("Expand", n.const(np.zeros((1, 8), np.float32)), n.op(
        "Concat", n.op("Shape", "x", start=1, end=2), n.const(np.array([8])), axis=0))  # fmt: skip
    body = Inner(h=("N", 8), row=("N", 5))
    both = body.op("Concat", "row", "h", axis=1)
    gates = body.op("Sigmoid", body.op("Add", body.op("MatMul", both, body.weight(13, 16)),
                                       body.weight(16)))  # fmt: skip
    reset, update = body.op("Split", gates, outputs=2, axis=1)
    mixed = body.op("Concat", "row", body.op("Mul", reset, "h"), axis=1)
    fresh = body.op("Tanh", body.op("MatMul", mixed, body.weight(13, 8)))
    one = body.const(np.float32(1))
    new = body.op("Add", body.op("Mul", update, "h"),
                  body.op("Mul", body.op("Sub", one, update), fresh))  # fmt: skip
    g = body.graph(new, body.op("Identity", new))
    _, rows = n.op("Scan", start, "x", outputs=2, num_scan_inputs=1, body=g)
    y = n.op("MatMul", rows, n.weight(8, 6))
    return n.model(n.op("MatMul", n.relu(y), n.weight(6, 3)))


@network
def squeezed_if_it_can_be() -> onnx.ModelProto:
    """What squeeze() becomes: an If on a size that is always one, with branches of two ranks."""
    n = Net(x=("N", 3, 16))
    y = n.relu(n.conv("x", 3, 8, rank=1))
    y = n.op("MaxPool", y, kernel_shape=[16])
    size = n.op("Gather", n.op("Shape", y), n.const(np.array([2])))
    then, other = Inner(), Inner()
    first = then.graph(then.op("Squeeze", y, then.const(np.array([2]))), constants=True)
    second = other.graph(other.op("Identity", y))
    z = n.op("If", n.op("Equal", size, n.const(np.array([1]))), then_branch=first,
             else_branch=second)  # fmt: skip
    return n.model(n.gemm(n.relu(z), 8, 4))


@network
def weight_of_body_and_main_graph() -> onnx.ModelProto:
    """One matrix in both, one vector in both branches."""
    n = Net(x=("N", 6))
    w, b = n.weight(8, 8, name="shared"), n.weight(8)
    y = n.relu(n.gemm("x", 6, 8))
    y = n.relu(n.op("MatMul", y, w))
    then, other = Inner(), Inner()
    first = then.graph(then.op("Add", then.op("MatMul", y, w), b))
    second = other.graph(other.op("Mul", y, b))
    z = n.op("If", positive(n, "x"), then_branch=first, else_branch=second)
    return n.model(n.gemm(n.relu(z), 8, 3))


@network
def collected_in_a_sequence() -> onnx.ModelProto:
    """Lists of tensors are left alone, what lies before and behind is not."""
    n = Net(x=("N", 6))
    y = n.gemm(n.relu(n.gemm("x", 6, 10)), 10, 4)
    several = n.op("SequenceInsert", n.op("SequenceConstruct", y, y), n.relu(y))
    y = n.op("ConcatFromSequence", several, axis=1)
    return n.model(n.gemm(n.relu(n.gemm(y, 12, 8)), 8, 2))


@network
def functions_of_its_own() -> onnx.ModelProto:
    """Layers are functions that call functions; weights are handed in."""
    n = Net(x=("N", 6))
    y = n.op("layer", "x", n.weight(6, 10), n.weight(10), domain="own")
    y = n.op("layer", y, n.weight(10, 8), n.weight(8), domain="own")
    model = n.model(n.gemm(y, 8, 3))
    text = """
        <opset_import: ["": 17, "own": 1], domain: "own"> layer (x, w, b) => (y) {
            z = MatMul(x, w) t = Add(z, b) y = own.half(t)
        }
    """
    half = """
        <opset_import: ["": 17], domain: "own"> half (x) => (y) {
            c = Constant<value_float = 0.5>() z = Mul(x, c) y = Relu(z)
        }
    """
    shape = helper.make_tensor_value_info(model.graph.output[0].name, TensorProto.FLOAT, ["N", 3])
    model.graph.output[0].CopyFrom(shape)
    model.functions.extend(onnx.parser.parse_function(t) for t in (text, half))
    del model.graph.value_info[:]
    return model


def sparse(values: np.ndarray, name: str, flat: bool) -> onnx.SparseTensorProto:
    """A sparse tensor with one index an entry, or one an axis."""
    at = np.flatnonzero(values) if flat else np.argwhere(values)
    entries = onnx.numpy_helper.from_array(values[values != 0], name)
    indices = onnx.numpy_helper.from_array(at.astype(np.int64), f"{name}_at")
    return helper.make_sparse_tensor(entries, indices, values.shape)


@network
def sparse_weights() -> onnx.ModelProto:
    """As initializers with both kinds of indices, and as a Constant node."""
    n = Net(x=("N", 6))
    y = n.relu(n.gemm(n.relu(n.gemm("x", 6, 10)), 10, 8))
    model = n.model(n.gemm(y, 8, 3))
    matrices = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 2]
    for k, tensor in enumerate(matrices):
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[::2, 1::3] = 0
        held = sparse(values, tensor.name, flat=k == 0)
        if k < 2:
            model.graph.sparse_initializer.append(held)
        else:
            node = helper.make_node("Constant", [], [tensor.name], sparse_value=held)
            model.graph.node.insert(0, node)
        model.graph.initializer.remove(tensor)
    return model


@network
def constants_of_every_kind() -> onnx.ModelProto:
    """Constant nodes that hold plain numbers and lists."""
    n = Net(**IMAGE)
    y = n.conv("x", 3, 8)
    y = n.op("Mul", y, n.op("Constant", value_float=0.5))
    y = n.op("Reshape", y, n.op("Constant", value_ints=[0, 8, 256]))
    y = n.op("ReduceSum", y, n.op("Constant", value_ints=[2]), keepdims=0)
    y = n.op("Add", y, n.op("Constant", value_floats=[float(k) for k in range(8)]))
    y = n.op("Unsqueeze", y, n.op("Constant", value=helper.make_tensor("", 7, [1], [1])))
    y = n.op("Gather", y, n.op("Constant", value_int=0), axis=1)
    return n.model(n.gemm(y, 8, 3))


@network
def weights_as_inputs() -> onnx.ModelProto:
    """IR version 3: every weight is an input with a default."""
    n = Net(opset=8, x=(2, 3, 8, 8))
    y = n.relu(n.conv("x", 3, 8))
    y = n.op("Reshape", n.op("GlobalAveragePool", y), n.const(np.array([2, 8])))
    model = n.model(n.gemm(y, 8, 3))
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    return model
