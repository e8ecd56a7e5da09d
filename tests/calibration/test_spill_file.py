"""Arrays in a temporary file: what is read or mapped is what was written."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from onnxprune import InputError
from onnxprune.calibration.spill_file import SpillFile, raw_bytes

ARRAYS = [
    np.arange(60, dtype=np.float32).reshape(3, 4, 5).transpose(2, 0, 1),
    np.float64(3.5) * np.ones(()),
    np.array([True, False, True]),
    np.arange(4).astype(ml_dtypes.bfloat16),
    np.arange(6, dtype=np.int64).reshape(2, 3),
]


def test_arrays_are_read_and_mapped_as_they_were(tmp_path: Path):
    file = SpillFile("arrays", tmp_path)
    spilled = [file.append(array) for array in ARRAYS]
    mapped = [file.mapped()(one) for one in spilled]
    again = [one.read() for one in spilled]
    file.close()
    for array, a, b in zip(ARRAYS, again, mapped, strict=True):
        for got in (a, b):  # a map outlives the file
            assert got.dtype == array.dtype and got.flags.aligned
            np.testing.assert_array_equal(got, array)
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_cut_short_is_refused():
    file = SpillFile("arrays")
    spilled = file.append(np.ones(1000))
    file._file.truncate(100)
    with pytest.raises(InputError, match="file with arrays came to its end"):
        spilled.read()


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(InputError, match=r"arrays need a temporary file.*--calib-samples"):
        SpillFile("arrays", tmp_path / "no")


def test_bytes_are_those_in_memory_order():
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert bytes(raw_bytes(array)) == array.tobytes()
    assert bytes(raw_bytes(array.T)) == array.T.tobytes()
