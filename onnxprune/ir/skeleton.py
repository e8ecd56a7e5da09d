"""The model without its weights: for checking, shape inference and sessions that are fed weights.

Large constants become inputs, so that nothing heavy is copied, serialised or parsed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from onnxprune.errors import InputError, one_line
from onnxprune.ir import subgraphs
from onnxprune.ir.control_flow import Flat, Shape, flatten
from onnxprune.ir.graph import CONSTANT, constants, constants_of, copy_fields
from onnxprune.ir.tensors import inlined

__all__ = [
    "add_input",
    "complaint",
    "declare",
    "fed_names",
    "infer",
    "kind_of",
    "node_model",
    "one_operator",
    "open_inputs",
    "part",
    "single_node",
    "skeleton",
    "store",
    "type_of",
    "unknown_behind_foreign",
    "with_outputs",
    "without_constant_nodes",
]


def complaint(model: ModelProto) -> str:
    """Why onnx's checker refuses the graph; empty where it does not."""
    try:
        onnx.checker.check_model(skeleton(model))
    except MemoryError:
        raise
    except Exception as error:
        return one_line(error).rstrip(".")
    return ""


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
        name for name, tensor in stored.items() if name in fed or math.prod(tensor.dims) > 1024
    }
    bare.graph.node.extend(
        node
        for node in model.graph.node
        if node.op_type != CONSTANT or node.output[0] not in outside
    )
    initializers = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in initializers:
            bare.graph.input.append(_resized(value, (shapes or {}).get(value.name)))
    for tensor in model.graph.initializer:
        if tensor.name not in outside:
            bare.graph.initializer.append(inlined(tensor))
    declared = outside if model.ir_version >= 4 else outside | initializers
    bare.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, stored[name].data_type, stored[name].dims)
        for name in stored
        if name in declared
    )
    return bare


def without_constant_nodes(model: ModelProto, fed: Collection[str] = ()) -> ModelProto:
    """The skeleton with what Constant nodes hold among the stored tensors.

    Exporters write weights either way; only what is stored can be given other content. `fed` is as
    in `skeleton`.
    """
    bare = skeleton(model, fed=fed)
    held = [
        NodeProto.FromString(node.SerializeToString())
        for node in bare.graph.node
        if node.op_type == CONSTANT and node.attribute
    ]
    if not held:
        return bare
    _put_nodes(bare, [n for n in bare.graph.node if n.op_type != CONSTANT or not n.attribute])
    for node in held:
        tensor = bare.graph.initializer.add()
        tensor.CopyFrom(constants_of(node))
        tensor.name = node.output[0]
    return bare


def fed_names(model: ModelProto, bare: ModelProto) -> list[str]:
    """Constants of the model that its skeleton takes as inputs."""
    kept = {tensor.name for tensor in bare.graph.initializer}
    stored = constants(model)
    return [v.name for v in bare.graph.input if v.name in stored and v.name not in kept]


def part(
    bare: ModelProto, nodes: Sequence[NodeProto], kinds: Mapping[str, str], outputs: Iterable[str]
) -> ModelProto:
    """Some operators of a skeleton as a model of its own.

    `kinds` holds the types of its inputs as onnxruntime writes them, such as "tensor(float)"; those
    of weights are known already and may be empty.
    """
    model = ModelProto()
    copy_fields(bare, model, frozenset({"graph"}))
    model.graph.name = bare.graph.name
    model.graph.node.extend(nodes)
    read = {name for node in nodes for name in subgraphs.reads(node)}
    model.graph.initializer.extend(t for t in bare.graph.initializer if t.name in read)
    sparse = bare.graph.sparse_initializer
    model.graph.sparse_initializer.extend(t for t in sparse if t.values.name in read)
    declared = {value.name: value for value in bare.graph.input}
    for name, kind in kinds.items():
        if kind:
            model.graph.input.add(name=name).type.CopyFrom(type_of(kind))
        else:
            model.graph.input.append(declared[name])
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return model


def store(model: ModelProto, values: Mapping[str, NDArray[Any]]) -> None:
    """Put values into a model, in place of what it has under their names."""
    for tensor in [t for t in model.graph.initializer if t.name in values]:
        model.graph.initializer.remove(tensor)
    for name in sorted(values):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values[name], name))


def open_inputs(model: ModelProto, names: Iterable[str]) -> None:
    """Turn stored tensors of a model into inputs that each run brings along."""
    wanted = set(names)
    for tensor in [t for t in model.graph.initializer if t.name in wanted]:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
        model.graph.initializer.remove(tensor)


def declare(model: ModelProto, shapes: Mapping[str, Sequence[int | str]]) -> None:
    """Write shapes of inputs into the model, sizes or their names."""
    for value in model.graph.input:
        if value.name in shapes and value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
            value.type.tensor_type.shape.SetInParent()
            for size in shapes[value.name]:
                dim = value.type.tensor_type.shape.dim.add()
                if isinstance(size, int):
                    dim.dim_value = size
                else:
                    dim.dim_param = size


def kind_of(dtype: np.dtype[Any]) -> str:
    """The name that onnxruntime gives to a numpy type, such as bfloat16."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return str(onnx.TensorProto.DataType.Name(kind)).lower()


def type_of(text: str) -> onnx.TypeProto:
    """The type that onnxruntime writes as `text`: "tensor(int64)", "seq(tensor(float))"."""
    outer, _, inner = text.partition("(")
    inner = inner[:-1]
    made = onnx.TypeProto()
    if outer == "tensor":
        made.tensor_type.elem_type = onnx.TensorProto.DataType.Value(inner.upper())
    else:
        holder = made.sequence_type if outer == "seq" else made.optional_type
        holder.elem_type.CopyFrom(type_of(inner))
    return made


def _resized(value: onnx.ValueInfoProto, shape: Sequence[int] | None) -> onnx.ValueInfoProto:
    if shape is None or not value.type.HasField("tensor_type"):
        return value
    kind = value.type.tensor_type.elem_type
    return onnx.helper.make_tensor_value_info(value.name, kind, shape)


def infer(
    bare: ModelProto,
    values: Mapping[str, NDArray[Any]],
    taken: Mapping[str, bool] | None = None,
    strict: bool = False,
) -> dict[str, Shape]:
    """Shapes of a skeleton's tensors as onnx infers them; `values` replace computed constants.

    `taken` are conditions of If that always hold, or never.
    """
    for output in bare.graph.output:  # a wrong one would hide what is inferred
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    bare, flat = _flattened(bare, taken or {})
    if values:
        _put_nodes(bare, [n for n in bare.graph.node if not (n.output and n.output[0] in values)])
        for name, value in values.items():
            bare.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    known = {imported.domain for imported in bare.opset_import}
    for node in bare.graph.node:
        _stand_in(node)
        if node.domain not in known and node.domain != "ai.onnx":
            bare.opset_import.append(onnx.helper.make_opsetid(node.domain, 1))
            known.add(node.domain)
    while True:
        infos = _inferred(bare, strict)
        shapes: dict[str, Shape] = {t.name: tuple(t.dims) for t in bare.graph.initializer}
        found = {name: _shape(info) for name, info in infos.items()}
        shapes |= {name: shape for name, shape in found.items() if shape is not None}
        weaker = flat.weaker(shapes) if flat is not None else {}
        if not weaker:
            return shapes
        _assume(bare, weaker, infos)


def _flattened(bare: ModelProto, taken: Mapping[str, bool]) -> tuple[ModelProto, Flat | None]:
    """A copy with the nodes of bodies in line with all others; the same model if it has none."""
    if not any(subgraphs.is_control(node) for node in bare.graph.node):
        return bare, None
    opset = max((o.version for o in bare.opset_import if o.domain in ("", "ai.onnx")), default=0)
    flat = flatten(bare.graph, opset, taken)
    new = ModelProto()
    copy_fields(bare, new, frozenset({"graph"}))
    copy_fields(bare.graph, new.graph, frozenset({"node"}))
    _put_nodes(new, flat.nodes)
    new.graph.input.extend(flat.inputs)
    new.graph.initializer.extend(flat.constants)
    return new, flat


def _put_nodes(bare: ModelProto, nodes: Sequence[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del bare.graph.node[:]
    bare.graph.node.extend(copies)


def _inferred(bare: ModelProto, strict: bool) -> dict[str, onnx.ValueInfoProto]:
    try:
        found = onnx.shape_inference.infer_shapes(bare, strict_mode=strict, data_prop=True).graph
    except MemoryError:
        raise
    except Exception as error:
        if strict:
            raise InputError(
                f"shape inference fails: {one_line(error)}. Export the model again."
            ) from error
        found = bare.graph
    return {info.name: info for info in (*found.value_info, *found.output, *found.input)}


def _shape(info: onnx.ValueInfoProto) -> Shape | None:
    if not (info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape")):
        return None
    dims = info.type.tensor_type.shape.dim
    # unlike a declared size, one that was inferred may be 0: the tensor is empty
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims
    )


def _assume(
    bare: ModelProto,
    weaker: Mapping[str, Shape | None],
    infos: Mapping[str, onnx.ValueInfoProto],
) -> None:
    """Let tensors come from nowhere with these shapes."""
    _put_nodes(bare, [n for n in bare.graph.node if not (n.output and n.output[0] in weaker)])
    for value in [value for value in bare.graph.input if value.name in weaker]:
        bare.graph.input.remove(value)
    for name, shape in weaker.items():
        kind = infos[name].type.tensor_type.elem_type
        bare.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, shape))


#: Standard operators that onnx infers no shape for: the result has that of the first input.
_LIKE_INPUT = {
    "": {"GroupNormalization", "MeanVarianceNormalization"},
    "ai.onnx.ml": {"Imputer", "Normalizer", "Scaler"},
}


def unknown_behind_foreign(
    bare: ModelProto, shapes: Mapping[str, Sequence[int | None]]
) -> list[str]:
    """Tensors without a full shape that operators unknown to onnx make, or that depend on them."""
    found = dict[str, None]()
    for node in bare.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if not onnx.defs.has(node.op_type, domain) or any(name in found for name in node.input):
            unknown = (n for n in node.output if n and None in shapes.get(n, (None,)))
            found.update(dict.fromkeys(unknown))
    return list(found)


def with_outputs(bare: ModelProto, names: Iterable[str]) -> bytes:
    """The serialised skeleton with further tensors as outputs."""
    model = ModelProto()
    model.CopyFrom(bare)
    present = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in present)
    data: bytes = model.SerializeToString()
    return data


def _stand_in(node: NodeProto) -> None:
    """Let inference see operators that it does not know as what they are to shapes."""
    if node.op_type in _LIKE_INPUT.get(node.domain, ()):
        node.domain, node.op_type = "", "Identity"
        del node.input[1:]
        del node.attribute[:]
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


def single_node(
    op: str,
    inputs: Sequence[str],
    attrs: Mapping[str, Any],
    opset: int,
    values: Mapping[str, NDArray[Any]],
) -> tuple[bytes, list[str]]:
    """A model of one operator (`Op` or `domain:Op`) on given values, and its outputs' names."""
    domain, _, kind = op.rpartition(":")
    bare = ModelProto(ir_version=8)
    bare.opset_import.append(onnx.helper.make_opsetid("", opset))
    if domain:
        bare.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    node = onnx.helper.make_node(kind, inputs, ["out"], domain=domain, **attrs)
    return node_model(bare, [node], values)


def add_input(model: ModelProto, name: str) -> None:
    """Let a model take float32 numbers of any shape under a name."""
    float32 = onnx.TensorProto.FLOAT
    model.graph.input.append(onnx.helper.make_tensor_value_info(name, float32, None))


def one_operator(
    op: str, weights: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any], opset: int = 13
) -> bytes:
    """A model of one operator on an input `data` and stored weights."""
    model = ModelProto(ir_version=8)
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    model.graph.name = op
    model.graph.node.append(onnx.helper.make_node(op, ["data", *weights], ["result"], **attrs))
    add_input(model, "data")
    model.graph.output.append(onnx.ValueInfoProto(name="result"))
    store(model, weights)
    data: bytes = model.SerializeToString()
    return data
