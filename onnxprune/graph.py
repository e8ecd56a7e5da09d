"""The seam to onnx: reading a model and looking into it.

Only this module, `skeleton` and `surgery` import onnx. Weights stay in the ModelProto, one copy, or
in the external files they came in: `onnxprune.external` says how.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from onnxprune import bodies
from onnxprune.errors import InputError

__all__ = [
    "LARGE",
    "PACKED",
    "SMALL",
    "Extent",
    "ModelProto",
    "Reader",
    "Source",
    "array",
    "attributes",
    "constants",
    "constants_of",
    "copy_fields",
    "declared_shapes",
    "expected_bytes",
    "extent",
    "external",
    "graph_inputs",
    "head",
    "inlined",
    "input_dtype",
    "interface",
    "is_external",
    "label",
    "load",
    "model_bytes",
    "one_line",
    "op_key",
    "raw",
    "reader",
    "set_attributes",
    "sizes",
    "stored_bytes",
    "stored_tensor",
    "tensor_bytes",
    "walk",
]

Source = str | os.PathLike[str] | ModelProto
#: Constants up to this many elements are looked into: shapes, axes, indices, scalars.
SMALL = 65536
#: Models with more bytes of weights than this are never held in memory as a whole.
LARGE = 2**28
Reader: TypeAlias = Callable[[str], NDArray[Any] | None]


def load(source: Source) -> ModelProto:
    """The model at a path, or a ModelProto as it is; InputError if it cannot be read."""
    if isinstance(source, ModelProto):
        model = source
    elif hasattr(source, "nodes") and hasattr(source, "tensors"):  # an onnx-graphsurgeon Graph
        import onnx_graphsurgeon

        model = onnx_graphsurgeon.export_onnx(source)
    else:
        model = _read(Path(source))
    return model


def _read(path: Path) -> ModelProto:
    if not path.exists():
        raise InputError(f"{path}: no such file. Give the path of an .onnx model.")
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Give the path of an .onnx model.")
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {one_line(error)}") from error
    except Exception as error:  # protobuf's DecodeError
        raise InputError(
            f"{path}: not an ONNX model, or truncated ({one_line(error)}). Export it again."
        ) from error
    if not model.graph.node:
        raise InputError(f"{path}: not an ONNX model, or one without any operator.")
    return model


def one_line(error: BaseException) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())[:300] or type(error).__name__


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


def model_bytes(model: ModelProto) -> bytes:
    """The serialised model, the same bytes for the same model."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def op_key(node: NodeProto) -> str:
    """`Op` for ONNX's own operators, `domain:Op` for others."""
    own = node.domain in ("", "ai.onnx")
    return node.op_type if own else f"{node.domain}:{node.op_type}"


def label(node: NodeProto) -> str:
    """The node's name, or its first output where it has none."""
    return node.name or next((name for name in node.output if name), node.op_type)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attribute values, strings decoded; graphs, and tensors of several elements, are left out."""
    values: dict[str, Any] = {}
    for attr in node.attribute:
        if attr.type in (attr.INT, attr.FLOAT, attr.STRING, attr.INTS, attr.FLOATS):
            value = onnx.helper.get_attribute_value(attr)
            values[attr.name] = value.decode() if isinstance(value, bytes) else value
        elif attr.type == attr.STRINGS:
            values[attr.name] = [value.decode() for value in attr.strings]
        elif attr.type == attr.TENSOR and math.prod(attr.t.dims) == 1:
            values[attr.name] = array(attr.t)
    return values


def set_attributes(node: NodeProto, attrs: Mapping[str, Any]) -> None:
    """Replace attributes of a node; None deletes."""
    for name, value in attrs.items():
        old = next((a for a in node.attribute if a.name == name), None)
        if old is not None:
            node.attribute.remove(old)
        if value is not None:
            node.attribute.append(onnx.helper.make_attribute(name, value))


def constants(model: ModelProto) -> dict[str, TensorProto]:
    """Initializers and the values of Constant nodes, by tensor name."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute:
            found[node.output[0]] = constants_of(node)
    return found


def constants_of(node: NodeProto) -> TensorProto:
    """The tensor that a Constant node holds; empty for sparse values."""
    attr, name = node.attribute[0], node.output[0]
    if attr.name == "value":
        held: TensorProto = attr.t
        return held
    if attr.name == "sparse_value":
        return TensorProto(data_type=TensorProto.STRING, dims=[0])
    value = onnx.helper.get_attribute_value(attr)
    if "string" in attr.name:
        several = [value] if attr.name == "value_string" else value
        dims = [] if attr.name == "value_string" else [len(value)]
        return onnx.helper.make_tensor(name, TensorProto.STRING, dims, several)
    kind = np.float32 if "float" in attr.name else np.int64
    return onnx.numpy_helper.from_array(np.array(value, kind), name)


def is_external(tensor: TensorProto) -> bool:
    """Whether the content lies in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


class Extent(NamedTuple):
    """Where external content lies; `onnxprune.external` makes the path absolute and checks it."""

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
        raise InputError(
            f"tensor '{tensor.name}': offset {entries.get('offset')!r} and length "
            f"{entries.get('length')!r} of its external data are no numbers. Export it again."
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
            f"tensor '{tensor.name}': its file {place.path} cannot be read: {error.strerror}"
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
    plain = expected_bytes(tensor) is not None and tensor.data_type not in PACKED
    if is_external(tensor) and plain:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return _external_bytes(tensor).view(dtype).reshape(tuple(tensor.dims))
    tensor = inlined(tensor)
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"tensor '{tensor.name}' of shape {list(tensor.dims)} needs {expected_bytes(tensor)} "
            f"bytes but holds {len(tensor.raw_data)}. The file is damaged: export it again."
        ) from error


def stored_tensor(path: Path) -> NDArray[Any]:
    """The array that a .pb file holds as a TensorProto, as ONNX's test data sets do."""
    tensor = TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        assert tensor.data_type, "it has no type"
        return array(tensor)
    except Exception as error:  # protobuf's DecodeError among others
        raise InputError(f"{path}: not a stored tensor ({one_line(error)})") from error


def raw(values: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes that a tensor of this content holds."""
    if onnx.helper.np_dtype_to_tensor_dtype(values.dtype) in PACKED:
        return np.frombuffer(onnx.numpy_helper.from_array(values).raw_data, np.uint8)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def reader(model: ModelProto) -> Reader:
    """Content of a stored tensor by name, None for others.

    Each is taken out of the model once, and is read-only, unless the model is `LARGE`: then every
    call reads it anew, and an array that can be written to is the caller's own.
    """
    tensors = constants(model)

    def read(name: str) -> NDArray[Any] | None:
        return array(tensors[name]) if name in tensors else None

    @cache
    def once(name: str) -> NDArray[Any] | None:
        values = read(name)
        if values is not None:
            values.setflags(write=False)
        return values

    return read if stored_bytes(model) > LARGE else once


def declared_shapes(model: ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes that the file states for tensors that nodes make, None where a size may vary."""
    return {
        info.name: tuple(
            d.dim_value if d.HasField("dim_value") else None
            for d in info.type.tensor_type.shape.dim
        )
        for graph in bodies.graphs(model.graph)
        for info in (*graph.value_info, *graph.output)
        if info.type.tensor_type.HasField("shape")
    }


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes of the content, zero where the type has no fixed size."""
    return expected_bytes(tensor) or 0


def stored_bytes(model: ModelProto) -> int:
    """Bytes of all weights."""
    return sum(sizes(model).values())


def sizes(model: ModelProto) -> dict[str, int]:
    """Bytes of every stored tensor."""
    return {name: tensor_bytes(tensor) for name, tensor in constants(model).items()}


def graph_inputs(model: ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller must feed: those without an initializer."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def input_dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """The numpy type that a graph input takes; InputError for what is no tensor."""
    if not value.type.HasField("tensor_type"):
        raise InputError(f"input '{value.name}' is no tensor, so the model cannot be fed here")
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def copy_fields(source: Any, target: Any, skip: frozenset[str]) -> None:
    """Copy every set field of a message but `skip`: whatever onnx adds later survives too."""
    for descriptor, value in source.ListFields():
        if descriptor.name in skip:
            continue
        if descriptor.is_repeated:
            getattr(target, descriptor.name).extend(value)
        elif descriptor.message_type is not None:
            getattr(target, descriptor.name).CopyFrom(value)
        else:
            setattr(target, descriptor.name, value)


def walk(model: ModelProto) -> Iterator[NodeProto]:
    """All operators, those of bodies before the one they belong to; Constant nodes left out."""
    return (node for node in bodies.nodes(model.graph) if node.op_type != "Constant")


def interface(model: ModelProto) -> dict[str, str]:
    """Names of inputs and outputs with their types and declared sizes, as text."""
    found = {}
    for kind, values in (("input", graph_inputs(model)), ("output", model.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            sizes = [
                d.dim_param or (d.dim_value if d.HasField("dim_value") else "?")
                for d in tensor.shape.dim
            ]
            found[value.name] = f"{kind} of type {tensor.elem_type} and shape {sizes}"
    return found
