"""Branches that the inputs do not take are taken for the proof, unless the original fails there."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from nested_networks import Inner, positive
from networks import NETWORKS, Net

from onnxprune.groups.analysis import analyze
from onnxprune.surgery.branch_proof import paths
from onnxprune.surgery.proof import Outputs, ProofRun, Sides

X = {"x": np.ones((2, 4), np.float32)}
Branch = Callable[[Inner, str], str]


def branching(then: Branch, other: Branch) -> onnx.ModelProto:
    """Which branch comes depends on the sign of the input's sum."""
    n = Net(x=(2, 4))
    y = n.gemm("x", 4, 6)
    bodies = []
    for branch in (then, other):
        inner = Inner()
        bodies.append(inner.graph(branch(inner, y)))
    z = n.op("If", positive(n, "x"), then_branch=bodies[0], else_branch=bodies[1])
    return n.model(n.gemm(z, 6, 3))


def relu(n: Inner, y: str) -> str:
    return str(n.op("Relu", y))


def tripled(n: Inner, y: str) -> str:
    return str(n.op("Sum", y, y, y))


def logarithm(n: Inner, y: str) -> str:
    """NaN whatever the model is fed."""
    return str(n.op("Log", n.op("Neg", n.op("Exp", y))))


def reshaped(n: Inner, y: str) -> str:
    """Fits only what does not come: sizes that are computed from the data."""
    count = n.op("Cast", n.op("ReduceMax", n.op("Exp", y), keepdims=0), to=onnx.TensorProto.INT64)
    seven = n.op("Add", n.op("Mul", count, n.const(np.array(0))), n.const(np.array(7)))
    return str(n.op("Expand", y, n.op("Concat", n.const(np.array([2])),
               n.op("Reshape", seven, n.const(np.array([1]))), axis=0)))  # fmt: skip


def sent(model: onnx.ModelProto, feeds: Outputs = X) -> list[tuple[Sides, Outputs]]:
    """The model against itself on every path."""
    analysis = analyze(model)
    run = ProofRun(analysis.model)
    return list(paths(analysis.nodes, run, run, feeds))


def test_both_branches_are_taken_whatever_the_data_say() -> None:
    model = branching(relu, tripled)
    (_, first), (_, second) = sent(model)
    (plain,) = ProofRun(analyze(model).model).run(X).values()
    (y,), (z,) = first.values(), second.values()
    assert np.array_equal(y, plain) and not np.allclose(z, plain)
    (_, first), (_, second) = sent(model, {"x": -X["x"]})
    (plain,) = ProofRun(analyze(model).model).run({"x": -X["x"]}).values()
    assert not np.allclose(next(iter(first.values())), plain)
    assert np.array_equal(next(iter(second.values())), plain)


def test_the_pruned_model_goes_the_same_way() -> None:
    for sides, before in sent(branching(relu, tripled)):
        assert all(np.array_equal(before[name], sides.outputs[name]) for name in before)
        assert sides.inputs is X


def test_a_model_without_branches_has_no_other_path() -> None:
    assert sent(NETWORKS["chain"](), {"x": np.ones((1, 3, 16, 16), np.float32)}) == []


@pytest.mark.parametrize("bad", [logarithm, reshaped])
def test_a_path_on_which_the_original_itself_fails_is_left_out(bad: Branch) -> None:
    (_, only), (_, second) = sent(branching(relu, relu))
    assert only.keys() == second.keys()
    for model in (branching(relu, bad), branching(bad, relu)):
        ((_, left),) = sent(model)
        (a,), (b,) = left.values(), only.values()
        assert np.array_equal(a, b)


def test_where_only_the_pruned_model_fails_it_has_no_outputs() -> None:
    analysis = analyze(branching(relu, relu))
    broken = analyze(branching(relu, reshaped))
    found = list(paths(analysis.nodes, ProofRun(analysis.model), ProofRun(broken.model), X))
    assert [bool(sides.outputs) for sides, _ in found] == [True, False]
    assert all(before for _, before in found)


def test_branches_in_branches_are_sent_both_ways_too() -> None:
    x = {"x": np.ones((1, 3, 16, 16), np.float32)}
    assert len(sent(NETWORKS["branches_with_weights"](), x)) == 2
    assert len(sent(NETWORKS["branches_in_branches"](), x)) == 4
