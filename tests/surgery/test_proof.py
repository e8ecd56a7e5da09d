"""Both models run and their outputs are compared: what passes, what fails, what is masked."""

from typing import Any

import numpy as np
import pytest
from cuts import cut_to, drawn_masks, masks_without
from networks import NETWORKS, Net
from numpy.typing import NDArray
from text_models import perceptron, text_model

from onnxprune import ops
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.head_units import reordered
from onnxprune.settings import Settings
from onnxprune.surgery.cut import running
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import ProofRun, Sides, compare, detours_of, masks_of, prove
from onnxprune.surgery.rewrite import masked, rewrite
from onnxprune.types import Axis


def array(*values: float, kind: str = "float32") -> NDArray[Any]:
    return np.array(values, kind)


COMPARED = [
    ("float32", 1e-5, True), ("float32", 1e-3, False), ("float64", 1e-7, True),
    ("float64", 1e-5, False), ("float16", 2e-3, True), ("float16", 2e-2, False),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "gap", "passed"), COMPARED)
def test_how_far_outputs_may_be_apart_depends_on_their_type(
    kind: str, gap: float, passed: bool
) -> None:
    """The largest difference counts in shares of the largest value."""
    a, b = array(-4, 1, 2, kind=kind), array(-4, 1, 2 + 4 * gap, kind=kind)
    proof = compare({"y": a}, {"y": b})
    assert proof.passed == passed and proof.output == "y"
    assert proof.max_relative_error == pytest.approx(gap, rel=0.5)
    assert proof.reference == "masked original"


def test_integers_and_flags_must_be_equal() -> None:
    assert compare({"k": np.array([1, 2])}, {"k": np.array([1, 2])}).passed
    assert not compare({"k": np.array([100000, 2])}, {"k": np.array([100001, 2])}).passed
    assert compare({"f": np.array([True])}, {"f": np.array([True])}).passed
    assert compare({"f": np.array([True])}, {"f": np.array([False])}).max_relative_error == np.inf


def test_the_worst_output_is_named() -> None:
    a = {"fine": array(1), "worse": array(1), "last": array(1)}
    b = {"fine": array(1), "worse": array(1 + 5e-6), "last": array(1)}
    proof = compare(a, b)
    assert proof.passed and proof.output == "worse" and proof.max_relative_error > 0
    proof = compare(a, {**b, "fine": array(2)})
    assert not proof.passed and proof.output == "fine" and proof.max_relative_error == 1


@pytest.mark.parametrize("other", [{}, {"y": array(1)}, {"z": array(1, 2)}])
def test_a_missing_output_or_another_shape_fails(other: dict[str, NDArray[Any]]) -> None:
    proof = compare({"y": array(1, 2)}, other)
    assert not proof.passed and (proof.output, proof.max_relative_error) == ("y", np.inf)


def test_nan_never_passes_and_infinity_only_where_both_have_it() -> None:
    nan, inf = array(1, np.nan), array(1, np.inf)
    for pair in ((nan, nan), (array(1, 2), nan), (nan, array(1, 2)), (inf, array(1, 2))):
        proof = compare({"y": pair[0]}, {"y": pair[1]})
        assert not proof.passed and np.isnan(proof.max_relative_error)
    assert compare({"y": inf}, {"y": inf.copy()}).passed


def test_numbers_beside_infinities_are_compared_as_all_others() -> None:
    """What a mask leaves out hides no difference, and makes none."""
    masked = array(1, -np.inf, 2)
    near = compare({"y": masked}, {"y": array(1 + 1e-6, -np.inf, 2)})
    assert near.passed and 0 < near.max_relative_error < 1e-6
    for other in (array(1.1, -np.inf, 2), array(1, np.inf, 2), array(1, 2, -np.inf)):
        assert not compare({"y": masked}, {"y": other}).passed


SUMMED = """
net (float[2, 3] x) => (float[2, 2] y, float[2, 2] z) {
    h = MatMul (x, a)
    t = Transpose (h)
    z = MatMul (h, t)
    y = MatMul (h, c)
}
"""


def summed() -> Analysis:
    """z = h hᵀ sums over the channels of h without a weight that could be zeroed."""
    return analyze(text_model(SUMMED, a=(3, 4), c=(4, 2)))


def test_sums_of_activations_are_masked_at_the_axes_that_can_be_cut() -> None:
    masks = masks_of(summed().nodes, {Axis("h", 1), Axis("t", 0)})
    assert {(m.node, m.input, str(m.axis), m.rank, m.size) for m in masks} >= {
        ("z", 0, "h[1]", 2, 4),
        ("z", 1, "t[0]", 2, 4),
    }
    assert masks_of(summed().nodes, set()) == []
    assert {m.feed for m in masks} == {"alive/h/1", "alive/t/0"}


def test_without_its_mask_a_sum_of_activations_would_fail() -> None:
    """A bias makes the dead channel speak: zeroed weights alone do not silence it."""
    n = Net(x=(2, 3))
    h = n.relu(n.gemm("x", 3, 4))
    z = n.op("MatMul", n.op("Exp", h), n.op("Transpose", n.op("Exp", h)))
    analysis = analyze(n.model(z))
    assert cut_to(analysis, masks_without(analysis, c0=[1, 2])).proof.passed
    plan = plan_of(analysis.groups, masks_without(analysis, c0=[1, 2]))
    read = masked(analysis.read, analysis.nodes, plan)
    x = {"x": np.ones((2, 3), np.float32)}
    axes = {axis for group in analysis.groups for axis, _ in group.axes()}
    tensors = {axis.tensor for axis in axes}
    bare = ProofRun(analysis.model, analysis.read, tensors)
    full = ProofRun(analysis.model, analysis.read, tensors, masks_of(analysis.nodes, axes))
    smaller = ProofRun(rewrite(analysis.model, analysis.nodes, plan)).run(x)
    assert compare(full.run(x, read, plan), smaller).passed
    assert not compare(bare.run(x, read, plan), smaller).passed


def test_heads_that_keep_columns_of_their_own_are_not_masked_by_number() -> None:
    """Column 0 of `q · kᵀ` stands for another column in each head."""
    analysis = analyze(NETWORKS["window_attention"]())
    rng = np.random.default_rng(0)
    orders = [
        rng.permuted(np.repeat(np.arange(g.channels)[:, None], g.heads, 1), axis=0)
        for g in analysis.groups
    ]
    mixed = analysis.with_groups(map(reordered, analysis.groups, orders))
    plan = plan_of(mixed.groups, drawn_masks(mixed))
    masks = masks_of(mixed.nodes, plan.keep.keys())
    assert any(mask.axis in plan.nominal for mask in masks)
    assert cut_to(mixed, drawn_masks(mixed)).proof.passed


@pytest.mark.parametrize("axes", [[0, 1], [1], [0]])
def test_sums_over_heads_and_columns_see_zeros_of_each_head(axes: list[int]) -> None:
    """Sigmoid makes 0.5 of what is zero; columns 2 of head 0 and 0 of head 1 go."""
    n = Net(x=(1, 5))
    y = n.op("Sigmoid", n.op("MatMul", "x", n.weight(5, 6)))
    y = n.op("Reshape", y, n.const(np.array([2, 3])))
    z = n.op("ReduceSum", y, n.const(np.array(axes)), keepdims=1)
    z = n.op("MatMul", n.op("Reshape", z, n.const(np.array([-1, 1]))), n.weight(1, 2))
    analysis = analyze(n.model(n.op("ReduceMax", z, keepdims=0)))
    orders = [np.array([[0, 2], [1, 1], [2, 0]]) if g.heads == 2 else None for g in analysis.groups]
    mixed = analysis.with_groups(
        g if order is None else reordered(g, order)
        for g, order in zip(analysis.groups, orders, strict=True)
    )
    kept = [np.arange(g.channels) < max(g.channels - 1, 1) for g in mixed.groups]
    assert mixed.groups and cut_to(mixed, kept).proof.passed


def test_a_run_takes_other_weights_and_masks_what_a_plan_removes() -> None:
    analysis = analyze(perceptron())
    run, x = ProofRun(analysis.model, analysis.read, {"a"}), {"x": np.ones((2, 3), np.float32)}
    stored = {name: analysis.read(name) for name in analysis.stored}
    plain, again = run.run(x)["y"], run.run(x, stored.get)["y"]
    assert np.array_equal(plain, again)
    zeros = run.run(x, {**stored, "a": np.zeros((4, 3), np.float32)}.get)["y"]
    assert not np.allclose(zeros, plain)


NORMALISED = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = MatMul (x, a)
    n = Softmax (h)
    y = MatMul (n, c)
}
"""


def test_an_operator_runs_on_what_is_left_where_it_is_cut_inexactly() -> None:
    """The normalisation reads channels 0, 2 and 3; the dead one borrows the first result."""
    settings = Settings(allow_inexact=True)
    analysis = analyze(text_model(NORMALISED, a=(3, 4), c=(4, 2)), settings)
    kept = masks_without(analysis, a=[1])
    plan = plan_of(analysis.groups, kept)
    (detour,) = detours_of(analysis.nodes, plan, ops.COUPLINGS)
    assert detour.node == "n"
    assert [(k, axis, at.tolist()) for k, axis, at in detour.cut] == [(0, 1, [0, 2, 3])]
    assert [(k, axis, at.tolist()) for k, axis, at in detour.back] == [(0, 1, [0, 0, 1, 2])]
    assert cut_to(analysis, kept, settings).proof.passed
    whole = plan_of(analysis.groups, masks_without(analysis))
    assert detours_of(analysis.nodes, whole, ops.COUPLINGS) == []


def test_where_zeros_turn_into_nan_only_the_readers_are_zeroed() -> None:
    """`unit_length` divides a dead channel by its length, which is zero as well."""
    analysis = analyze(NETWORKS["unit_length"]())
    kept = drawn_masks(analysis)
    plan = plan_of(analysis.groups, kept)
    smaller = ProofRun(rewrite(analysis.model, analysis.nodes, plan))
    with running(analysis, Settings()) as original:
        sides = Sides(original.run, smaller, original.inputs, smaller.run(original.inputs))
        reads = analysis.roles.reads
        zeroed = original.run.run(
            original.inputs, masked(analysis.read, analysis.nodes, plan), plan
        )
    assert np.isnan(compare(zeroed, sides.outputs).max_relative_error)
    assert prove(sides, plan, analysis.nodes, reads).passed


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_a_pruned_model_with_one_wrong_weight_fails(name: str) -> None:
    analysis = analyze(perceptron())
    plan = plan_of(analysis.groups, masks_without(analysis, a=[1]))
    smaller = ProofRun(rewrite(analysis.model, analysis.nodes, plan), fed=analysis.stored)
    weights = {stored: smaller.read(stored) for stored in analysis.stored}
    wrong = {**weights, name: 1.01 * np.asarray(weights[name])}
    with running(analysis, Settings()) as original:
        for read, passed in ((weights.get, True), (wrong.get, False)):
            outputs = smaller.run(original.inputs, read)
            sides = Sides(original.run, smaller, original.inputs, outputs)
            assert prove(sides, plan, analysis.nodes, analysis.roles.reads).passed == passed
