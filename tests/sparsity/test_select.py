"""Masks of all weights from their scores alone."""

import numpy as np
import pytest
from networks import NETWORKS

from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.sparsity.options import Sparsity
from onnxprune.sparsity.select import Scored, fitting, masks_of, shares_of
from onnxprune.sparsity.weights import weights_of


@pytest.fixture(scope="module")
def weights():
    analysis = analyze(NETWORKS["residual_spine"]())
    return weights_of(analysis.nodes, analysis.stored)


def random(weight) -> np.ndarray:
    rng = np.random.default_rng([0, *weight.name.encode()])
    return rng.random(weight.form, np.float32)


def gone(masks) -> list[int]:
    return [int((~mask).sum()) for _, mask in masks]


def test_global_scores_compete_as_they_are(weights):
    tenfold = weights[0].name
    scored = Scored(lambda w: random(w) * np.float32(10 if w.name == tenfold else 1))
    counts = gone(masks_of(weights, Sparsity(sparsity=0.5, scope="global"), scored))
    assert sum(counts) == round(0.5 * sum(w.size for w in weights))
    assert counts[0] < 0.2 * weights[0].size


def test_by_default_the_scale_of_a_layer_does_not_count(weights):
    fourfold = weights[0].name
    scored = Scored(lambda w: random(w) * np.float32(4 if w.name == fourfold else 1))
    counts = [gone(masks_of(weights, Sparsity(sparsity=0.5), s)) for s in (scored, Scored(random))]
    assert counts[0] == counts[1] and sum(counts[0]) == round(0.5 * sum(w.size for w in weights))


def test_each_layer_loses_its_share(weights):
    counts = gone(masks_of(weights, Sparsity(sparsity=0.3, scope="layer"), Scored(random)))
    assert counts == [round(0.3 * weight.size) for weight in weights]


def test_rows_lose_the_same_where_scores_are_compared_in_their_row(weights):
    what = Sparsity(sparsity=0.5, scope="layer")
    for weight, mask in masks_of(weights, what, Scored(random, by_row=True)):
        left = mask.reshape(len(mask), -1)
        assert set((~left).sum(1)) == {round(0.5 * left.shape[1])}
        assert mask.shape == weight.form


def test_below_a_threshold_all_goes(weights):
    for weight, mask in masks_of(weights, Sparsity(threshold=0.25), Scored(random)):
        np.testing.assert_array_equal(mask.ravel(), random(weight.plain).ravel() >= 0.25)


def test_shares_that_are_known_before_any_mask(weights):
    name = weights[0].name
    what = Sparsity(sparsity=0.5, layer_sparsity={f"^{name}$": 0.25})
    shares = shares_of(weights, what)
    assert shares[name] == 0.25 and set(shares.values()) == {0.25, None}
    only = shares_of(weights, Sparsity(layer_sparsity={f"^{name}$": 0.25}))
    assert only[name] == 0.25 and set(only.values()) == {0.25, 0.0}
    assert set(shares_of(weights, Sparsity(sparsity=0.5, scope="layer")).values()) == {0.5}
    with pytest.raises(InputError, match="matches no node"):
        shares_of(weights, Sparsity(layer_sparsity={"nowhere": 0.5}))


def test_what_a_pattern_does_not_fit(weights):
    fit, misfits = fitting(weights, Sparsity(pattern="2:4"))
    assert {weight.name for weight in fit}.isdisjoint(misfits)
    assert "3 input channels are no multiple of 4" in misfits.values()
    with pytest.raises(InputError, match="does not fit"):
        fitting(weights, Sparsity(pattern="2:4", misfit="error"))
    with pytest.raises(InputError, match="no weight to make sparse in pattern 5:1000"):
        fitting(weights, Sparsity(pattern="5:1000"))
