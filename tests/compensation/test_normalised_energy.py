"""Normalisations whose stream is cut give results of the size that they gave."""

from __future__ import annotations

import numpy as np
from cuts import masks_without
from networks import NETWORKS
from numpy.typing import NDArray
from onnx_text import run
from present import present
from text_models import text_model

from onnxprune.compensation.normalised_energy import energies, norms_of, rescaled
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir.patch import patch
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import masked_weights

LAYER = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = MatMul (x, a)
    n = LayerNormalization (h, gamma)
    y = MatMul (n, c)
}
"""
SPELT = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = MatMul (x, a)
    q = Mul (h, h)
    m = ReduceMean <axes = [-1]> (q)
    e = Add (m, eps)
    r = Sqrt (e)
    d = Div (h, r)
    n = Mul (d, gamma)
    y = MatMul (n, c)
}
"""
X = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)


def spelt() -> Analysis:
    epsilon = np.full(1, 1e-5, np.float32)
    return analyze(text_model(SPELT, a=(3, 6), c=(6, 2), gamma=(6,), eps=epsilon))


def hidden(analysis: Analysis) -> NDArray[np.float32]:
    return X @ present(analysis.read("a"))


def test_all_forms_are_found_with_what_takes_their_width() -> None:
    norms = norms_of(analyze(NETWORKS["layer_normalised"]()))
    assert [norm.form for norm in norms] == ["centred", "summed"]
    np.testing.assert_allclose([norm.power for norm in norms], -0.5)
    assert all(norm.axis == -1 and len(norm.summands) == 1 for norm in norms)


def test_shares_are_those_of_the_squares() -> None:
    analysis = spelt()
    (norm,) = norms_of(analysis)
    squares = np.square(hidden(analysis))
    expected = (squares / squares.sum(1, keepdims=True)).mean(0)
    batches = [{"x": X[:100]}, {"x": X[100:]}]
    found = energies(analysis, [norm], batches)
    np.testing.assert_allclose(found["gamma"], expected, rtol=1e-5)  # h is in single precision
    assert energies(analysis, [], batches) == {}


def test_what_subtracts_the_mean_is_measured_behind_it() -> None:
    analysis = analyze(text_model(LAYER, a=(3, 6), c=(6, 2), gamma=(6,)))
    (norm,) = norms_of(analysis)
    h = hidden(analysis)
    squares = np.square(h - h.mean(1, keepdims=True))
    expected = (squares / squares.sum(1, keepdims=True)).mean(0)
    found = energies(analysis, [norm], [{"x": X}])
    np.testing.assert_allclose(found["gamma"], expected, rtol=1e-5)


def test_results_keep_their_size_on_the_samples() -> None:
    """Without the rescaling they grow by the root of the share that is left."""
    analysis = spelt()
    norms = norms_of(analysis)
    plan = plan_of(analysis.groups, masks_without(analysis, a=[0, 4]))
    weights = masked_weights(analysis.read, analysis.nodes, plan)
    shares = energies(analysis, norms, [{"x": X}])
    scaled = rescaled(norms, shares, plan, weights.get)
    assert set(scaled) == {"gamma"}
    sizes = []
    for patches in ({}, weights, weights | scaled):
        model = patch(analysis.model, patches)
        model.graph.output.add(name="n")
        sizes.append(np.square(run(model, x=X)["n"][:, [1, 2, 3, 5]]).mean())
    left = shares["gamma"][[1, 2, 3, 5]].sum()
    np.testing.assert_allclose(scaled["gamma"], weights["gamma"] * np.sqrt(left), rtol=1e-6)
    assert abs(sizes[2] / sizes[0] - 1) < 0.5 * abs(sizes[1] / sizes[0] - 1)


def test_what_no_plan_cuts_and_nobody_measured_stays() -> None:
    analysis = spelt()
    norms = norms_of(analysis)
    whole = plan_of(analysis.groups, masks_without(analysis))
    plan = plan_of(analysis.groups, masks_without(analysis, a=[0]))
    shares = {"gamma": np.full(6, 1 / 6)}
    assert rescaled(norms, shares, whole, analysis.read) == {}
    assert rescaled(norms, {}, plan, analysis.read) == {}
