"""The whole proof of a cut: all paths, and pieces between roundings where the outputs differ."""

from collections.abc import Iterator

import onnx
import pytest
from cuts import drawn_masks, masks_without
from networks import NETWORKS
from onnx import numpy_helper
from text_models import PERCEPTRON_SHAPES, perceptron, text_model

import onnxprune
from onnxprune import ops
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import subgraphs
from onnxprune.ops.registry import free, same_but
from onnxprune.settings import Settings
from onnxprune.surgery.cut import running
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import Proof, ProofRun, Sides, prove
from onnxprune.surgery.prove_cut import prove_cut, prove_equal, worse
from onnxprune.surgery.rewrite import rewrite
from onnxprune.types import Fact, Node, Plan

GOOD, BETTER = Proof(1e-5, True, "y"), Proof(1e-6, True, "z")
BAD, NAN = Proof(0.5, False, "y"), Proof(float("nan"), False, "y")


def proved(analysis: Analysis, plan: Plan, model: onnx.ModelProto) -> Proof:
    """The proof of a model that a plan is said to have made."""
    smaller = ProofRun(model)
    with running(analysis, Settings(allow_inexact=analysis.inexact)) as original:
        return prove_cut(analysis, plan, original, smaller, smaller.run(original.inputs))


def pruned(analysis: Analysis) -> tuple[Plan, onnx.ModelProto]:
    plan = plan_of(analysis.groups, drawn_masks(analysis))
    return plan, rewrite(analysis.model, analysis.nodes, plan, analysis.read)


@pytest.mark.parametrize("a", [GOOD, BETTER])
@pytest.mark.parametrize("b", [BAD, NAN])
def test_what_fails_is_worse_than_what_passes(a: Proof, b: Proof) -> None:
    assert worse(a, b) is b and worse(b, a) is b


def test_of_two_that_pass_the_larger_error_is_worse_and_of_two_that_fail_the_first() -> None:
    assert worse(GOOD, BETTER) is GOOD and worse(BETTER, GOOD) is GOOD
    assert worse(BAD, NAN) is BAD and worse(NAN, BAD) is NAN


@pytest.mark.parametrize("branch", [0, 1])
def test_a_weight_that_is_wrong_in_one_branch_alone_fails(branch: int) -> None:
    """Whichever branch the inputs take: the other one is proved as well."""
    analysis = analyze(NETWORKS["branches_with_weights"]())
    plan, model = pruned(analysis)
    assert proved(analysis, plan, model).passed
    (node,) = (node for node in model.graph.node if subgraphs.is_control(node))
    body = node.attribute[branch].g
    (weight, *_) = [i for n in body.node for i in n.input if i in analysis.stored]
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), weight))
    assert not proved(analysis, plan, model).passed


def test_a_plan_that_was_not_carried_out_fails() -> None:
    """The proof compares with the plan: the untouched model is not what it says."""
    analysis = analyze(perceptron())
    plan = plan_of(analysis.groups, masks_without(analysis, a=[0]))
    proof = proved(analysis, plan, analysis.model)
    assert not proof.passed and proof.output == "y"


def test_inexact_cuts_are_proved_against_what_is_normalised_over_the_rest() -> None:
    analysis = analyze(NETWORKS["shares_of_channels"](), Settings(allow_inexact=True))
    plan, model = pruned(analysis)
    assert analysis.inexact and proved(analysis, plan, model).passed
    with running(analysis, Settings(allow_inexact=True)) as original:
        outputs = ProofRun(model).run(original.inputs)
        sides = Sides(original.run, ProofRun(model), original.inputs, outputs)
        assert not prove(sides, plan, analysis.nodes, analysis.roles.reads).passed


ROUNDED = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = Gemm <transB = 1> (x, a, b)
    r = Round (h)
    y = Gemm <transB = 1> (r, c, d)
}
"""


@pytest.mark.parametrize("rounds", [True, False])
def test_outputs_a_step_apart_are_proved_in_pieces_where_the_model_rounds(rounds: bool) -> None:
    """Outputs as a sum in another order would give them, that rounded the other way once."""
    model = text_model(ROUNDED, **PERCEPTRON_SHAPES) if rounds else perceptron()
    analysis = analyze(model)
    plan = plan_of(analysis.groups, masks_without(analysis, a=[2]))
    smaller = ProofRun(rewrite(analysis.model, analysis.nodes, plan))
    with running(analysis, Settings()) as original:
        apart = {name: 1.3 * y for name, y in smaller.run(original.inputs).items()}
        proof = prove_cut(analysis, plan, original, smaller, apart)
    assert proof.passed == rounds
    assert proof.reference == "masked original" + " between roundings" * rounds


@pytest.mark.parametrize("rounds", [True, False])
@pytest.mark.parametrize("dead", [True, False])
def test_a_removal_without_loss_may_be_a_step_apart_where_the_model_rounds(
    rounds: bool, dead: bool
) -> None:
    """Pieces must equal those of the original itself, in which nothing is set to zero."""
    model = text_model(ROUNDED, **PERCEPTRON_SHAPES) if rounds else perceptron()
    for tensor in model.graph.initializer if dead else ():
        if tensor.name in "ab":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[2] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    analysis = analyze(model)
    plan = plan_of(analysis.groups, masks_without(analysis, a=[2]))
    smaller = ProofRun(rewrite(analysis.model, analysis.nodes, plan))
    with running(analysis, Settings()) as original:
        apart = {name: 1.3 * y for name, y in smaller.run(original.inputs).items()}
        proof = prove_equal(analysis, plan, original, smaller, apart)
    assert proof.passed == (rounds and dead)
    assert proof.reference == "original" + " between roundings" * rounds


@pytest.mark.parametrize("seed", range(4))
def test_the_branch_that_the_inputs_do_not_take_is_proved(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way the data go: a rule that forgets a branch is found out."""
    model = NETWORKS["branches_with_weights"]()

    def forgetful(node: Node) -> Iterator[Fact]:
        kept, other = (body.outputs[0] for body in node.bodies[:: 1 if seed % 2 else -1])
        yield from same_but((), kept, node.outputs[0])
        yield from free(other)

    def pruned() -> onnxprune.Result:
        return onnxprune.prune(model, {"macs": 0.6}, latency=False, seed=seed)

    assert pruned().report.proof.passed
    monkeypatch.setitem(ops.COUPLINGS, "If", forgetful)
    notes = pruned().report.notes
    assert any("failed the proof and stays whole" in note for note in notes)
