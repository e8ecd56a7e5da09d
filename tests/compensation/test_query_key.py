"""Fewer dimensions of queries and keys, mixed so that scores stay what they were."""

import numpy as np
import pytest
from networks import NETWORKS
from present import present
from running import outputs, samples
from transformer_networks import Block

import onnxprune
from onnxprune import ops
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.query_key import (
    factors,
    grams,
    lost_shares,
    mixing_matrices,
    pairs_of,
)
from onnxprune.compensation.reconstruct import compensate
from onnxprune.compensation.teacher import own_teacher
from onnxprune.groups.analysis import analyze
from onnxprune.ir.patch import patch
from onnxprune.ir.zero_biases import biased
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import rewrite


def moments(rng, n: int, rank: int) -> np.ndarray:
    maps = rng.standard_normal((2, n, rank))
    return maps @ maps.transpose(0, 2, 1) + 1e-4 * np.eye(n)


def test_factors_are_the_best_there_are():
    rng = np.random.default_rng(0)
    both = moments(rng, 6, 6), moments(rng, 6, 4)
    roots = [np.linalg.cholesky(g).transpose(0, 2, 1) for g in both]

    def error(a, b):
        left = np.eye(6) - a @ b.transpose(0, 2, 1)
        return np.square(roots[0] @ left @ roots[1].transpose(0, 2, 1)).sum()

    a, b = factors(both, 3, ridge=0.0)
    total = error(np.zeros((2, 6, 0)), np.zeros((2, 6, 0)))
    assert error(a, b) == pytest.approx(lost_shares(both, 0.0)[3] * total, rel=1e-6)
    for _ in range(20):
        near = [f + 0.05 * rng.standard_normal(f.shape) for f in (a, b)]
        assert error(*near) > error(a, b)
    a, b = factors(both, 6, ridge=0.0)
    np.testing.assert_allclose(a @ b.transpose(0, 2, 1), np.tile(np.eye(6), (2, 1, 1)), atol=1e-8)
    assert lost_shares(both)[6] == 0 and (np.diff(lost_shares(both)) <= 0).all()


@pytest.mark.parametrize(
    ("name", "count"),
    [("gpt_with_tied_head", 2), ("clip_towers", 2), ("llama", 0), ("chain", 0), ("unit_length", 0)],
)
def test_which_groups_are_pairs(name, count):
    """Not across rotary embeddings, and not where norms are taken of what is compared."""
    analysis = analyze(biased(NETWORKS[name](), ops.LAYERS))
    assert len(pairs_of(analysis, analysis.layers)) == count


def low_rank_attention(fused: bool = False):
    """Queries and keys of 3 heads with 8 dimensions, whose products have rank 2."""
    n = Block(x=("N", 6, 24))

    def low() -> np.ndarray:
        maps = n.rng.standard_normal((24, 3, 2)), n.rng.standard_normal((3, 2, 8))
        return np.einsum("dhr,hrn->dhn", *maps).reshape(24, 24).astype(np.float32) / 8

    parts = [low(), low(), n.rng.standard_normal((24, 24)).astype(np.float32) / 5]
    if fused:
        flat = n.op("MatMul", "x", n.const(np.concatenate(parts, 1)))
        qkv = n.op("Split", flat, outputs=3, axis=2)
    else:
        qkv = [n.op("MatMul", "x", n.const(part)) for part in parts]
    q, k, v = (
        n.op("Transpose", n.op("Reshape", t, n.ints(0, 6, 3, 8)), perm=[0, 2, 1, 3]) for t in qkv
    )
    scores = n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = n.op("MatMul", n.op("Softmax", n.op("Mul", scores, n.scalar(8**-0.5)), axis=-1), v)
    flat = n.op("Reshape", n.op("Transpose", mixed, perm=[0, 2, 1, 3]), n.ints(0, 6, 24))
    return n.model(n.linear(flat, 24, 24))


@pytest.mark.parametrize("fused", [False, True])
def test_products_of_low_rank_survive(fused):
    """No two dimensions hold them as they are, but two mixed ones do."""
    model = low_rank_attention(fused)
    analysis = analyze(biased(model, ops.LAYERS))
    ((g, _),) = pairs_of(analysis, analysis.layers).items()
    feeds = samples(model)
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    kept[g][2:] = False
    made = compensate(
        analysis,
        kept,
        own_teacher(analysis, Calibration((feeds,), (len(feeds["x"]),), "", "")),
    )
    plan = plan_of(made.groups, made.kept)
    small = rewrite(patch(analysis.model, made.patches), analysis.nodes, plan)
    base, got = outputs(model, feeds), outputs(small, feeds)
    assert np.abs(got - base).max() < 0.02 * np.abs(base).max()
    dropped = outputs(rewrite(analysis.model, analysis.nodes, plan), feeds)
    assert np.square(got - base).mean() < 1e-2 * np.square(dropped - base).mean()


def test_moments_are_those_of_heads():
    model = low_rank_attention()
    analysis = analyze(biased(model, ops.LAYERS))
    pairs = pairs_of(analysis, analysis.layers)
    ((g, pair),) = pairs.items()
    assert [side.centred for side in pair.sides] == [False, True]
    feeds = samples(model)
    x = feeds["x"].astype(np.float64)
    for side, got in zip(pair.sides, grams(analysis, pairs, [feeds])[g], strict=True):
        weight = present(analysis.read(side.layer.weight.name))
        y = x @ weight
        y = y - y.mean(1, keepdims=True) if side.centred else y
        heads = y.reshape(-1, 3, 8)
        np.testing.assert_allclose(
            got, np.einsum("mhi,mhj->hij", heads, heads) / len(heads), rtol=1e-4, atol=1e-5
        )
    kept = np.array([True, False] * 4)
    for side, matrix in mixing_matrices(pair, grams(analysis, pairs, [feeds])[g], kept):
        dead = side.columns[~kept].ravel()
        assert not matrix[:, dead].any() and matrix[:, side.columns[kept].ravel()].any()


@pytest.mark.parametrize("name", ["gpt_with_tied_head", "clip_towers"])
def test_whole_transformers_are_pruned_and_proved(name):
    model = NETWORKS[name]()
    feeds = feeds_of(model)
    analysis = analyze(biased(model, ops.LAYERS))
    queries = [analysis.groups[g].name for g in pairs_of(analysis, analysis.layers)]
    result = onnxprune.prune(model, {"ratio": 0.5}, calib=feeds, latency=False)
    assert result.report.proof.passed
    widths = {row["name"]: row["kept"] for row in result.report.groups}
    assert any(widths[name] < 8 for name in queries)


def feeds_of(model):
    rng = np.random.default_rng(2)
    feeds = {}
    for value in onnxprune.ir.graph.graph_inputs(model):
        kind = value.type.tensor_type
        sizes = [d.dim_value or 16 for d in kind.shape.dim]
        whole = kind.elem_type != 1
        feeds[value.name] = (
            rng.integers(0, 10, sizes) if whole else rng.standard_normal(sizes).astype(np.float32)
        )
    return feeds


@pytest.mark.parametrize("steps", [1, 2])
def test_mixed_dimensions_are_not_taken_for_old_ones(steps):
    """The second step finds queries and keys that the original does not know."""
    model = low_rank_attention()
    analysis = analyze(biased(model, ops.LAYERS))
    ((g, _),) = pairs_of(analysis, analysis.layers).items()
    feeds = samples(model)
    ratio = {f"^{analysis.groups[g].name}$": 0.5 if steps == 2 else 0.25}
    result = onnxprune.prune(model, calib=feeds, steps=steps, layer_ratio=ratio, latency=False)
    kept = {row["name"]: row["kept"] for row in result.report.groups}
    assert kept[analysis.groups[g].name] == 2
    base = outputs(model, feeds)
    assert np.abs(outputs(result.model, feeds) - base).max() < 0.03 * np.abs(base).max()
