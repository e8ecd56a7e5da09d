"""What changed between two models: nodes, weights, interface, versions."""

import numpy as np
import onnx
from onnx import numpy_helper
from onnx_text import parsed
from text_models import perceptron

from onnxprune.ir.model_changes import ModelChanges, NodeName, WeightChange, model_changes


def set_weight(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def test_a_model_does_not_differ_from_itself() -> None:
    assert model_changes(perceptron(), perceptron()) == ModelChanges(same=3)


def test_weights_that_got_smaller() -> None:
    after = perceptron()
    for name, shape in (("a", (2, 3)), ("b", (2,)), ("c", (2, 2))):
        set_weight(after, name, np.ones(shape, np.float32))
    found = model_changes(perceptron(), after)
    first, second = found.changed
    assert first.node == NodeName("n0", "Gemm") and found.same == 1
    assert first.weights == [
        WeightChange("a", "4x3", "2x3", (48, 24)), WeightChange("b", "4", "2", (16, 8))
    ]  # fmt: skip
    assert second.weights == [WeightChange("c", "2x4", "2x2", (32, 16))]
    assert [change.name for change in found.weights] == ["a", "c", "b"]


def test_other_numbers_of_the_same_shape() -> None:
    after = perceptron()
    set_weight(after, "d", np.array([0, 1], np.float32))
    (change,) = model_changes(perceptron(), after).changed
    assert change.weights == [WeightChange("d", "2", "2", (8, 8))]


def test_names_inside_the_graph_do_not_count() -> None:
    """Nodes, tensors and weights are called anew, the content is the same."""
    after = perceptron()
    after.graph.initializer[0].name = "w"
    after.graph.node[0].input[1] = "w"
    after.graph.node[0].output[0] = after.graph.node[1].input[0] = "hidden"
    after.graph.node[0].name = "first"
    assert model_changes(perceptron(), after) == ModelChanges(same=3)


def test_nodes_that_went_and_came_and_read_elsewhere() -> None:
    after = perceptron()
    after.graph.node[1].op_type = "Tanh"
    found = model_changes(perceptron(), after)
    assert (found.gone, found.new) == ([NodeName("n1", "Relu")], [NodeName("n1", "Tanh")])
    assert found.changed == [] and found.same == 2
    del after.graph.node[1]
    after.graph.node[1].input[0] = "h"
    (change,) = model_changes(perceptron(), after).changed
    assert [tuple(link) for link in change.inputs] == [(0, "r", "h")]


def test_attributes_and_lists_of_integers() -> None:
    def reshape(size: int, axis: int) -> onnx.ModelProto:
        return parsed(f"""m (float[2, 6] x) => (float[a, b, c] y)
            <int64[3] shape = {{2, {size}, -1}}> {{
            r = Reshape (x, shape)
            y = Softmax <axis = {axis}> (r) }}""")

    first, second = model_changes(reshape(3, 1), reshape(2, 2)).changed
    assert first.weights[0][:3] == ("shape", "[2, 3, -1]", "[2, 2, -1]")
    assert second.attributes == {"axis": ("1", "2")}


def test_the_interface_and_versions() -> None:
    after = perceptron()
    after.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    after.opset_import[0].version += 1
    after.metadata_props.add(key="made", value="today")
    found = model_changes(perceptron(), after)
    assert found.interface == {"output y": ("float Nx2", "float Nx3")}
    version = perceptron().opset_import[0].version
    assert found.about == {
        "opset ai.onnx": (str(version), str(version + 1)), "metadata made": ("-", "today")
    }  # fmt: skip


BRANCHES = """m (bool c, float[2] x) => (float[2] y) {
    y = If (c) <then_branch = t () => (float[2] u) <float[2] k = {1.0, 2.0}> { u = Add (x, k) },
                else_branch = e () => (float[2] v) <float[2] k = {1.0, 2.0}> { v = Mul (x, k) }>
}"""


def test_graphs_inside_nodes_are_compared_too() -> None:
    """Both branches have a weight `k`; that of the second one alone differs."""
    first, second = parsed(BRANCHES), parsed(BRANCHES.replace("2.0}> { v", "3.0}> { v"))
    assert model_changes(first, parsed(BRANCHES)) == ModelChanges(same=3)
    found = model_changes(first, second)
    (change,) = found.changed
    assert change.node == NodeName("y/else_branch/v", "Mul") and found.same == 2
    assert change.weights == [WeightChange("y/else_branch/k", "2", "2", (8, 8))]


def test_a_bias_that_is_new_and_a_weight_that_nobody_reads() -> None:
    before, after = perceptron(), perceptron()
    del before.graph.node[0].input[2]
    after.graph.initializer.add(name="spare", dims=[1], data_type=1, float_data=[1.0])
    found = model_changes(before, after)
    assert [tuple(w) for w in found.changed[0].weights] == [("b", None, "4", (0, 16))]
    assert WeightChange("spare", None, "1", (0, 4)) in found.weights


def test_types_are_told_where_they_differ() -> None:
    after = perceptron()
    set_weight(after, "d", np.ones(2, np.float16))
    (change,) = model_changes(perceptron(), after).changed
    assert change.weights[0][1:3] == ("float 2", "float16 2")
