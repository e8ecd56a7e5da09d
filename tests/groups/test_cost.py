"""What widths cost, against the rewritten model and by hand."""

import numpy as np
import pytest
from networks import NETWORKS

from onnxprune.groups.analysis import analyze
from onnxprune.settings import Settings
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import rewrite


@pytest.mark.parametrize(
    "network",
    ["chain", "residual_spine", "dense_concat", "inverted_residual", "gpt_with_tied_head", "llama"],
)
def test_cost_model_counts_what_the_rewritten_model_costs(network):
    analysis = analyze(NETWORKS[network]())
    rng = np.random.default_rng(1)
    kept = [rng.random(g.channels) < 0.6 for g in analysis.groups]
    for mask in kept:
        mask[0] = True
    widths = np.array([m.sum() for m in kept])
    smaller = analyze(rewrite(analysis.model, analysis.nodes, plan_of(analysis.groups, kept)))
    expected, got = smaller.cost.full, analysis.cost.at(widths)
    assert got[:2] == pytest.approx(expected[:2], rel=1e-9)
    if len(smaller.model.graph.node) == len(
        analysis.model.graph.node
    ):  # else shapes need more nodes
        assert got[2] == pytest.approx(expected[2], rel=0.01)  # names and dims of the framing
    assert got[3] == sum(widths)


def test_macs_and_parameters_by_hand():
    analysis = analyze(NETWORKS["chain"]())
    macs = 16 * 16 * 9 * (3 * 16 + 16 * 16 + 16 * 8)
    assert (
        analyze(NETWORKS["chain"](), Settings(input_shapes={"x": (1, 3, 16, 16)})).cost.full[0]
        == macs
    )
    assert analysis.cost.full[1] == 9 * (3 * 16 + 16 * 16 + 16 * 8) + 16 + 16 + 8
