"""A plan makes a smaller model, and a reference of the old size with zeros: slice by slice."""

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from cuts import drawn_masks, masks_without
from networks import NETWORKS
from numpy.typing import NDArray
from text_models import perceptron, stored_array, text_model

from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import masked, masked_weights, rewrite, with_zeros
from onnxprune.types import Axis, Plan


def plan_without(analysis: Analysis, **gone: Sequence[int]) -> Plan:
    return plan_of(analysis.groups, masks_without(analysis, **gone))


def test_weights_are_sliced_along_every_axis_of_the_plan() -> None:
    analysis = analyze(perceptron())
    model = rewrite(analysis.model, analysis.nodes, plan_without(analysis, a=[1, 2]))
    for name, axis in {"a": 0, "b": 0, "c": 1}.items():
        expected = np.take(stored_array(analysis.model, name), [0, 3], axis)
        assert np.array_equal(stored_array(model, name), expected)
    assert np.array_equal(stored_array(model, "d"), stored_array(analysis.model, "d"))
    sizes = {v.name: v.type.tensor_type.shape.dim[1].dim_value for v in model.graph.value_info}
    assert sizes == {"h": 2, "r": 2}


def test_without_a_cut_the_model_stays_as_it_is() -> None:
    for name in ("residual_spine", "split_and_concat"):
        analysis = analyze(NETWORKS[name]())
        same = rewrite(analysis.model, analysis.nodes, plan_without(analysis))
        assert graph.model_bytes(same) == graph.model_bytes(analysis.model)


def test_attributes_and_shape_inputs_follow() -> None:
    """Split sizes, a reshape's entries and the number of a convolution's groups hold widths."""
    text = """
    net (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] y) {
        h = Conv (x, a)
        d = Conv <group = 6, pads = [1, 1, 1, 1]> (h, w)
        f = Reshape (d, flat)
        e = Relu (f)
        g = Reshape (e, image)
        y = Conv (g, c)
    }
    """
    flat, image = np.array([1, 6, 16]), np.array([1, 6, 4, 4])
    stored = {"a": (6, 3, 1, 1), "w": (6, 1, 3, 3), "c": (2, 6, 1, 1)}
    analysis = analyze(text_model(text, flat=flat, image=image, **stored))
    model = rewrite(analysis.model, analysis.nodes, plan_without(analysis, a=[0, 5]))
    assert stored_array(model, "flat").tolist() == [1, 4, 16]
    assert stored_array(model, "image").tolist() == [1, 4, 4, 4]
    (depthwise,) = (node for node in model.graph.node if "w" in node.input)
    assert {a.name: a.i for a in depthwise.attribute}["group"] == 4
    onnx.checker.check_model(model, full_check=True)


def test_positions_that_a_plan_adds_are_zeros_and_ones_in_what_divides() -> None:
    text = """
    net (float[1, 3, 2, 2] x) => (float[1, 2, 2, 2] y) {
        h = Conv (x, a)
        n = BatchNormalization (h, scale, shift, mean, var)
        y = Conv (n, c)
    }
    """
    four = dict.fromkeys(("scale", "shift", "mean", "var"), (4,))
    analysis = analyze(text_model(text, a=(4, 3, 1, 1), c=(2, 4, 1, 1), **four))
    (group,) = analysis.groups
    plan = Plan(
        {axis: np.arange(6) for axis, _ in group.axes()}, {axis: 4 for axis, _ in group.axes()}
    )
    model = rewrite(analysis.model, analysis.nodes, plan)
    assert not stored_array(model, "a")[4:].any() and not stored_array(model, "c")[:, 4:].any()
    var = stored_array(model, "var")
    assert (var[4:] == var[3]).all() and not stored_array(model, "scale")[4:].any()


def test_the_reference_has_zeros_but_in_what_divides() -> None:
    text = """
    net (float[N, 3] x) => (float[N, 2] y) {
        h = MatMul (x, a)
        q = Div (h, divisor)
        y = MatMul (q, c)
    }
    """
    analysis = analyze(text_model(text, a=(3, 4), c=(4, 2), divisor=(4,)))
    plan = plan_without(analysis, a=[2])
    zeroed = masked_weights(analysis.read, analysis.nodes, plan)
    assert zeroed.keys() == {"a", "c", "divisor"}
    kept = [0, 1, 3]
    assert not zeroed["a"][:, 2].any() and not zeroed["c"][2].any()
    assert np.array_equal(zeroed["a"][:, kept], stored_array(analysis.model, "a")[:, kept])
    assert np.array_equal(zeroed["divisor"], stored_array(analysis.model, "divisor"))


def test_only_the_axes_that_are_asked_for_are_zeroed() -> None:
    analysis = analyze(perceptron())
    read = masked(analysis.read, analysis.nodes, plan_without(analysis, a=[2]), {Axis("c", 1)})
    for name, dead in {"a": False, "b": False, "c": True, "d": False}.items():
        values = read(name)
        assert values is not None
        assert np.array_equal(values, stored_array(analysis.model, name)) != dead
    assert read("nothing") is None


def test_zero_is_the_zero_point_of_a_quantised_weight() -> None:
    text = """
    net (float[N, 3] x) => (float[N, 2] y) {
        w = DequantizeLinear <axis = 1> (q, step, zero)
        h = MatMul (x, w)
        y = MatMul (h, c)
    }
    """
    q, zero = np.full((3, 4), 9, np.uint8), np.array([3, 4, 5, 6], np.uint8)
    analysis = analyze(text_model(text, q=q, step=(4,), zero=zero, c=(4, 2)))
    (group,) = analysis.groups
    plan = plan_of([group], [np.array([True, False, True, False])])
    zeroed = masked_weights(analysis.read, analysis.nodes, plan)
    assert zeroed["q"].tolist() == [[9, 4, 9, 6]] * 3
    assert zeroed["zero"].tolist() == zero.tolist()


@pytest.mark.parametrize(
    ("zero", "expected"), [(None, [0, 2, 0]), (np.array(7.0), [7, 2, 7])]
)  # fmt: skip
def test_zeros_go_into_the_array_itself_if_it_can_be_written_to(
    zero: NDArray[np.float64] | None, expected: list[float]
) -> None:
    values = np.array([1.0, 2.0, 3.0])
    frozen = values.copy()
    frozen.flags.writeable = False
    assert with_zeros(values, zero, {0: np.array([1])}) is values
    assert values.tolist() == expected
    copy = with_zeros(frozen, zero, {0: np.array([1])})
    assert copy.tolist() == expected and frozen.tolist() == [1, 2, 3]


def test_a_position_that_is_gone_on_any_axis_is_zero() -> None:
    keep = {0: np.array([0]), 1: np.array([0, 2])}
    assert with_zeros(np.ones((2, 3)), None, keep).tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"captured_by_branches"}))
def test_declared_shapes_are_true(name: str) -> None:
    """Strict inference passes, and every declared size is what really comes out."""
    analysis = analyze(NETWORKS[name]())
    plan = plan_of(analysis.groups, drawn_masks(analysis))
    result = rewrite(analysis.model, analysis.nodes, plan, analysis.read)
    onnx.shape_inference.infer_shapes(result, strict_mode=True, check_type=True, data_prop=True)
    fresh = onnx.ModelProto()
    fresh.CopyFrom(result)
    del fresh.graph.value_info[:]
    fresh = onnx.shape_inference.infer_shapes(fresh, data_prop=True)
    inferred = {v.name: v.type for v in fresh.graph.value_info}
    stored = {tensor.name for tensor in result.graph.initializer}  # sizes that were computed
    for value in (v for v in result.graph.value_info if v.name not in stored):
        want = [d.dim_value for d in inferred[value.name].tensor_type.shape.dim]
        got = [d.dim_value for d in value.type.tensor_type.shape.dim]
        assert all(a == b for a, b in zip(want, got, strict=True) if a and b), value.name
