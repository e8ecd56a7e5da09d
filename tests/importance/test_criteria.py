"""Criteria that look at calibration data: formulas by hand, streaming, memory, missing data."""

import tracemalloc

import numpy as np
import onnx
import pytest
from networks import NETWORKS, Net
from present import present

from onnxprune import ops
from onnxprune.calibration.activation_statistics import measure_statistics
from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.importance.criteria import CRITERIA, NEED_DATA, criterion, scores_of
from onnxprune.importance.group_weights import weights_of
from onnxprune.importance.ranking import rank
from onnxprune.ir import graph, inputs, runtime
from onnxprune.surgery.plan import kept_channels


def small():
    n = Net(x=("N", 3, 8, 8))
    y = n.relu(n.conv("x", 3, 6))
    y = n.op("GlobalAveragePool", n.relu(n.conv(y, 6, 5, strides=[2, 2])))
    return n.model(n.gemm(n.op("Flatten", y), 5, 4))


def samples(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def split(x, size):
    return ({"x": x[k : k + size]} for k in range(0, len(x), size))


def seen(model, name, x):
    """The value of any tensor of the model."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    return runtime.run(runtime.open_session(graph.model_bytes(model)), {"x": x})[name]


@pytest.fixture(scope="module")
def measured():
    """The first group (six channels, read by a 3x3 convolution): its activation and reader."""
    model, x = small(), samples(40)
    analysis = analyze(model)
    known = measure_statistics(analysis, split(x, 16), covariance=True)
    groups = weights_of(analysis, 0, activations=known)
    (index,) = [k for k, g in enumerate(analysis.groups) if g.channels == 6]
    second = analysis.nodes[2]
    value = np.moveaxis(seen(model, present(second.inputs[0]).name, x), 1, 0).reshape(6, -1)
    stored = present(analysis.read(present(second.inputs[1]).name))
    weight = np.swapaxes(stored, 0, 1).reshape(6, -1)
    return groups, index, value.astype(np.float64), weight.astype(np.float64)


FORMULAS = {
    "mean-activation": lambda x, w: np.abs(x).mean(1),
    "apoz": lambda x, w: 1 - (x == 0).mean(1),
    "variance": lambda x, w: x.var(1) * (w**2).sum(1),
    "wanda": lambda x, w: np.abs(w).sum(1) * np.linalg.norm(x, axis=1),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(measured, name):
    groups, index, x, w = measured
    got, expected = scores_of(name, groups)[index], FORMULAS[name](x, w)
    if name != "apoz":  # scores count in units of their mean
        expected = expected / expected.mean()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_obs_ranks_by_what_is_left_unpredicted(measured):
    """The first to go has the least ‖w‖²/[C⁻¹]_jj, and the scores add up to the whole output."""
    groups, index, x, w = measured
    cov = np.cov(x, bias=True)
    first = (w**2).sum(1) / np.diag(np.linalg.inv(cov + 1e-3 * np.trace(cov) / 6 * np.eye(6)))
    scores = scores_of("obs", groups)[index]
    assert scores.argmin() == first.argmin()
    energy = np.einsum("dm,dm->", w, cov @ w)
    np.testing.assert_allclose(scores.min(), first.min() / energy, rtol=1e-4)
    np.testing.assert_allclose(scores.sum(), 1, rtol=0.3)


def test_obs_lets_one_of_two_equal_channels_go():
    """Each predicts the other: one costs nothing, though by any norm they are the largest."""
    model = small()
    weight = next(t for t in model.graph.initializer if t.dims[:2] == [6, 3])
    bias = next(t for t in model.graph.initializer if list(t.dims) == [6])
    for tensor in (weight, bias):
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[1] = values[0]
        values[:2] *= 3
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    analysis = analyze(model)
    known = measure_statistics(analysis, split(samples(40), 40), covariance=True)
    (index,) = [k for k, g in enumerate(analysis.groups) if g.channels == 6]
    scores = {
        name: scores_of(name, weights_of(analysis, 0, activations=known))[index]
        for name in ("obs", "l2")
    }
    assert scores["obs"].argmin() in (0, 1) and scores["l2"].argmin() not in (0, 1)
    assert scores["obs"].argmax() in (0, 1)


def test_streaming_equals_one_shot():
    analysis, x = analyze(small()), samples(50)
    once, streamed = (measure_statistics(analysis, split(x, size), True) for size in (50, 7))
    assert once.keys() == streamed.keys() and len(once) == 2
    for axis, profile in once.items():
        other = streamed[axis]
        assert profile.count == other.count
        for field in ("mean", "magnitude", "square", "silent", "cov"):
            np.testing.assert_allclose(
                getattr(other, field), getattr(profile, field), rtol=1e-4, atol=1e-6
            )


def test_memory_does_not_grow_with_samples():
    analysis = analyze(small())

    def peak(count):
        batches = ({"x": samples(20, seed)} for seed in range(count))
        tracemalloc.start()
        measure_statistics(analysis, batches, covariance=True)
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(2)
    assert peak(40) < 1.2 * peak(4)


@pytest.mark.parametrize("name", sorted(NEED_DATA))
def test_without_data_the_criterion_says_what_it_needs(name):
    with pytest.raises(InputError, match=rf"criterion '{name}' needs --calib"):
        rank(analyze(small()), name, 0)


def test_no_samples():
    with pytest.raises(InputError, match="holds no sample"):
        measure_statistics(analyze(small()), iter(()))


TOPOLOGIES = (
    "batch_normalised",
    "residual_spine",
    "inverted_residual",
    "grouped_convolutions",
    "transposed_convolutions",
    "spatial_flatten",
    "channels_last",
    "vision_transformer",
    "heads_in_the_batch",
    "lstm",
    "captured_by_branches",
    "gpt_with_tied_head",
)


@pytest.mark.parametrize("network", TOPOLOGIES)
def test_every_criterion_scores_every_group(network):
    model = NETWORKS[network]()
    analysis = analyze(model)
    bounds = ops.index_bounds(analysis.nodes)
    batches = [inputs.seeded(analysis.model, bounds, analysis.sample, seed) for seed in range(3)]
    known = measure_statistics(analysis, batches, covariance=True)
    assert known
    for name in CRITERIA:
        if name == "bn-scale":
            continue
        arranged, scores = rank(analysis, name, 0, known)
        for group, row in zip(arranged.groups, scores, strict=True):
            assert row.shape == (group.channels,) and np.isfinite(row).all()
            assert row.min() >= 0


def test_fan_out_counts_all_readers():
    analysis = analyze(small())
    (index,) = [k for k, g in enumerate(analysis.groups) if g.channels == 5]
    weight = present(analysis.read(present(analysis.nodes[-1].inputs[1]).name)).astype(np.float64)
    squares = (weight**2).sum(0)
    got = scores_of("fan-out", weights_of(analysis, 0))[index]
    np.testing.assert_allclose(got, squares / squares.mean(), rtol=1e-5)
    earlier = scores_of("reading", weights_of(analysis, 0))[index]
    np.testing.assert_array_equal(earlier, got)


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
    distance = np.array([sum(float(np.linalg.norm(a - b)) for b in rows) for a in rows])
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
    criterion("broken")(lambda group: np.ones(3))
    try:
        with pytest.raises(InputError, match=r"'broken' gave \(3,\) scores .* for the 16 channels"):
            scores_of("broken", weights_of(analyze(NETWORKS["chain"]()), 0))
        with pytest.raises(ValueError, match="registered twice"):
            criterion("broken")(lambda group: np.ones(3))
    finally:
        del CRITERIA["broken"]
