"""What a proof runs: skeletons that read zeros, work on kept positions, show and take tensors."""

import numpy as np
import onnx
import pytest
from nested_networks import Inner, positive
from networks import Net
from numpy.typing import NDArray
from onnx_text import parsed, run

from onnxprune.ir import instrument
from onnxprune.types import Axis, Detour, Mask

X = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)


def test_a_mask_zeroes_what_one_node_reads_of_an_axis() -> None:
    """The sum sees zeros at the dead positions, the other reader sees the tensor as it is."""
    model = parsed("""
        g (float[N,4,3] x) => (float[N,1,1] y, float[N,4,3] z) {
            axes = Constant<value = int64[2] {1, 2}>()
            a = Abs(x)
            y = ReduceSum<keepdims = 1>(a, axes)
            z = Neg(a)
        }""")
    mask = Mask("y", 0, Axis("a", 1), rank=3, size=4)
    new = instrument.masked(model, [mask])
    alive = np.array([True, False, True, True])
    found = run(new, x=X, **{mask.feed: alive[:, None]})
    expected = np.abs(X)[:, alive].sum((1, 2), keepdims=True)
    np.testing.assert_allclose(found["y"], expected, rtol=1e-5)  # float32 sums
    assert np.array_equal(found["z"], -np.abs(X))


def test_masks_of_one_axis_share_their_input_even_in_bodies() -> None:
    n = Net(x=("N", 6), q=("N",))
    y = n.relu("x")
    then, other = Inner(), Inner()
    other.prefix = "other_"
    first, second = then.op("Identity", y), other.op("Abs", y)
    z = n.op("If", positive(n, "q"), then_branch=then.graph(first), else_branch=other.graph(second))
    model = n.model(z, n.op("Neg", y))
    axis = Axis(y, 1)
    masks = [Mask(node, 0, axis, rank=2, size=6) for node in (first, second)]
    new = instrument.masked(model, masks)
    assert [i.name for i in new.graph.input] == ["x", "q", masks[0].feed]
    x, alive = np.ones((2, 6), np.float32), np.arange(6) > 2
    for sign in (1, -1):
        q = np.full(2, sign, np.float32)
        found = run(new, x=x, q=q, **{masks[0].feed: alive})
        assert (
            found[z].tolist() == [alive.tolist()] * 2
            and (found[model.graph.output[1].name] == -1).all()
        )


def softmax_over(x: NDArray[np.float32], kept: NDArray[np.int64]) -> NDArray[np.float32]:
    small = np.exp(x[:, kept])
    found: NDArray[np.float32] = small / small.sum(1, keepdims=True)
    return found


def test_a_detour_runs_a_node_on_the_kept_positions_only() -> None:
    model = parsed("g (float[N,4,3] x) => (float[N,4,3] y) { y = Softmax<axis = 1>(x) }")
    kept, place = np.array([0, 2]), np.array([0, 0, 1, 1])
    detour = Detour("y", cut=((0, 1, kept),), back=((0, 1, place),), attrs={})
    found = run(instrument.detoured(model, [detour]), x=X)["y"]
    np.testing.assert_allclose(found, softmax_over(X, kept)[:, place], rtol=1e-5)


def test_shown_tensors_are_outputs_once_and_the_skeleton_stays() -> None:
    model = parsed("g (float[2] x) => (float[2] y) { a = Neg(x) y = Abs(a) }")
    new = instrument.shown(model, ["a", "y"])
    assert [output.name for output in new.graph.output] == ["y", "a"]
    assert [output.name for output in model.graph.output] == ["y"]


def test_readers_of_a_kind_take_their_tensors_from_inputs() -> None:
    """Others read what was computed, which is shown."""
    model = parsed(
        "g (float[2] x) => (float[2] y, float[2] z) { a = Neg(x) y = Abs(a) z = Exp(a) }"
    )
    new = instrument.handed_over(model, {"a": np.dtype(np.float32)}, {"Abs"})
    x, a = np.array([1, 2], np.float32), np.array([-5, 6], np.float32)
    found = run(new, x=x, **{instrument.given("a"): a})
    assert found["y"].tolist() == [5, 6] and found["a"].tolist() == [-1, -2]
    np.testing.assert_allclose(found["z"], np.exp(-x), rtol=1e-6)
    assert not any(node.input[0].startswith("given") for node in model.graph.node)


#: Says which branches were taken: 100 or 200 outside, plus 10 or 20 inside.
WAYS = """
    g (bool q, bool r) => (float y)
    <float a = {100}, float b = {200}, float c = {10}, float d = {20}> {
        y = If (q) <
            then_branch = t () => (float u) {
                w = If (q) <
                    then_branch = tt () => (float m) { m = Identity(c) },
                    else_branch = te () => (float n) { n = Identity(d) }
                >
                u = Add(a, w)
            },
            else_branch = e () => (float v) { v = Identity(b) }
        >
    }"""


def ways_taken(*ways: bool, given: bool) -> float:
    model: onnx.ModelProto = instrument.decided(parsed(WAYS), {"q"}, ways)
    return float(run(model, q=np.array(given), r=np.array(given))["y"])


def test_branches_are_taken_by_depth_whatever_the_data_say() -> None:
    for given in (True, False):
        assert ways_taken(True, given=given) == 110
        assert ways_taken(True, False, given=given) == 120
        assert ways_taken(False, True, given=given) == 200


def test_other_conditions_are_left_to_the_data() -> None:
    model = instrument.decided(parsed(WAYS), {"r"}, [True])
    assert [float(run(model, q=np.array(q), r=np.array(q))["y"]) for q in (True, False)] == [
        110,
        200,
    ]


def test_only_ways_that_are_taken_are_stored() -> None:
    """Before IR version 4 onnxruntime refuses stored tensors that no operator reads."""
    model = instrument.decided(parsed(WAYS), {"q"}, [True])
    assert {t.name for t in model.graph.initializer} == {"a", "b", "c", "d", "always/True"}


@pytest.mark.parametrize("opset", [17, 18])
def test_a_centred_mask_puts_the_mean_of_others_at_dead_positions(opset: int) -> None:
    n = Net(opset=opset, x=("N", 4, 3))
    model = n.model(n.op("Neg", n.op("Abs", "x")))
    neg = model.graph.output[0].name
    mask = Mask(neg, 0, Axis(model.graph.node[0].output[0], 1), rank=3, size=4, centred=True)
    new = instrument.masked(model, [mask])
    alive = np.array([True, False, True, True])
    found = -run(new, x=X, **{mask.feed: alive[None, :, None]})[neg]
    assert np.array_equal(found[:, alive], np.abs(X)[:, alive])
    mean = np.abs(X)[:, alive].mean(1)
    np.testing.assert_allclose(found[:, 1], mean, rtol=1e-6)  # float32 sums
