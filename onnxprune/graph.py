"""The seam to onnx: reading a model, looking into it, inferring shapes, writing it.

Only this module and `surgery` import onnx. Weights stay in the ModelProto, one copy; everything
that needs no weights works on a *skeleton*, the same graph with large constants left out.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from onnxprune.errors import InputError

__all__ = [
    "SMALL",
    "Source",
    "array",
    "attributes",
    "captured",
    "check",
    "constants",
    "constants_of",
    "copy_fields",
    "fed_names",
    "graph_inputs",
    "infer",
    "input_dtype",
    "interface",
    "label",
    "load",
    "model_bytes",
    "node_model",
    "op_key",
    "save",
    "serialized_size",
    "single_node",
    "skeleton",
    "tensor_bytes",
    "walk",
]

Source = str | os.PathLike[str] | ModelProto
#: Constants up to this many elements are looked into: shapes, axes, indices, scalars.
SMALL = 65536
LIMIT = 2**31 - 1


def load(source: Source) -> ModelProto:
    """The model at a path, or a ModelProto as it is; InputError if it is no sound ONNX model."""
    if isinstance(source, ModelProto):
        model, name = source, "model"
    elif hasattr(source, "nodes") and hasattr(source, "tensors"):  # an onnx-graphsurgeon Graph
        import onnx_graphsurgeon

        model, name = onnx_graphsurgeon.export_onnx(source), "graph"
    else:
        model, name = _read(Path(source)), str(source)
    check(model, name)
    return model


def _read(path: Path) -> ModelProto:
    if not path.exists():
        raise InputError(f"{path}: no such file. Give the path of an .onnx model.")
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Give the path of an .onnx model.")
    try:
        model = onnx.load(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {_line(error)}") from error
    except Exception as error:  # protobuf's DecodeError, onnx's ValidationError for data files
        raise InputError(
            f"{path}: not an ONNX model, or truncated ({_line(error)}). Export it again."
        ) from error
    if not model.graph.node:
        raise InputError(f"{path}: not an ONNX model, or one without any operator.")
    return model


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def check(model: ModelProto, name: str) -> None:
    """Raise InputError where onnx's checker refuses the graph or a weight has the wrong size."""
    for tensor in model.graph.initializer:
        expected = _expected_bytes(tensor)
        if tensor.HasField("raw_data") and expected is not None:
            size = len(tensor.raw_data) if expected <= SMALL else None
            if size is not None and size != expected:
                raise InputError(
                    f"{name}: initializer '{tensor.name}' of shape {list(tensor.dims)} needs "
                    f"{expected} bytes but holds {size}. The file is damaged: export it again."
                )
    try:
        onnx.checker.check_model(skeleton(model))
    except Exception as error:
        raise InputError(f"{name}: onnx's checker refuses it: {_line(error)}") from error


def _expected_bytes(tensor: TensorProto) -> int | None:
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError):
        return None
    packed = tensor.data_type in _PACKED
    return None if packed else int(np.prod(tensor.dims, dtype=np.int64)) * dtype.itemsize


_PACKED = {
    value
    for name, value in TensorProto.DataType.items()
    if name in {"INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2"}
}


def save(model: ModelProto, path: Path) -> None:
    """Write atomically: the old file stays until the new one is complete."""
    folder = path.parent if str(path.parent) else Path()
    data = model_bytes(model)
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}. Choose another output."
        ) from error


def model_bytes(model: ModelProto) -> bytes:
    """The serialised model, the same bytes for the same model."""
    return model.SerializeToString(deterministic=True)


def op_key(node: NodeProto) -> str:
    """`Op` for ONNX's own operators, `domain:Op` for others."""
    own = node.domain in ("", "ai.onnx")
    return node.op_type if own else f"{node.domain}:{node.op_type}"


def label(node: NodeProto) -> str:
    """The node's name, or its first output where it has none."""
    return node.name or next((name for name in node.output if name), node.op_type)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attribute values, strings decoded; graphs and tensors are left out."""
    values = {}
    for attr in node.attribute:
        if attr.type in (attr.INT, attr.FLOAT, attr.STRING, attr.INTS, attr.FLOATS):
            value = onnx.helper.get_attribute_value(attr)
            values[attr.name] = value.decode() if isinstance(value, bytes) else value
    return values


def captured(node: NodeProto) -> set[str]:
    """Names that the node's subgraphs may read from outside."""
    graphs = [a.g for a in node.attribute if a.type == a.GRAPH]
    graphs += [g for a in node.attribute if a.type == a.GRAPHS for g in a.graphs]
    names: set[str] = set()
    for graph in graphs:
        names.update(output.name for output in graph.output)
        for inner in graph.node:
            names.update(inner.input, captured(inner))
    return names


def constants(model: ModelProto) -> dict[str, TensorProto]:
    """Initializers and the values of Constant nodes, by tensor name."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute:
            found[node.output[0]] = constants_of(node)
    return found


def constants_of(node: NodeProto) -> TensorProto:
    """The tensor that a Constant node holds; empty for strings and sparse values."""
    attr = node.attribute[0]
    if attr.name == "value":
        return attr.t
    value = onnx.helper.get_attribute_value(attr)
    kind = np.float32 if "float" in attr.name else np.int64
    if "string" in attr.name or "sparse" in attr.name:
        return TensorProto(data_type=TensorProto.STRING, dims=[0])
    return onnx.numpy_helper.from_array(np.array(value, kind), node.output[0])


def array(tensor: TensorProto) -> NDArray[Any]:
    """The tensor's content in its own dtype."""
    return onnx.numpy_helper.to_array(tensor)


def tensor_bytes(tensor: TensorProto) -> int:
    """Bytes of the content, zero where the type has no fixed size."""
    return _expected_bytes(tensor) or 0


def graph_inputs(model: ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller must feed: those without an initializer."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def input_dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """The numpy type that a graph input takes."""
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


def skeleton(
    model: ModelProto,
    shapes: Mapping[str, Sequence[int]] | None = None,
    fed: Collection[str] = (),
) -> ModelProto:
    """The model with large constants, and those named in `fed`, as mere inputs; no value_info.

    `shapes` replaces the dimensions of graph inputs.
    """
    bare = ModelProto()
    copy_fields(model, bare, frozenset({"graph"}))
    copy_fields(model.graph, bare.graph, frozenset({"initializer", "value_info", "input", "node"}))
    stored = constants(model)
    outside = {
        name
        for name, tensor in stored.items()
        if name in fed or np.prod(tensor.dims, dtype=np.int64) > 1024
    }
    bare.graph.node.extend(
        node
        for node in model.graph.node
        if node.op_type != "Constant" or node.output[0] not in outside
    )
    initializers = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in initializers:
            bare.graph.input.append(_resized(value, (shapes or {}).get(value.name)))
    for tensor in model.graph.initializer:
        if tensor.name not in outside:
            bare.graph.initializer.append(tensor)
    declared = outside if model.ir_version >= 4 else outside | initializers
    bare.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, stored[name].data_type, stored[name].dims)
        for name in stored
        if name in declared
    )
    return bare


def fed_names(model: ModelProto, bare: ModelProto) -> list[str]:
    """Constants of the model that its skeleton takes as inputs."""
    kept = {tensor.name for tensor in bare.graph.initializer}
    stored = constants(model)
    return [v.name for v in bare.graph.input if v.name in stored and v.name not in kept]


def _resized(value: onnx.ValueInfoProto, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
    if shape is None:
        return value
    kind = value.type.tensor_type.elem_type
    return onnx.helper.make_tensor_value_info(value.name, kind, shape)


def serialized_size(model: ModelProto) -> int:
    """Bytes of the model's file, without serialising its weights."""
    bare = ModelProto()
    copy_fields(model, bare, frozenset({"graph"}))
    copy_fields(model.graph, bare.graph, frozenset({"initializer"}))
    inside = bare.graph.ByteSize() + sum(_field(_tensor_size(t)) for t in model.graph.initializer)
    bare.ClearField("graph")
    return bare.ByteSize() + _field(inside)


def _tensor_size(tensor: TensorProto) -> int:
    expected = _expected_bytes(tensor)
    if not tensor.HasField("raw_data") or expected is None:
        return tensor.ByteSize()
    head = TensorProto()
    copy_fields(tensor, head, frozenset({"raw_data"}))
    return head.ByteSize() + _field(expected)


def _field(size: int) -> int:
    """A length-delimited protobuf field: tag, length, content."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size


def infer(
    bare: ModelProto, values: Mapping[str, NDArray[Any]], strict: bool = False
) -> dict[str, tuple[int | None, ...]]:
    """Shapes of a skeleton's tensors as onnx infers them; `values` replace computed constants."""
    if values:
        nodes = [n for n in bare.graph.node if not (n.output and n.output[0] in values)]
        del bare.graph.node[:]
        bare.graph.node.extend(nodes)
        for name, value in values.items():
            bare.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    for node in bare.graph.node:
        _stand_in(node)
    try:
        graph = onnx.shape_inference.infer_shapes(bare, strict_mode=strict, data_prop=True).graph
    except Exception as error:
        if strict:
            raise InputError(f"shape inference fails: {_line(error)}") from error
        graph = bare.graph
    shapes: dict[str, tuple[int | None, ...]] = {}
    for info in (*graph.value_info, *graph.output, *graph.input):
        if info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            shapes[info.name] = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    return shapes


def _stand_in(node: NodeProto) -> None:
    """Let inference see onnxruntime's fused convolution as the plain one it is to shapes."""
    if node.domain == "com.microsoft" and node.op_type == "FusedConv":
        node.domain, node.op_type = "", "Conv"
        del node.input[3:]
        for attr in [a for a in node.attribute if a.name.startswith("activation")]:
            node.attribute.remove(attr)


def node_model(
    bare: ModelProto, nodes: Iterable[NodeProto], values: Mapping[str, NDArray[Any]]
) -> tuple[bytes, list[str]]:
    """A model that computes `nodes` from constants alone, and the names of its outputs."""
    model = ModelProto(ir_version=max(bare.ir_version, 4))
    model.opset_import.extend(bare.opset_import)
    model.graph.name = "constants"
    model.graph.node.extend(nodes)
    outputs = [name for node in model.graph.node for name in node.output if name]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    needed = {name for node in model.graph.node for name in node.input} - set(outputs)
    for name in sorted(needed & values.keys()):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values[name], name))
    return model.SerializeToString(), outputs


def walk(model: ModelProto) -> Iterator[NodeProto]:
    """The top-level operators, Constant nodes left out."""
    return (node for node in model.graph.node if node.op_type != "Constant")


def single_node(
    op: str,
    inputs: Sequence[str],
    attrs: Mapping[str, Any],
    opset: int,
    values: Mapping[str, NDArray[Any]],
) -> tuple[bytes, list[str]]:
    """A model of one operator on given values, and the names of its outputs."""
    bare = ModelProto(ir_version=8)
    bare.opset_import.append(onnx.helper.make_opsetid("", opset))
    return node_model(bare, [onnx.helper.make_node(op, inputs, ["out"], **attrs)], values)


def interface(model: ModelProto) -> dict[str, str]:
    """Names of inputs and outputs with their types and declared sizes, as text."""
    found = {}
    for kind, values in (("input", graph_inputs(model)), ("output", model.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            sizes = [d.dim_param or (d.dim_value if d.HasField("dim_value") else "?")
                     for d in tensor.shape.dim]
            found[value.name] = f"{kind} of type {tensor.elem_type} and shape {sizes}"
    return found
