"""The samples that divergence is measured on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import NETWORKS

from onnxprune.calibration.importance_sampling import (
    WeightedBatch,
    draw_samples,
    inclusion_probabilities,
    merged_batches,
    systematic_sample,
)
from onnxprune.calibration.samples import Calibration
from onnxprune.ir import graph, runtime


def classifier(sharp: float):
    """A network with class scores, and samples half of which it is sure of."""
    model = NETWORKS["residual_spine"]()
    (value,) = graph.graph_inputs(model)
    sizes = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).standard_normal((64, *sizes)).astype(np.float32)
    x[::2] *= sharp
    batches = tuple({value.name: x[k : k + 16]} for k in range(0, 64, 16))
    return model, Calibration(batches, (16,) * 4, "", ""), value.name


def test_samples_that_the_model_is_unsure_of_come_first():
    model, data, name = classifier(30.0)
    chosen = draw_samples(model, data, 24)
    taken = np.concatenate([batch.feeds[name] for batch in chosen])
    weights = np.concatenate([batch.weights for batch in chosen])
    assert abs(len(taken) - 24) <= 1 and all(len(p.weights) <= 16 for p in chosen)
    unsure = np.abs(taken).reshape(len(taken), -1).mean(1) < 3
    assert unsure.mean() > 0.6 and weights[unsure].mean() < weights[~unsure].mean()
    assert weights.min() >= 1 and weights.sum() == pytest.approx(64, rel=0.25)


def test_all_samples_count_once_where_there_are_few():
    model, data, _ = classifier(1.0)
    for count in (64, 1000):
        assert [batch.weights.tolist() for batch in draw_samples(model, data, count)] == [
            [1.0] * 16
        ] * 4


@pytest.mark.parametrize(
    ("sizes", "count", "batches"),
    [
        ((16,) * 10, 1000, list(range(10))),
        ((8,) * 8, 32, [0, 2, 4, 6]),
        ((32,) * 32, 1, [0]),
        ((1,), 32, [0]),
    ],
)
def test_batches_that_cannot_be_divided_are_spread_evenly(sizes, count, batches):
    feeds = tuple({"x": np.full((size, 1), k)} for k, size in enumerate(sizes))
    data = Calibration(feeds, sizes, "", "", whole=True)
    chosen = draw_samples(NETWORKS["chain"](), data, count)
    assert [int(batch.feeds["x"][0, 0]) for batch in chosen] == batches


def test_batches_fill_up_where_their_arrays_fit():
    """Up to four samples, and only arrays of the same length."""

    def part(rows: int, length: int) -> WeightedBatch:
        return WeightedBatch({"x": np.full((rows, length), rows)}, np.full(rows, float(rows)))

    parts = [part(3, 5), part(2, 4), part(1, 5), part(2, 5)]
    found = [(p.feeds["x"][:, 0].tolist(), p.weights.tolist()) for p in merged_batches(parts, 4)]
    assert found == [([3, 3, 3, 1], [3, 3, 3, 1]), ([2, 2], [2, 2]), ([2, 2], [2, 2])]


@pytest.mark.parametrize("more", [np.ones(1), np.array(1.0)])
def test_batches_with_an_array_for_all_samples_stay_apart(more: np.ndarray):
    part = WeightedBatch({"x": np.ones((2, 5)), "s": more}, np.ones(2))
    assert merged_batches([part, part], 8) == [part, part]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(1, 39))
def test_probabilities_of_being_drawn(roots: list[float], count: int):
    count = min(count, len(roots) - 1)
    share = inclusion_probabilities(np.array(roots), count)
    assert share.max() <= 1 + 1e-9 and share.min() > 0
    assert share.sum() == pytest.approx(count)
    order = np.argsort(roots, kind="stable")
    assert (np.diff(share[order]) >= -1e-9).all()
    drawn = systematic_sample(share)
    assert abs(len(drawn) - count) <= 1
    assert set(np.flatnonzero(share >= 1 - 1e-12)) <= set(drawn.tolist())


def test_the_estimate_is_that_of_all_samples():
    model, data, _ = classifier(30.0)
    session = runtime.open_session(graph.model_bytes(model))

    def mean(parts: list[WeightedBatch]) -> float:
        total = weight = 0.0
        for part in parts:
            (scores,) = runtime.run(session, part.feeds).values()
            top = np.exp(scores - scores.max(1, keepdims=True))
            sure = (top.max(1) / top.sum(1)) < 0.9
            total, weight = total + float(sure @ part.weights), weight + part.weights.sum()
        return total / weight

    assert mean(draw_samples(model, data, 32)) == pytest.approx(
        mean(draw_samples(model, data, 64)), abs=0.1
    )
