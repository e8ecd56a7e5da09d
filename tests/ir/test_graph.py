"""Looking into a model: attributes, constants, inputs, shapes."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net
from onnx import TensorProto, helper
from onnx_text import parsed

from onnxprune.errors import InputError
from onnxprune.ir import graph


def test_operators_are_named_with_their_domain_unless_it_is_onnx_s_own() -> None:
    nodes = [helper.make_node("Gelu", [], ["y"], domain=d) for d in ("", "ai.onnx", "own")]
    assert [graph.op_key(node) for node in nodes] == ["Gelu", "Gelu", "own:Gelu"]
    assert graph.label(nodes[0]) == "y"
    nodes[0].name = "named"
    assert graph.label(nodes[0]) == "named"
    assert graph.label(helper.make_node("LSTM", [], ["", "last"])) == "last"


def test_attributes_are_plain_values() -> None:
    node = helper.make_node(
        "Op", [], ["y"], i=3, f=0.5, s="text", ints=[1, 2], strings=["a", "b"],
        one=helper.make_tensor("", TensorProto.FLOAT, [1], [7.0]),
        two=helper.make_tensor("", TensorProto.FLOAT, [2], [7.0, 8.0]),
        body=parsed("g () => () { }").graph,
    )  # fmt: skip
    found = graph.attributes(node)
    assert found.pop("one").tolist() == [7]
    assert found == {"i": 3, "f": 0.5, "s": "text", "ints": [1, 2], "strings": ["a", "b"]}
    graph.set_attributes(node, {"i": 4, "s": None, "new": [5], "missing": None})
    after = graph.attributes(node)
    assert (after["i"], after["new"], "s" in after) == (4, [5], False)


CONSTANTS = {
    "value = float[2] {1, 2}": np.array([1, 2], np.float32),
    "value_int = 3": np.array(3),
    "value_ints = [3, 4]": np.array([3, 4]),
    "value_float = 0.5": np.array(0.5, np.float32),
    "value_floats = [0.5, 1.0]": np.array([0.5, 1], np.float32),
    'value_string = "a"': np.array("a", object),
    'value_strings = ["a", "b"]': np.array(["a", "b"], object),
}


@pytest.mark.parametrize("text", CONSTANTS)
def test_constant_nodes_of_every_kind(text: str) -> None:
    model = parsed(f"g () => (float c) {{ c = Constant<{text}>() }}")
    found = onnx.numpy_helper.to_array(graph.constants(model)["c"])
    expected = CONSTANTS[text]
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tolist() == expected.tolist()


def test_what_is_read_cannot_be_written_to() -> None:
    """It is shared by all who ask."""
    model = parsed("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    read = graph.reader(model)
    values = read("w")
    assert values is not None and read("w") is values and read("nothing") is None
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_inputs_with_a_stored_value_need_not_be_fed() -> None:
    model = NETWORKS["weights_as_inputs"]()
    assert len(model.graph.input) > 1
    assert [value.name for value in graph.graph_inputs(model)] == ["x"]


def test_the_type_of_an_input() -> None:
    (half,) = parsed("g (float16[N] x) => (float16[N] y) { y = Neg(x) }").graph.input
    assert graph.input_dtype(half) == np.float16
    several = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
    message = "input 'several' is no tensor, so the model cannot be fed here"
    with pytest.raises(InputError, match=message):
        graph.input_dtype(helper.make_value_info("several", several))


def test_declared_shapes_of_bodies_count_and_sizes_may_vary() -> None:
    model = parsed("""
        g (bool q, float[N,3] x) => (float[N,4,1] y) {
            y = If (q) <
                then_branch = t () => (float[2] u) { u = Neg(x) },
                else_branch = e () => (float v) { v = Abs(x) }
            >
        }""")
    assert graph.declared_shapes(model) == {"y": (None, 4, 1), "u": (2,), "v": ()}
    assert graph.interface(model) == {
        "q": "input of type 9 and shape []",
        "x": "input of type 1 and shape ['N', 3]",
        "y": "output of type 1 and shape ['N', 4, 1]",
    }


def test_every_field_is_copied_but_those_to_skip() -> None:
    model = NETWORKS["sparse_weights"]()
    model.doc_string, model.producer_name = "doc", "us"
    model.metadata_props.add(key="k", value="v")
    same, without = onnx.ModelProto(), onnx.ModelProto()
    graph.copy_fields(model, same, frozenset())
    graph.copy_fields(model, without, frozenset({"graph", "doc_string"}))
    assert same == model
    assert not without.HasField("graph") and not without.HasField("doc_string")
    assert without.producer_name == "us" and without.metadata_props == model.metadata_props


def test_bytes_of_weights() -> None:
    n = Net(x=("N", 3, 8, 8))
    model = n.model(n.conv("x", 3, 8))
    assert graph.sizes(model) == {"c0": 8 * 3 * 9 * 4, "c1": 8 * 4}
    assert graph.stored_bytes(model) == 896


def test_an_input_of_a_type_that_onnx_does_not_know_is_refused() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    value.type.tensor_type.elem_type = 99
    with pytest.raises(InputError, match=r"input 'x' has type 99, which onnx .* does not know"):
        graph.input_dtype(value)


def test_attributes_may_hold_any_bytes() -> None:
    node = helper.make_node("Op", [], ["y"], s=b"\xff\xfe", strings=[b"\xff", b"a"])
    assert graph.attributes(node) == {"s": "\ufffd\ufffd", "strings": ["\ufffd", "a"]}
