"""Stored tensors: their content as arrays, their bytes, their place in external files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from onnxprune.errors import InputError, one_line

__all__ = [
    "PACKED",
    "Extent",
    "array",
    "expected_bytes",
    "extent",
    "external",
    "head",
    "inlined",
    "is_external",
    "raw",
    "stored_tensor",
    "tensor_bytes",
]


def expected_bytes(tensor: TensorProto) -> int | None:
    """Bytes that raw data of this shape and type takes; None for types without a fixed size."""
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError):
        return None
    bits = PACKED.get(tensor.data_type, 8 * dtype.itemsize)
    return None if dtype.kind == "O" else -(-math.prod(tensor.dims) * bits // 8)


#: Bits of types that share bytes; as arrays they take a byte each.
PACKED = {
    value: bits
    for bits, names in (
        (2, ("INT2", "UINT2")),
        (4, ("INT4", "UINT4", "FLOAT4E2M1")),
        (6, ("FLOAT6E2M3", "FLOAT6E3M2")),
    )
    for name, value in TensorProto.DataType.items()
    if name in names
}


def is_external(tensor: TensorProto) -> bool:
    """Whether the content lies in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


class Extent(NamedTuple):
    """Where external content lies; `ir.external_data` makes the path absolute and checks it."""

    path: str
    offset: int
    length: int | None


def extent(tensor: TensorProto) -> Extent:
    """Where the content of an external tensor lies, as the tensor says."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries["length"]) if entries.get("length") else expected_bytes(tensor)
    except ValueError as error:
        shown = [repr(entries.get(key))[:40] for key in ("offset", "length")]
        raise InputError(
            f"tensor '{tensor.name}': offset {shown[0]} and length {shown[1]} of its external data "
            "are no numbers. Export it again."
        ) from error
    return Extent(entries.get("location", ""), offset, length)


def head(tensor: TensorProto) -> TensorProto:
    """A tensor without shape and content: name, type, doc string and metadata."""
    new = TensorProto()
    for field in ("name", "data_type", "doc_string"):
        if tensor.HasField(field):
            setattr(new, field, getattr(tensor, field))
    new.metadata_props.extend(tensor.metadata_props)
    return new


def external(tensor: TensorProto, dims: Iterable[int], place: Extent) -> TensorProto:
    """`tensor` with the content that lies at `place`."""
    new = head(tensor)
    new.dims.extend(dims)
    new.data_location = TensorProto.EXTERNAL
    for key, value in zip(("location", "offset", "length"), place, strict=True):
        new.external_data.add(key=key, value=str(value))
    return new


def inlined(tensor: TensorProto) -> TensorProto:
    """The tensor itself, or a copy that holds its external content."""
    if not is_external(tensor):
        return tensor
    new = head(tensor)
    new.dims.extend(tensor.dims)
    new.raw_data = _external_bytes(tensor).tobytes()
    return new


def _external_bytes(tensor: TensorProto) -> NDArray[np.uint8]:
    place = extent(tensor)
    length = place.length or 0
    try:
        values = np.fromfile(place.path, np.uint8, length, offset=place.offset)
    except OSError as error:
        raise InputError(
            f"tensor '{tensor.name}': its file {place.path} cannot be read: {error.strerror}. Put "
            "it there, readable."
        ) from error
    if len(values) != length:
        raise InputError(
            f"tensor '{tensor.name}' needs {length} bytes at {place.offset} of {place.path}, which "
            f"ends after {len(values)} of them. The file was changed or is truncated."
        )
    return values


def array(tensor: TensorProto) -> NDArray[Any]:
    """The tensor's content in its own dtype; InputError where it does not fit its shape.

    External content is read into an array that nobody else holds.
    """
    expected = expected_bytes(tensor)
    if expected is None and tensor.data_type != TensorProto.STRING:
        raise InputError(
            f"tensor '{tensor.name}' has type {tensor.data_type}, which onnx {onnx.__version__} "
            "does not know. Install a newer onnx, or export the model again."
        )
    plain = expected is not None and tensor.data_type not in PACKED
    if is_external(tensor) and plain:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return _external_bytes(tensor).view(dtype).reshape(tuple(tensor.dims))
    tensor = inlined(tensor)
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"tensor '{tensor.name}' of shape {list(tensor.dims)} needs {expected} bytes but holds "
            f"{len(tensor.raw_data)}. The file is damaged: export it again."
        ) from error


def stored_tensor(path: Path) -> NDArray[Any]:
    """The array that a .pb file holds as a TensorProto, as ONNX's test data sets do."""
    tensor = TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        assert tensor.data_type, "it has no type"
        return array(tensor)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's DecodeError among others, which names its own classes
        why = one_line(error) if isinstance(error, (AssertionError, InputError)) else "damaged"
        raise InputError(f"{path}: not a stored tensor ({why}). Write it again.") from error


def raw(values: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes that a tensor of this content holds."""
    if onnx.helper.np_dtype_to_tensor_dtype(values.dtype) in PACKED:
        return np.frombuffer(onnx.numpy_helper.from_array(values).raw_data, np.uint8)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes of the content, zero where the type has no fixed size."""
    return expected_bytes(tensor) or 0
