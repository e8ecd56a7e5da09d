"""New operators behind a graph: names and constants of their own, and which of them are needed."""

import numpy as np
import onnx
from onnx_text import parsed, run

from onnxprune.ir.graph_builder import GraphBuilder, leading


def test_new_operators_run_behind_a_graph() -> None:
    """Their results and constants have names that no exporter gives."""
    model = parsed("g (float[2] x) => (float[2] y) { y = Neg(x) }")
    build = GraphBuilder(17, np.dtype(np.float32))
    total = build.emit("Add", build.emit("Abs", "y"), build.constant([1, 2]))
    model.graph.node.extend(build.nodes)
    for name, values in build.constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    model.graph.output.append(onnx.ValueInfoProto(name=total))
    assert run(model, x=np.array([3, -4], np.float32))[total].tolist() == [4, 6]
    made = [*(name for node in build.nodes for name in node.output), *build.constants]
    assert len(set(made)) == 3 and all(name.startswith("onnxprune/") for name in made)


def test_constants_have_the_type_of_the_weights() -> None:
    build = GraphBuilder(17, np.dtype(np.float16))
    assert build.constants[build.constant([1, 2])].dtype == np.float16
    assert build.constants[build.constant([1], np.int64)].dtype == np.int64
    assert build.kind == onnx.TensorProto.FLOAT16


def test_only_what_leads_to_a_wanted_tensor_is_kept() -> None:
    build = GraphBuilder(17, np.dtype(np.float32))
    a = build.emit("Neg", "x")
    build.emit("Abs", a)
    c = build.emit("Transpose", a, perm=[1, 0])
    wanted = {c}
    assert [node.op_type for node in leading(build.nodes, wanted)] == ["Neg", "Transpose"]
    assert wanted == {c}
