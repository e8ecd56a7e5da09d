"""The model without its weights: feeds, inference, checks and models of single operators."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net, samples_of
from onnx_text import parsed, run, stored

from onnxprune.errors import InputError
from onnxprune.ir import graph, runtime, skeleton

PLAIN = "g (float[N,3] x) => (float[N,3] y) { a = Neg(x) b = Abs(a) y = Exp(b) }"


@pytest.mark.parametrize("name", ["chain", "constant_nodes_as_weights", "weights_as_inputs"])
def test_fed_with_its_weights_a_skeleton_computes_the_same(name: str) -> None:
    model = NETWORKS[name]()
    before = graph.model_bytes(model)
    bare = skeleton.skeleton(model)
    fed = skeleton.fed_names(model, bare)
    constants = {name: onnx.numpy_helper.to_array(t) for name, t in graph.constants(model).items()}
    large = {name for name, array in constants.items() if array.size > 1024}
    assert set(fed) == large and not large & stored(bare).keys()
    assert graph.model_bytes(model) == before
    feeds = {
        v.name: samples_of(model, np.random.default_rng(0))[v.name]
        for v in graph.graph_inputs(model)
    }
    found = run(bare, **feeds, **{name: constants[name] for name in fed})
    for output, value in run(model, **feeds).items():
        np.testing.assert_array_equal(found[output], value)


def test_small_weights_are_fed_where_that_is_asked_for() -> None:
    model = NETWORKS["chain"]()
    bare = skeleton.skeleton(model, {"x": (2, 3, 5, 5)}, fed={"c1"})
    assert "c1" in skeleton.fed_names(model, bare) and "c3" not in skeleton.fed_names(model, bare)
    (x,) = (value for value in bare.graph.input if value.name == "x")
    assert [d.dim_value for d in x.type.tensor_type.shape.dim] == [2, 3, 5, 5]


def test_what_onnx_has_against_a_graph_is_one_line() -> None:
    assert skeleton.complaint(NETWORKS["chain"]()) == ""
    model = parsed(PLAIN)
    model.graph.node[1].attribute.append(onnx.helper.make_attribute("colour", 3))
    text = skeleton.complaint(model)
    assert "Unrecognized attribute: colour" in text and "\n" not in text


def test_values_of_computed_shapes_lead_inference_on() -> None:
    """Without the value of `shape` not even the rank of y is known."""
    model = parsed("g (float[2,6] x, int64[2] s) => (y) { shape = Neg(s) y = Reshape(x, shape) }")
    bare = skeleton.skeleton(model)
    assert None in skeleton.infer(skeleton.skeleton(model), {}).get("y", (None,))
    assert skeleton.infer(bare, {"shape": np.array([3, 4])})["y"] == (3, 4)


def test_operators_that_onnx_does_not_know_are_those_of_others_and_what_reads_them() -> None:
    model = parsed("""
        g (float[2] x) => (float[2] y) {
            a = com.microsoft.QuickGelu(x)
            b = Neg(a)
            c = Neg(x)
            y = Add(b, c)
        }""")
    shapes: dict[str, tuple[int | None, ...]] = {"c": (2,), "y": (2,)}
    assert skeleton.unknown_behind_foreign(model, shapes) == ["a", "b"]
    found = runtime.output_shapes(skeleton.with_outputs(model, ["a", "b"]))
    assert found["a"] == found["b"] == (2,)


def test_strict_inference_says_what_does_not_fit() -> None:
    model = parsed("g (float[2,3] x, float[4,5] w) => (y) { y = MatMul(x, w) }")
    with pytest.raises(InputError, match=r"^shape inference fails: .*MatMul"):
        skeleton.infer(skeleton.skeleton(model), {}, strict=True)
    assert "y" not in skeleton.infer(skeleton.skeleton(model), {})


def test_some_operators_are_a_model_of_their_own() -> None:
    model = parsed(PLAIN)
    part = skeleton.part(model, model.graph.node[1:], {"a": "tensor(float)"}, ["b", "y"])
    found = run(part, a=np.array([[-1, 0, 2]], np.float32))
    assert found["b"].tolist() == [[1, 0, 2]]
    np.testing.assert_allclose(found["y"], np.exp(found["b"]), rtol=1e-6)


def test_single_operators_on_given_values() -> None:
    x = np.array([[3, 1, 2]], np.float32)
    values = {"x": x, "axes": np.array([1])}
    model, outputs = skeleton.single_node("ReduceSum", ["x", "axes"], {"keepdims": 0}, 17, values)
    assert runtime.compute(model, outputs)[outputs[0]].tolist() == [6]
    model, outputs = skeleton.single_node(
        "com.microsoft:QuickGelu", ["x"], {"alpha": 0.0}, 17, values
    )
    assert np.array_equal(runtime.compute(model, outputs)[outputs[0]], x / 2)
    session = runtime.open_session(
        skeleton.one_operator("MatMul", {"w": np.eye(3, dtype=np.float32)}, {})
    )
    assert session.get_inputs()[0].name == "data"


def test_stored_tensors_and_inputs_are_exchanged() -> None:
    n = Net(x=("N", 3))
    model = n.model(n.gemm("x", 3, 2))
    weights = {"c0": np.ones((2, 3), np.float32), "c1": np.array([0, 5], np.float32)}
    skeleton.open_inputs(model, ["c1"])
    assert list(stored(model)) == ["c0"]
    skeleton.store(model, {"c0": weights["c0"]})
    assert [tensor.name for tensor in model.graph.initializer] == ["c0"]
    skeleton.declare(model, {"x": ("rows", 3)})
    assert graph.interface(model)["x"] == "input of type 1 and shape ['rows', 3]"
    found = run(model, x=np.ones((1, 3), np.float32), c1=weights["c1"])
    assert next(iter(found.values())).tolist() == [[3, 8]]
