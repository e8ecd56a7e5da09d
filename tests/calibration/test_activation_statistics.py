"""Statistics of activations are those of numpy over all samples."""

import numpy as np
import pytest
from networks import NETWORKS, samples_of
from present import present

from onnxprune import InputError
from onnxprune.calibration.activation_statistics import measure_statistics
from onnxprune.groups.analysis import analyze
from onnxprune.ir import runtime, skeleton
from onnxprune.types import Axis


def activations(model, name: str, feeds) -> np.ndarray:
    """Rows (m, channels) of a tensor."""
    shown = skeleton.with_outputs(model, [name])
    values = runtime.run(runtime.open_session(shown), feeds)[name]
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1]).astype(np.float64)


@pytest.mark.parametrize("covariance", [False, True])
def test_they_are_those_of_numpy(covariance: bool):
    model = NETWORKS["chain"]()
    feeds = samples_of(model, np.random.default_rng(2))
    batches = [{"x": feeds["x"][:40]}, {"x": feeds["x"][40:]}]
    found = measure_statistics(analyze(model), batches, covariance)
    assert found.keys() == {Axis(n.output[0], 1) for n in model.graph.node if n.op_type == "Relu"}
    for axis, statistics in found.items():
        rows = activations(model, axis.tensor, feeds)
        assert statistics.count == len(rows)
        np.testing.assert_allclose(statistics.mean, rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(statistics.magnitude, np.abs(rows).mean(0), rtol=1e-5)
        np.testing.assert_allclose(statistics.square, (rows**2).mean(0), rtol=1e-5)
        np.testing.assert_allclose(statistics.silent, (rows == 0).mean(0))
        np.testing.assert_allclose(statistics.variance, rows.var(0), rtol=1e-4)
        assert (statistics.cov is not None) == covariance
        if covariance:
            np.testing.assert_allclose(
                present(statistics.cov), np.cov(rows.T, bias=True), atol=1e-4 * rows.var(0).max()
            )


def test_axes_can_be_named_and_integers_have_no_statistics():
    model = NETWORKS["chain"]()
    feeds = samples_of(model, np.random.default_rng(2))
    axis = Axis("x", 1)
    found = measure_statistics(analyze(model), [feeds], axes=[axis, Axis("nowhere", 0)])
    assert list(found) == [axis]
    np.testing.assert_allclose(found[axis].mean, feeds["x"].mean((0, 2, 3)), atol=1e-6)


def test_no_sample_is_refused():
    with pytest.raises(InputError, match="holds no sample"):
        measure_statistics(analyze(NETWORKS["chain"]()), [])
