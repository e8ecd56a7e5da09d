"""What widths cost, against the rewritten model and by hand."""

import numpy as np
import pytest
from networks import NETWORKS
from text_models import perceptron, two_heads

from onnxprune.groups.analysis import analyze
from onnxprune.groups.cost import Stored, cost_model
from onnxprune.settings import Settings
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import rewrite

MACS, PARAMS, SIZE, RATIO = range(4)


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


def test_every_width_of_one_group_by_hand() -> None:
    """3 → w → 2: products, weights, biases and four bytes of each."""
    cost = analyze(perceptron()).cost
    for width in range(5):
        got = cost.at(np.array([width]))
        assert got[MACS] == 3 * width + width * 2
        assert got[PARAMS] == 3 * width + width + width * 2 + 2
        assert cost.full[SIZE] - got[SIZE] == 4 * (cost.full[PARAMS] - got[PARAMS])
        assert got[RATIO] == width


def test_where_groups_cross_an_axis_keeps_the_product_of_both() -> None:
    """Of three columns two stay and of two heads one: 4 → 2 → 5 is left of 4 → 6 → 5."""
    cost = analyze(two_heads()).cost
    assert cost.channels.tolist() == [3, 2]
    assert cost.full[MACS] == 4 * 6 + 6 * 5 and cost.full[PARAMS] == 4 * 6 + 6 * 5 + 2
    got = cost.at(np.array([2, 1]))
    assert got.round(9)[[MACS, PARAMS]].tolist() == [4 * 2 + 2 * 5, 4 * 2 + 2 * 5 + 1]
    assert got[RATIO] == 2 + 1


def test_full_widths_cost_what_the_model_costs() -> None:
    for name in ("llama", "squeeze_and_excite", "two_inputs"):
        cost = analyze(NETWORKS[name]()).cost
        np.testing.assert_allclose(cost.at(cost.channels), cost.full, rtol=1e-12)


def test_shapes_are_no_parameters_and_a_bias_of_integers_is_one() -> None:
    stored = {
        "weight": Stored((4, 3), 48, True),
        "shape": Stored((2,), 16, False),
        "bias": Stored((4,), 16, True),
    }
    cost = cost_model((), stored, 100, ())
    assert cost.full.tolist() == [0, 4 * 3 + 4, 100, 0]
    assert cost.at(np.array([], np.int64)).tolist() == cost.full.tolist()


def test_macs_of_bodies_count_once() -> None:
    """Those of all branches, and those of one round of a loop."""
    macs = analyze(NETWORKS["branches_with_weights"]()).cost.full[MACS]
    convolutions = 3 * 8 * 9, 8 * 12 * 9, 12 * 6 * 9, 6 * 10 * 9, 12 * 10, 10 * 4 * 9
    assert macs == 16 * 16 * sum(convolutions)
    macs = analyze(NETWORKS["loop_with_a_hidden_state"]()).cost.full[MACS]
    assert macs == 5 * 12 + 12 * 12 + 12 * 6 + 6 * 3 + 12 * 3


def test_every_term_that_a_group_enters_is_known() -> None:
    """What the allocator counts anew when one width changes: all of the difference."""
    cost = analyze(NETWORKS["inverted_residual"]()).cost
    for g, (axes, positions, terms) in enumerate(cost.touched):
        widths = cost.channels.copy()
        widths[g] -= 1
        sizes = cost.sizes.copy()
        sizes[axes] -= positions
        np.testing.assert_allclose(cost.axis_sizes(widths), sizes)
        share = np.append(sizes / cost.sizes, 1.0)[cost.factors].prod(1)
        assert (share[np.setdiff1d(np.arange(len(share)), terms)] == 1).all()
        np.testing.assert_allclose((share - 1)[terms] @ cost.amounts[terms],
                                   cost.at(widths) - cost.full)  # fmt: skip
