"""Which samples are read: evenly spread ones where all are known, the first ones of a stream."""

from pathlib import Path

import numpy as np
import pytest
from sample_data import BY_TWO, NAMED, ONE, SCALAR, A, X, joined

from onnxprune import Settings
from onnxprune.calibration.read_samples import FirstAxes, first_axes
from onnxprune.calibration.samples import calibration


def test_inputs_without_a_common_first_axis_are_fed_as_they_are():
    feeds = [{"a": A[:k], "s": np.float32(k)} for k in (1, 2, 3)]
    found = calibration(feeds, SCALAR)
    assert [len(b["a"]) for b in found.batches] == [1, 2, 3] and found.samples == 3
    found = calibration({"a": A[:2], "b": A[:5]}, NAMED)
    assert [(len(b["a"]), len(b["b"])) for b in found.batches] == [(2, 5)]


@pytest.mark.parametrize("saved", ["npz", "npy", "folder", "mapping"])
def test_fewer_samples_are_spread_evenly(saved: str, tmp_path: Path):
    """Files sorted by class would give one class otherwise."""
    source: object = {"x": X}
    if saved == "npz":
        np.savez_compressed(tmp_path / "x.npz", x=X)
        source = tmp_path / "x.npz"
    elif saved != "mapping":
        parts = [X] if saved == "npy" else [X[:3], X[3:4], X[4:]]
        for k, part in enumerate(parts):
            np.save(tmp_path / f"{k}.npy", part)
        source = tmp_path / "0.npy" if saved == "npy" else tmp_path
    found = calibration(source, ONE, Settings(calib_samples=4))
    np.testing.assert_array_equal(joined(found), X[[0, 2, 5, 7]])


def test_of_a_stream_the_first_samples_are_taken():
    drawn = []

    def stream():
        for k in range(10):
            drawn.append(k)
            yield X[k : k + 1]

    found = calibration(stream(), ONE, Settings(calib_samples=3))
    np.testing.assert_array_equal(joined(found), X[:3])
    assert drawn == [0, 1, 2]


@pytest.mark.parametrize(
    ("proto", "axes"),
    [
        (ONE, FirstAxes(True, None, False)),
        (BY_TWO, FirstAxes(True, 2, False)),
        (SCALAR, FirstAxes(False, None, False)),
        (NAMED, FirstAxes(True, None, True)),
    ],
)
def test_what_first_axes_are(proto, axes: FirstAxes):
    assert first_axes(proto) == axes
