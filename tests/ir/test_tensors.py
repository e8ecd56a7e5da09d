"""Content of stored tensors: as arrays, as bytes, in external files."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.errors import InputError
from onnxprune.ir import tensors
from onnxprune.ir.tensors import Extent


def tensor(kind: str, dims: list[int], content: bytes = b"") -> TensorProto:
    number = TensorProto.DataType.Value(kind)
    return TensorProto(name="w", data_type=number, dims=dims, raw_data=content)


@pytest.mark.parametrize(
    ("kind", "dims", "expected"),
    [
        ("FLOAT", [2, 3], 24),
        ("BFLOAT16", [5], 10),
        ("DOUBLE", [], 8),
        ("BOOL", [3, 0], 0),
        ("INT4", [3], 2),
        ("UINT4", [3, 3], 5),
        ("STRING", [3], None),
        ("UNDEFINED", [3], None),
    ],
)
def test_bytes_of_a_shape(kind: str, dims: list[int], expected: int | None) -> None:
    assert tensors.expected_bytes(tensor(kind, dims)) == expected
    assert tensors.tensor_bytes(tensor(kind, dims)) == (expected or 0)


def test_content_that_does_not_fit_its_shape_is_refused() -> None:
    message = r"tensor 'w' of shape \[2, 3\] needs 24 bytes but holds 20\. The file is damaged"
    with pytest.raises(InputError, match=message):
        tensors.array(tensor("FLOAT", [2, 3], bytes(20)))


@pytest.mark.parametrize("number", [0, 1000])
def test_a_type_that_onnx_does_not_know_is_refused(number: int) -> None:
    """Such as one that is newer than the installed version."""
    message = rf"tensor 'w' has type {number}, which onnx [\d.]+\S* does not know\. Install a newer"
    with pytest.raises(InputError, match=message):
        tensors.array(TensorProto(name="w", data_type=number, dims=[2], raw_data=bytes(8)))


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT", "INT64", "BFLOAT16"])
def test_raw_bytes_are_those_that_onnx_writes(kind: str) -> None:
    """Packed types share bytes there, an odd one at the end has half a byte for itself."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(kind))
    values = np.array([[1, 2, 3], [4, 5, 6], [7, 1, 0]]).astype(dtype).T
    stored = onnx.numpy_helper.from_array(values)
    assert tensors.raw(values).tobytes() == stored.raw_data
    assert np.array_equal(tensors.array(stored), values)


def outside(path: Path, values: NDArray[np.float32]) -> TensorProto:
    """A tensor whose content begins at byte 12 of a file."""
    path.write_bytes(bytes(12) + values.tobytes())
    inside = onnx.numpy_helper.from_array(values, "w")
    inside.doc_string = "kept"
    return tensors.external(inside, values.shape, Extent(str(path), 12, values.nbytes))


def test_external_content_is_read_anew_each_time(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    stored = outside(tmp_path / "data", values)
    assert tensors.is_external(stored) and stored.doc_string == "kept" and not stored.raw_data
    first, second = tensors.array(stored), tensors.array(stored)
    first[:] = 0  # its caller's own
    assert np.array_equal(second, values)
    whole = tensors.inlined(stored)
    assert whole.raw_data == values.tobytes() and not tensors.is_external(whole)
    assert tensors.inlined(whole) is whole


def test_data_that_change_under_way_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "data"
    stored = outside(path, np.ones(6, np.float32))
    path.write_bytes(path.read_bytes()[:30])
    message = rf"tensor 'w' needs 24 bytes at 12 of {re.escape(str(path))}, which ends after 18"
    with pytest.raises(InputError, match=message):
        tensors.array(stored)
    path.unlink()
    with pytest.raises(InputError, match=r"tensor 'w': its file .* cannot be read: No such file"):
        tensors.array(stored)


def test_places_are_numbers_and_a_missing_length_is_that_of_the_shape() -> None:
    stored = tensor("FLOAT", [2, 3])
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="data")
    assert tensors.extent(stored) == Extent("data", 0, 24)
    stored.external_data.add(key="offset", value="many")
    message = r"tensor 'w': offset 'many' and length None of its external data are no numbers"
    with pytest.raises(InputError, match=message):
        tensors.extent(stored)


def test_a_file_that_is_no_stored_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "input.pb"
    path.write_bytes(onnx.numpy_helper.from_array(np.arange(3.0)).SerializeToString())
    assert tensors.stored_tensor(path).tolist() == [0, 1, 2]
    for content, why in (
        (b"", "it has no type"),
        (b"\xff\xff\xff", "."),
        (path.read_bytes()[:-1], "."),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"input\.pb: not a stored tensor \({why}"):
            tensors.stored_tensor(path)
