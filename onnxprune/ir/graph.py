"""The seam to onnx: reading a model and looking into it.

Only this module, `skeleton` and `surgery` import onnx. Weights stay in the ModelProto, one copy, or
in the external files they came in: `onnxprune.ir.external_data` says how.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from onnxprune.errors import InputError
from onnxprune.ir import subgraphs
from onnxprune.ir.tensors import (
    array,
    tensor_bytes,
)
from onnxprune.types import Read

__all__ = [
    "CONSTANT",
    "LARGE",
    "SMALL",
    "ModelProto",
    "attributes",
    "constants",
    "constants_of",
    "copy_fields",
    "declared_shapes",
    "declared_size",
    "declared_sizes",
    "graph_inputs",
    "input_dtype",
    "interface",
    "is_single",
    "label",
    "list_stored",
    "model_bytes",
    "op_key",
    "reader",
    "set_attributes",
    "shown_sizes",
    "sizes",
    "stored_bytes",
    "walk",
]

#: The operator that holds a stored tensor.
CONSTANT = "Constant"
#: Constants up to this many elements are looked into: shapes, axes, indices, scalars.
SMALL = 65536
#: Models with more bytes of weights than this are never held in memory as a whole.
LARGE = 2**28


def model_bytes(model: ModelProto) -> bytes:
    """The serialised model, the same bytes for the same model."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def op_key(node: NodeProto) -> str:
    """`Op` for ONNX's own operators, `domain:Op` for others."""
    own = node.domain in ("", "ai.onnx")
    return node.op_type if own else f"{node.domain}:{node.op_type}"


def list_stored(model: ModelProto) -> None:
    """List all that is stored among the inputs where it has to be: before IR version 4."""
    if model.ir_version >= 4:
        return
    listed = {value.name for value in model.graph.input}
    model.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
        if tensor.name not in listed
    )


def label(node: NodeProto) -> str:
    """The node's name, or its first output where it has none."""
    return node.name or next((name for name in node.output if name), node.op_type)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attribute values, strings decoded; graphs, and tensors of several elements, are left out."""
    values: dict[str, Any] = {}
    for attr in node.attribute:
        if attr.type in (attr.INT, attr.FLOAT, attr.STRING, attr.INTS, attr.FLOATS):
            value = onnx.helper.get_attribute_value(attr)
            values[attr.name] = _text(value) if isinstance(value, bytes) else value
        elif attr.type == attr.STRINGS:
            values[attr.name] = [_text(value) for value in attr.strings]
        elif attr.type == attr.TENSOR and math.prod(attr.t.dims) == 1:
            values[attr.name] = array(attr.t)
    return values


def _text(value: bytes) -> str:
    """A string attribute; operators of a user's own keep any bytes in one."""
    return value.decode(errors="replace")


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
        if node.op_type == CONSTANT and node.attribute:
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


def reader(model: ModelProto) -> Read:
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


def declared_size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """A size that a file states, None where it may vary: Paddle writes -1 for that."""
    return dim.dim_value if dim.dim_value > 0 else None


def declared_sizes(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Sizes that a file states of an input or another tensor, None where one may vary."""
    return tuple(declared_size(dim) for dim in value.type.tensor_type.shape.dim)


def is_single(value: onnx.ValueInfoProto) -> bool:
    """Whether an input is a single number, without axes."""
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and not tensor.shape.dim


def shown_sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    """Declared sizes as messages show them: a number, the name of one that varies, or "?"."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_param or declared_size(dim) or "?" for dim in dims]


def declared_shapes(model: ModelProto) -> dict[str, tuple[int | None, ...]]:
    """Shapes that the file states for tensors that nodes make, None where a size may vary."""
    return {
        info.name: declared_sizes(info)
        for graph in subgraphs.graphs(model.graph)
        for info in (*graph.value_info, *graph.output)
        if info.type.tensor_type.HasField("shape")
    }


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
        raise InputError(
            f"input '{value.name}' is no tensor, so the model cannot be fed here: "
            "export it with tensors as inputs"
        )
    number = value.type.tensor_type.elem_type
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"input '{value.name}' has type {number}, which onnx {onnx.__version__} does not know. "
            "Install a newer onnx, or export the model again."
        ) from error


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
    return (node for node in subgraphs.nodes(model.graph) if node.op_type != CONSTANT)


def interface(model: ModelProto) -> dict[str, str]:
    """Names of inputs and outputs with their types and declared sizes, as text."""
    found = {}
    for kind, values in (("input", graph_inputs(model)), ("output", model.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            found[value.name] = f"{kind} of type {tensor.elem_type} and shape {shown_sizes(value)}"
    return found
