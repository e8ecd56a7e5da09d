"""A model that runs segment by segment, each with its own weights, computes what the whole does."""

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import NETWORKS, samples_of
from onnx_text import parsed, run, stored

from onnxprune.errors import InputError
from onnxprune.ir import graph, skeleton
from onnxprune.ir.segmented_run import Runner, split
from onnxprune.types import Read

HALF = graph.LARGE // 2
#: Weights a, b, c, d in this order; `q` is read at once and at the end.
FOUR = """
    g (float[N,2] x) => (float[N,2] y)
    <float[2] a = {1, 2}, float[2] b = {3, 4}, float[2] c = {5, 6}, float[2] d = {7, 8}> {
        [p] p = Add(x, a)
        [q] q = Mul(p, b)
        [free] free = Neg(q)
        [r] r = Add(free, c)
        [s] s = Mul(r, d)
        [y] y = Add(s, q)
    }"""
#: Sequences, integers and half precision between segments; a stored tensor as an output.
TYPES = """
    g (float[N,4] x) => (float[N,8] y, float[8] w) <float[4,8] a, float[8,8] b, float[8] w> {
        p = MatMul(x, a)
        s = SequenceConstruct(p, p)
        i = Cast <to = 7> (p)
        h = Cast <to = 10> (p)
        q = MatMul(p, b)
        zero = Constant <value = int64 {0}> ()
        r = SequenceAt(s, zero)
        j = Cast <to = 1> (i)
        k = Cast <to = 1> (h)
        y = Sum(q, r, j, k)
    }"""


def runner(model: onnx.ModelProto, size: int) -> tuple[Runner, Read]:
    """The model without any weight, each of which is said to have `size` bytes."""
    fed = list(stored(model))
    bare = skeleton.skeleton(model, fed=fed)
    return Runner(bare, fed, dict.fromkeys(fed, size)), graph.reader(model)


def test_segments_hold_as_many_weights_as_the_budget_takes() -> None:
    """By hand: a and b together are within it, c and d with them are not."""
    model = parsed(FOUR)
    bare = skeleton.skeleton(model, fed="abcd")
    first, second = split(bare, dict.fromkeys("abcd", HALF))
    assert [node.name for node in first.nodes] == ["p", "q", "free"]
    assert [node.name for node in second.nodes] == ["r", "s", "y"]
    assert (first.weights, first.needs, first.gives) == (("a", "b"), ("x",), ("free", "q"))
    assert (second.weights, second.needs, second.gives) == (("c", "d"), ("free", "q"), ("y",))
    assert first.done == ("x",) and second.done == ("free", "q")


def test_an_operator_with_more_than_the_budget_is_alone() -> None:
    model = parsed(FOUR)
    bare = skeleton.skeleton(model, fed="abcd")
    found = split(bare, {"a": 1, "b": graph.LARGE + 1, "c": 1, "d": 1})
    assert [segment.weights for segment in found] == [("a",), ("b",), ("c", "d")]


@pytest.mark.parametrize("name", ["residual_spine", "captured_by_branches", "scanned_cell"])
@pytest.mark.parametrize("size", [graph.LARGE, HALF])
def test_segments_compute_what_the_whole_does(name: str, size: int) -> None:
    model = NETWORKS[name]()
    in_segments, read = runner(model, size)
    whole, _ = runner(model, 1)
    assert len(in_segments.segments) > 1 and whole.segments == []
    feeds = samples_of(model, np.random.default_rng(0))
    for _ in range(2):  # sessions are opened once
        found, expected = in_segments.run(feeds, read), whole.run(feeds, read)
        assert found.keys() == expected.keys() == run(model, **feeds).keys()
        for output, value in expected.items():
            np.testing.assert_array_equal(found[output], value)
    assert len(in_segments.sessions) == len(in_segments.segments)


def test_segments_pass_every_type_on() -> None:
    model = parsed(TYPES)
    rng = np.random.default_rng(0)
    del model.graph.initializer[:]
    for name, shape in {"a": (4, 8), "b": (8, 8), "w": (8,)}.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    feeds = {"x": rng.standard_normal((3, 4)).astype(np.float32)}
    in_segments, read = runner(model, graph.LARGE)
    assert len(in_segments.segments) == 2
    found = in_segments.run(feeds, read)
    expected = onnxruntime.InferenceSession(graph.model_bytes(model)).run(None, feeds)
    np.testing.assert_allclose(found["y"], expected[0], rtol=1e-6)  # products in another order
    np.testing.assert_array_equal(found["w"], expected[1])


def test_a_weight_without_content_is_named() -> None:
    in_segments, read = runner(parsed(FOUR), graph.LARGE)
    with pytest.raises(InputError, match="tensor 'c' has no content"):
        in_segments.run({"x": np.ones((1, 2), np.float32)}, lambda n: None if n == "c" else read(n))
