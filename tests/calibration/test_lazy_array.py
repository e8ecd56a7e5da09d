"""Rows of arrays in memory and in files, read when they are wanted."""

from pathlib import Path

import numpy as np
import pytest

from onnxprune import InputError
from onnxprune.calibration.lazy_array import (
    ROWS_AT_ONCE,
    array_in_file,
    array_in_memory,
    members,
)

ROWS = np.random.default_rng(0).standard_normal((300, 3, 2))


@pytest.mark.parametrize("kind", ["memory", "npy", "columns", "npz", "compressed"])
def test_rows_are_those_of_the_array(kind: str, tmp_path: Path):
    if kind == "memory":
        array = array_in_memory(ROWS)
    elif kind in ("npy", "columns"):
        np.save(tmp_path / "x.npy", np.asfortranarray(ROWS) if kind == "columns" else ROWS)
        array = array_in_file(tmp_path / "x.npy")
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        save(tmp_path / "x.npz", other=np.ones(3), x=ROWS)
        assert members(tmp_path / "x.npz") == ["other", "x"]
        array = array_in_file(tmp_path / "x.npz", "x")
    assert array.shape == ROWS.shape and array.dtype == ROWS.dtype
    np.testing.assert_array_equal(array.whole(), ROWS)
    numbers = np.arange(0, 300, 2)
    parts = list(array.rows(numbers))
    assert [len(part) for part in parts] == [ROWS_AT_ONCE, 150 - ROWS_AT_ONCE]
    np.testing.assert_array_equal(np.concatenate(parts), ROWS[numbers])


def test_a_file_without_an_array_is_refused_when_its_header_is_read(tmp_path: Path):
    (tmp_path / "x.npy").write_text("text")
    with pytest.raises(InputError, match=r"x\.npy: not a readable \.npy file"):
        array_in_file(tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"x\.npz: not a readable \.npz file"):
        members(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", ["(-1, 3)", "(True,)", "(2, 3", "x"])
def test_a_header_with_a_shape_that_cannot_be_is_refused(shape: str, tmp_path: Path):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    (tmp_path / "x.npy").write_bytes(head + bytes(48))
    with pytest.raises(
        InputError, match=r"x\.npy: not a readable \.npy file .*Write it again"
    ) as e:
        array_in_file(tmp_path / "x.npy")
    assert "0x" not in str(e.value)
