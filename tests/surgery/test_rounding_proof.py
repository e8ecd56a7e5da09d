"""Proof between one rounding and the next, where sums in another order round to other steps."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from cuts import drawn_masks, masks_without
from networks import NETWORKS, Net
from onnx import numpy_helper
from quantised_models import NETS, static
from text_models import PERCEPTRON_SHAPES, text_model, two_heads

from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.settings import Settings
from onnxprune.surgery.cut import running
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import Proof, ProofRun, Sides
from onnxprune.surgery.rewrite import rewrite
from onnxprune.surgery.rounding_proof import prove_between
from onnxprune.types import Plan


def between(analysis: Analysis, plan: Plan, pruned: onnx.ModelProto | None = None) -> Proof | None:
    """The proof of a plan, of the model that it makes or of another one."""
    made = rewrite(analysis.model, analysis.nodes, plan, analysis.read)
    with running(analysis, Settings()) as original:
        sides = Sides(original.run, ProofRun(pruned or made), original.inputs, {})
        return prove_between(analysis, plan, sides)


def spoilt(model: onnx.ModelProto, share: float) -> Proof | None:
    """The proof for a random plan, with one kept bias off by `share` of the largest."""
    analysis = analyze(model)
    plan = plan_of(analysis.groups, drawn_masks(analysis))
    pruned = rewrite(analysis.model, analysis.nodes, plan, analysis.read)
    bias = next(t for t in pruned.graph.initializer if t.data_type == onnx.TensorProto.INT32)
    values = numpy_helper.to_array(bias).copy()
    values[0] += round(share * np.abs(values).max())
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    return between(analysis, plan, pruned)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", ["residual_spine", "dense_concat"])
def test_proof_between_roundings(name: str, per_channel: bool, tmp_path: Path) -> None:
    """Exact pieces pass; a bias that is one percent off fails, however the rest rounds it away."""
    model = static(NETS[name](), tmp_path, per_channel=per_channel)
    good, bad = spoilt(model, 0.0), spoilt(model, 0.01)
    assert good is not None and good.passed and good.max_relative_error < 1e-6
    assert good.reference == "masked original between roundings"
    assert bad is not None and not bad.passed


def rounds_in_a_branch() -> onnx.ModelProto:
    """A body that rounds what it computes itself."""
    n = Net(x=(1, 3, 8, 8), flag=(1,))
    y = n.conv(n.relu(n.conv("x", 3, 8)), 8, 8)

    def branch(name: str) -> onnx.GraphProto:
        nodes = [
            onnx.helper.make_node("Add", [y, y], [f"{name}_twice"]),
            onnx.helper.make_node("Round", [f"{name}_twice"], [name]),
        ]
        output = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return onnx.helper.make_graph(nodes, name, [], [output])

    asked = n.op("Squeeze", n.op("Cast", "flag", to=onnx.TensorProto.BOOL))
    z = n.op("If", asked, then_branch=branch("t"), else_branch=branch("e"))
    return n.model(n.conv(n.op("Round", n.relu(z)), 8, 4))


ALL = NETWORKS | {"rounds_in_a_branch": rounds_in_a_branch}


@pytest.mark.parametrize("name", ALL)
def test_every_network_that_rounds_can_be_proved_in_pieces(name: str) -> None:
    """Casts and comparisons too, also where bodies of If, Loop and Scan hold them."""
    analysis = analyze(ALL[name]())
    proof = between(analysis, plan_of(analysis.groups, drawn_masks(analysis)))
    assert proof is None or proof.passed


def test_a_model_that_never_rounds_has_no_such_proof() -> None:
    analysis = analyze(NETWORKS["chain"]())
    assert between(analysis, plan_of(analysis.groups, drawn_masks(analysis))) is None


ROUNDED = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = Gemm <transB = 1> (x, a, b)
    r = Round (h)
    y = Gemm <transB = 1> (r, c, d)
}
"""


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_a_weight_that_is_a_little_off_is_noticed_before_and_after_the_rounding(name: str) -> None:
    """It fails at the values that are about to be rounded, or behind them at the output."""
    analysis = analyze(text_model(ROUNDED, **PERCEPTRON_SHAPES))
    plan = plan_of(analysis.groups, masks_without(analysis, a=[1]))
    made = rewrite(analysis.model, analysis.nodes, plan)
    good, (tensor,) = between(analysis, plan), [t for t in made.graph.initializer if t.name == name]
    assert good is not None and good.passed and good.max_relative_error < 1e-6
    values = numpy_helper.to_array(tensor) * np.float32(1.01)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    bad = between(analysis, plan, made)
    assert bad is not None and not bad.passed and bad.output == ("h" if name in "ab" else "y")


def test_what_heads_choose_for_themselves_cannot_be_compared() -> None:
    """Column 0 of `s` stands for another column in every head."""
    model = two_heads()
    (scale,) = (node for node in model.graph.node if node.op_type == "Mul")
    scale.op_type, scale.input[1] = "Round", ""
    del scale.input[1:]
    analysis = analyze(model)
    (width, _) = analysis.groups
    assert width.heads == 2
    assert between(analysis, plan_of(analysis.groups, masks_without(analysis, a=[1]))) is None
    whole = between(analysis, plan_of(analysis.groups, masks_without(analysis, **{"a#2": [1]})))
    assert whole is not None and whole.passed
