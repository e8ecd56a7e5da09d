"""Which samples are read: evenly spread ones where all are known, the first ones of a stream."""

from pathlib import Path

import numpy as np
import pytest
from sample_data import BY_TWO, NAMED, ONE, SCALAR, SERIES, STATE, A, X, joined

from onnxprune import Settings
from onnxprune.calibration.read_samples import FirstAxes, first_axes
from onnxprune.calibration.samples import calibration


def test_inputs_without_a_common_first_axis_are_fed_as_they_are():
    found = calibration({"a": A[:2], "b": A[:5]}, NAMED)
    assert [(len(b["a"]), len(b["b"])) for b in found.batches] == [(2, 5)]


def test_an_input_without_axes_has_one_number_for_all_samples_or_one_for_each():
    """Samples with the same number share a run; a series beside its rate is a run of its own."""
    found = calibration([{"a": A[:k], "s": np.float32(k)} for k in (1, 2, 3)], SCALAR)
    assert sorted((len(b["a"]), b["s"].item()) for b in found.batches) == [(1, 1), (2, 2), (3, 3)]
    assert found.samples == 6 and all(b["s"].shape == () for b in found.batches)
    found = calibration({"a": A, "s": np.array(2, np.float32)}, SCALAR)
    assert [(len(b["a"]), b["s"].item()) for b in found.batches] == [(10, 2)]
    found = calibration({"a": A[:4], "s": np.array([5, 6, 5, 6], np.float32)}, SCALAR)
    assert sorted((len(b["a"]), b["s"].item()) for b in found.batches) == [(2, 5), (2, 6)]
    np.testing.assert_array_equal(found.batches[0]["a"], A[:4:2])
    series = [{"a": A[:k, 0], "s": np.float32(k)} for k in (3, 9)]
    assert [len(b["a"]) for b in calibration(series, SERIES).batches] == [3, 9]


def test_random_samples_leave_an_input_without_axes_alone():
    found = calibration("random", SCALAR, Settings(calib_samples=9))
    assert found.samples == 9 and {b["s"].shape for b in found.batches} == {()}


def test_a_state_is_no_sample():
    """A state's first axis counts layers, so that feeds are those of one run."""
    feeds = [{"x": A[:1], "h": np.zeros((2, 1, 3), np.float32)} for _ in range(3)]
    found = calibration(feeds, STATE)
    assert found.samples == 3 and [b["h"].shape for b in found.batches] == [(2, 1, 3)] * 3


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
        (SCALAR, FirstAxes(True, None, False)),
        (SERIES, FirstAxes(False, None, False)),
        (STATE, FirstAxes(False, 2, False)),
        (NAMED, FirstAxes(True, None, True)),
    ],
)
def test_what_first_axes_are(proto, axes: FirstAxes):
    assert first_axes(proto) == axes
