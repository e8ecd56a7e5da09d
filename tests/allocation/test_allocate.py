"""The allocator on costs small enough to count by hand, and on real groups."""

import numpy as np
import onnx
import pytest
from networks import NETWORKS

from onnxprune.allocation.allocate import allocate, uniform
from onnxprune.allocation.offers import Limits, offers
from onnxprune.allocation.state import AllocationState, Table
from onnxprune.allocation.targets import budgets, parse_ratio, parse_shape, parse_target
from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.groups.cost import METRICS
from onnxprune.importance.criteria import errors_of, scores_of
from onnxprune.importance.group_weights import weights_of
from onnxprune.surgery.plan import kept_channels


def tables_of(analysis, name="l2", limits=Limits()):  # noqa: B008
    scores = scores_of(name, weights_of(analysis, 0))
    rows = zip(scores, analysis.groups, strict=True)
    return [Table(errors_of(name, s), offers(g, limits)) for s, g in rows]


@pytest.mark.parametrize("choose", [allocate, uniform])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_budgets_hold_and_are_used(choose, metric, share):
    analysis = analyze(NETWORKS["residual_spine"]())
    tables = tables_of(analysis)
    wanted = budgets({metric: share}, analysis.cost.full.tolist())
    result = choose(analysis.cost, wanted, tables)
    cost = analysis.cost.at(result.widths)[METRICS.index(metric)]
    assert result.met and cost <= wanted[metric]
    wider = [analysis.cost.at(np.minimum(result.widths + step, analysis.cost.channels))
             for step in np.eye(len(tables), dtype=int)]  # fmt: skip
    one_step = max(c[METRICS.index(metric)] for c in wider) - cost
    assert cost >= wanted[metric] * 0.98 - one_step


def test_several_budgets_hold_together():
    analysis = analyze(NETWORKS["residual_spine"]())
    wanted = budgets({"macs": 0.7, "params": 0.5, "ratio": 0.8}, analysis.cost.full.tolist())
    result = allocate(analysis.cost, wanted, tables_of(analysis), priced="ratio")
    cost = dict(zip(METRICS, analysis.cost.at(result.widths), strict=True))
    assert result.met and all(cost[m] <= wanted[m] for m in wanted)


def test_rounding_and_minimum():
    analysis = analyze(NETWORKS["inverted_residual"]())
    limits = Limits(min_channels=8, round_to=8)
    wanted = budgets({"macs": 0.6}, analysis.cost.full.tolist())
    result = allocate(analysis.cost, wanted, tables_of(analysis, limits=limits))
    assert result.met and (result.widths >= 8).all() and (result.widths % 8 == 0).all()


@pytest.mark.parametrize("share", [0.7, 0.5, 0.3])
@pytest.mark.parametrize("network", ["gpt_with_tied_head", "bert_as_onnxruntime_fuses_it"])
def test_budgets_hold_where_several_groups_cross_one(network, share):
    """Heads share the axis of a fused projection with its widths: q and k, and v."""
    analysis = analyze(NETWORKS[network]())
    crossed = [np.unique(index, return_counts=True)[1] for index, _, _ in analysis.cost.crossed]
    assert max(n for counts in crossed for n in counts) > 1
    wanted = budgets({"macs": share}, analysis.cost.full.tolist())
    assert allocate(analysis.cost, wanted, tables_of(analysis), priced="ratio").met


def test_out_of_reach_is_said():
    analysis = analyze(NETWORKS["chain"]())
    result = allocate(analysis.cost, {"macs": 1.0}, tables_of(analysis))
    assert not result.met and (result.widths >= 1).all()


def test_the_lowest_scores_go_first():
    analysis = analyze(NETWORKS["chain"]())
    scores = scores_of("l1", weights_of(analysis, 0))
    weight = onnx.numpy_helper.to_array(analysis.model.graph.initializer[0])
    norms = np.abs(weight).sum((1, 2, 3))
    assert np.array_equal(np.argsort(scores[0]), np.argsort(norms))
    assert set(np.flatnonzero(kept_channels(scores[0], 5))) == set(np.argsort(norms)[-5:])


def test_criteria_by_hand():
    analysis = analyze(NETWORKS["chain"]())
    rows = next(weights_of(analysis, 0)[0].rows).astype(float)
    squares = (rows**2).sum(1)
    lamp = [s / squares[squares >= s].sum() for s in squares]
    np.testing.assert_allclose(scores_of("lamp", weights_of(analysis, 0))[0], lamp, rtol=1e-6)
    distance = [sum(np.linalg.norm(a - b) for b in rows) for a in rows]
    fpgm = scores_of("fpgm", weights_of(analysis, 0))[0]
    np.testing.assert_allclose(fpgm, distance / np.mean(distance), rtol=1e-6)
    same = [scores_of("random", weights_of(analysis, seed))[0] for seed in (3, 3, 4)]
    assert np.array_equal(same[0], same[1]) and not np.array_equal(same[0], same[2])


def test_bn_scale_needs_a_normalisation():
    normalised = analyze(NETWORKS["batch_normalised"]())
    scale = onnx.numpy_helper.to_array(normalised.model.graph.initializer[2])
    scores = scores_of("bn-scale", weights_of(normalised, 0))[0]
    np.testing.assert_allclose(scores, np.abs(scale) / np.abs(scale).mean(), rtol=1e-6)
    with pytest.raises(InputError, match="needs normalisation scales"):
        scores_of("bn-scale", weights_of(analyze(NETWORKS["chain"]()), 0))


def test_a_criterion_must_score_every_channel():
    from onnxprune import CRITERIA, criterion

    criterion("broken")(lambda group: np.ones(3))
    try:
        with pytest.raises(InputError, match=r"'broken' gave \(3,\) scores .* for the 16 channels"):
            scores_of("broken", weights_of(analyze(NETWORKS["chain"]()), 0))
        with pytest.raises(ValueError, match="registered twice"):
            criterion("broken")(lambda group: np.ones(3))
    finally:
        del CRITERIA["broken"]


def test_targets():
    full = [1000.0, 200.0, 5e6, 64.0]
    parsed = parse_target("macs=50%, size=2MB")
    assert budgets(parsed, full) == {"macs": 500.0, "size": 2e6}
    assert budgets({"params": "120", "macs": 0.25}, full) == {"params": 120.0, "macs": 250.0}
    assert budgets({"macs": "0.5k"}, full) == {"macs": 500.0}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"flops": 0.5}, "unknown target 'flops'. There are: macs, params, size, ratio"),
        ({"macs": 0}, "macs=0 is out of range"),
        ({"macs": 1.5}, "macs=1.5 is out of range"),
        ({"macs": "-1"}, "macs=-1: give a share"),
        ({"macs": "150%"}, "macs=150% is out of range"),
        ({"macs": "half"}, "macs=half: give a share"),
        ({"ratio": "12M"}, "ratio=12M: give the share of channels to keep"),
    ],
)
def test_bad_targets(target, message):
    with pytest.raises(InputError, match=message):
        budgets(target, [1000.0, 200.0, 5e6, 64.0])


def test_shapes_and_ratios():
    for text in ("image:1,3,8,8", "image:[1,3,8,8]", "image:1x3x8x8", "1,3,8,8"):
        assert parse_shape(text, ["image"]) == ("image", (1, 3, 8, 8))
    with pytest.raises(InputError, match="name the input, one of a, b"):
        parse_shape("1,3", ["a", "b"])
    assert parse_ratio("layer1.*=0.5") == ("layer1.*", 0.5)
    for text in ("layer1", "[=0.5", "x=2"):
        with pytest.raises(InputError, match="layer ratio"):
            parse_ratio(text)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_running_cost_is_the_cost(network):
    """Steps of groups that cross each other add up to what a fresh count gives."""
    analysis = analyze(NETWORKS[network]())
    tables = [Table(np.zeros(g.channels + 1), np.arange(g.channels + 1)) for g in analysis.groups]
    state = AllocationState(analysis.cost, {"macs": 0.0}, tables)
    rng = np.random.default_rng(0)
    for g in rng.permutation(np.repeat(np.arange(len(tables)), 3)).tolist():
        width = max(1, int(state.widths[g]) - 1)
        after = state.after(g, width)
        if after is not None:
            state.go(g, width, after)
    np.testing.assert_allclose(state.now[:-1], analysis.cost.at(state.widths), rtol=1e-9)
