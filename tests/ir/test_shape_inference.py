"""Which sizes are static, which vary together, and what computed shapes are known to hold."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from nested_networks import Inner
from networks import NETWORKS, Net
from onnx_text import parsed
from oracle import check_model

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.ir import shape_inference
from onnxprune.ir.shape_inference import sample_shapes
from onnxprune.types import Node, Tensor

IMAGES = """
    g (float[N,3,H,W] a, float[N,3,H,8] b, float[N,T] c, float[2] d) => (float[2] y) { y = Neg(d) }
"""


def described(
    model: onnx.ModelProto, given: Mapping[str, Sequence[int]] | None = None
) -> tuple[Node, ...]:
    return shape_inference.describe(model, ops.traits(), given)


def tensors(model: onnx.ModelProto) -> dict[str, Tensor]:
    """What is known of each tensor by name."""
    return {tensor.name: tensor for node in described(model) for tensor in node.tensors}


def test_sizes_that_may_vary_have_two_samples_and_symbols_are_one_size() -> None:
    first = {"a": (1, 3, 224, 224), "b": (1, 3, 224, 8), "c": (1, 32), "d": (2,)}
    second = {"a": (2, 3, 192, 192), "b": (2, 3, 192, 8), "c": (2, 16), "d": (2,)}
    assert sample_shapes(parsed(IMAGES)) == first
    assert sample_shapes(parsed(IMAGES), second=True) == second
    given = {"a": (5, 3, 10, 70)}
    assert sample_shapes(parsed(IMAGES), given)["b"] == (5, 3, 10, 8)
    assert sample_shapes(parsed(IMAGES), given, second=True)["a"] == (10, 3, 5, 38)


def test_a_name_that_stands_for_two_stated_sizes_says_nothing() -> None:
    model = parsed("g (float[N,3,S,S] a, float[N,S] b) => (y) { y = Neg(a) }")
    given = {"a": (1, 3, 48, 192)}
    assert sample_shapes(model, given) == {"a": (1, 3, 48, 192), "b": (1, 48)}
    assert sample_shapes(model, given, second=True) == {"a": (2, 3, 24, 160), "b": (2, 24)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": (1,)}, r"the model has no input 'z'\. Its inputs: a, b, c, d"),
        ({"a": (1, 3, 8)}, r"'a' has 4 axes, but --input-shape gives 3: \[1, 3, 8\]"),
        ({"b": (1, 4, 8, 8)}, "'b' axis 1 is 3 in the model, but --input-shape gives 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(given: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_shapes(parsed(IMAGES), given)


def test_equal_symbols_are_equal_sizes() -> None:
    found = tensors(
        parsed("g (float[N,L] x, float[N,L] z) => (y) { a = Add(x, z) y = Concat<axis = 1>(a, a) }")
    )
    assert found["x"].shape == found["z"].shape == found["a"].shape == ("1|2", "32|16")
    assert found["y"].shape == ("1|2", "64|32") and found["y"].sample == (1, 64)


def test_entries_of_a_computed_shape_are_known_one_by_one() -> None:
    """The batch varies, the width does not."""
    found = tensors(
        parsed("""
        g (float[N,6,4] x) => (y) <int64[1] zero = {0}, int64[2] rest = {-1, 8}> {
            size = Shape(x)
            batch = Gather(size, zero)
            shape = Concat<axis = 0>(batch, rest)
            y = Reshape(x, shape)
        }""")
    )
    assert found["size"].ints() == (None, 6, 4)
    assert found["shape"].ints() == (None, -1, 8) and not found["shape"].constant
    assert found["rest"].constant and found["rest"].known is None
    assert found["y"].shape == ("1|2", 3, 8)


def test_what_random_operators_draw_is_never_known() -> None:
    found = tensors(
        parsed("""
        g () => (y) <int64[1] two = {2}> {
            r = RandomUniformLike<dtype = 1, low = 2.0, high = 2.0>(two)
            k = Cast<to = 7>(r)
            y = Tile(two, k)
        }""")
    )
    assert found["k"].value is None and found["two"].value is not None


def test_nodes_know_their_bodies_and_what_hidden_graphs_read() -> None:
    nodes = described(NETWORKS["loop_with_a_hidden_state"]())
    (loop,) = (node for node in nodes if node.op == "Loop")
    (body,) = loop.bodies
    assert [t.name for t in body.inputs] == ["i", "go", "h"] and body.name == "body"
    assert body.inputs[2].shape == loop.outputs[0].shape == ("1|2", 12)
    assert nodes.index(loop) > max(k for k, node in enumerate(nodes) if node.op == "Tanh")


def test_a_size_that_is_one_for_good_decides_which_branch_is_taken() -> None:
    nodes = described(NETWORKS["squeezed_if_it_can_be"]())
    (node,) = (node for node in nodes if node.op == "If")
    assert node.outputs[0].shape == ("1|2", 8)
    assert node.inputs[0] is not None and bool(node.inputs[0].value) is True


def test_a_comparison_of_sizes_that_vary_decides_nothing() -> None:
    """The length is not one for both samples, which does not say that it never is."""
    n = Net(x=("N", 3, "L"))
    y = n.relu(n.conv("x", 3, 8, rank=1))
    size = n.op("Gather", n.op("Shape", y), n.const(np.array([2])))
    then, other = Inner(), Inner()
    first = then.graph(then.op("Squeeze", y, then.const(np.array([2]))))
    second = other.graph(other.op("Identity", y))
    z = n.op("If", n.op("Equal", size, n.const(np.array([1]))), then_branch=first,
             else_branch=second)  # fmt: skip
    model = n.model(n.op("ReduceSum", z, keepdims=0))
    model.graph.output[0].type.tensor_type.shape.SetInParent()
    (node,) = (node for node in described(model) if node.op == "If")
    assert node.outputs[0].shape is None
    assert node.inputs[0] is not None and node.inputs[0].value is None
    assert check_model(model) == 0


def test_sizes_that_no_tensor_has_are_unknown() -> None:
    """A window larger than the sample, and a padding that nothing could hold."""
    model = parsed("""
        g (float[1,1,2,2] x, float[1,1,5,5] w) => (float[a,b,c,d] y) {
            y = Conv<kernel_shape = [5, 5]>(x, w)
        }
    """)
    assert all(size is None or size >= 0 for size in sizes(model, "y"))
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("pads", [0, 2**31, 0, 2**31]))
    assert None in sizes(model, "y")


def sizes(model: onnx.ModelProto, name: str) -> list[int | None]:
    tensor = tensors(model)[name]
    return [tensor.size(axis) for axis in range(tensor.rank)]


def test_what_nothing_could_hold_is_refused_with_what_to_do() -> None:
    text = "g (float[{0}] x) => (float[n] y) {{ y = Neg(x) }}"
    with pytest.raises(InputError, match=r"input 'x' of shape \[1099511627776\] would take"):
        described(parsed(text.format(2**40)))
    wide = "g (float[70000] x) => (float[n, m] y) { a = Unsqueeze(x, z) y = Mul(x, a) }"
    model = parsed(wide)
    model.graph.initializer.append(onnx.helper.make_tensor("z", 7, [1], [1]))
    with pytest.raises(InputError, match=r"tensor 'y' would have the shape \[70000, 70000\]"):
        described(model)
