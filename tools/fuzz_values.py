"""Mutations of what a model holds: attributes, sizes, types, weights and where these lie."""

from __future__ import annotations

import struct
from random import Random
from typing import Any

import numpy as np
from fuzz_graphs import Mutation, graphs_of, mutation, nodes_of, pick
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

__all__ = ["VALUES", "tensors_of"]

VALUES: dict[str, Mutation] = {}
#: Integers that stand where a size, an axis or a count is expected.
INTEGERS = (-1, 0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63), -7)
FLOATS = (0.0, -0.0, 1e-45, 1e38, -1.0, float("nan"), float("inf"), float("-inf"))
TYPES = (-1, 0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 14, 16, 17, 21, 23, 25, 99, 2**31 - 1)
LOCATIONS = ("..", "../secret.bin", "a/../../x", "/etc/hostname", "/dev/zero", "", "missing.bin",
             "we\0ights", "weights.bin\0", ".", "model.onnx", "C:\\x", "weights.bin/", "x" * 300,
             "~/x", "\n", "é.bin")  # fmt: skip


def tensors_of(model: ModelProto) -> list[TensorProto]:
    """All stored tensors."""
    held = [t for graph in graphs_of(model.graph) for t in graph.initializer]
    held += [s.values for graph in graphs_of(model.graph) for s in graph.sparse_initializer]
    attrs = [attr for node in nodes_of(model) for attr in node.attribute]
    return held + [attr.t for attr in attrs if attr.type == AttributeProto.TENSOR]


@mutation(VALUES)
def attribute_value(model: ModelProto, rng: Random) -> None:
    attr = pick(rng, (a for n in nodes_of(model) for a in n.attribute))
    if attr is None:
        return
    if attr.type == AttributeProto.INT:
        attr.i = rng.choice(INTEGERS)
    elif attr.type == AttributeProto.INTS and len(attr.ints):
        attr.ints[rng.randrange(len(attr.ints))] = rng.choice(INTEGERS)
    elif attr.type == AttributeProto.FLOAT:
        attr.f = rng.choice(FLOATS)
    elif attr.type == AttributeProto.STRING:
        attr.s = rng.choice([b"", b"\xff\xfe", b"nonsense", b"SAME_UPPER", b"\0", b"b" * 2000])
    elif attr.type == AttributeProto.TENSOR:
        attr.t.dims[:] = [rng.choice(INTEGERS)]


@mutation(VALUES)
def attribute_list(model: ModelProto, rng: Random) -> None:
    """A list that is too short, too long or empty."""
    attr = pick(rng, (a for n in nodes_of(model) for a in n.attribute if a.ints))
    if attr is not None:
        attr.ints[:] = rng.choice(
            [[], attr.ints[:1], [*attr.ints, *attr.ints], [*attr.ints, 0], attr.ints[::-1]]
        )


@mutation(VALUES)
def attribute_kind(model: ModelProto, rng: Random) -> None:
    """Another type, no type, another name, or twice."""
    node = pick(rng, (n for n in nodes_of(model) if n.attribute))
    if node is None:
        return
    attr = rng.choice(list(node.attribute))
    what = rng.choice(["type", "name", "twice", "none", "whole", "reference"])
    if what == "type":
        attr.type = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
    elif what == "name":
        attr.name = rng.choice(["", "axis", "perm", "group", "to", "nonsense"])
    elif what == "twice":
        node.attribute.add().CopyFrom(attr)
    elif what == "none":
        node.attribute.remove(attr)
    elif what == "reference":
        attr.ref_attr_name = "elsewhere"
    else:
        value: Any = rng.choice([[1.5], "text", 3, [1, 2, 3, 4, 5], 0.5, ["a"]])
        attr.CopyFrom(helper.make_attribute(attr.name or "axis", value))


@mutation(VALUES)
def attribute_added(model: ModelProto, rng: Random) -> None:
    """An attribute that the operator may have, with an extreme value."""
    node = rng.choice(nodes_of(model))
    name = rng.choice(["axis", "group", "to", "keepdims", "num_heads", "hidden_size", "blocksize",
                       "dilations", "strides", "pads", "kernel_shape", "perm", "alpha",
                       "auto_pad", "axes", "num_outputs", "block_size", "bits"])  # fmt: skip
    many = rng.random() < 0.4
    value = [rng.choice(INTEGERS) for _ in range(rng.choice([1, 2, 4]))] if many else None
    node.attribute.append(helper.make_attribute(name, value or rng.choice(INTEGERS)))


@mutation(VALUES)
def tensor_dims(model: ModelProto, rng: Random) -> None:
    tensor = pick(rng, tensors_of(model))
    if tensor is not None:
        dims = list(tensor.dims)
        if dims and rng.random() < 0.7:
            dims[rng.randrange(len(dims))] = rng.choice(INTEGERS)
        else:
            dims = rng.choice([[], [*dims, 1], dims[:-1], dims[::-1], [0, *dims], [2**40] * 3])
        tensor.dims[:] = dims


@mutation(VALUES)
def interface_dims(model: ModelProto, rng: Random) -> None:
    graph = model.graph
    value = pick(rng, (*graph.input, *graph.output, *graph.value_info))
    if value is None:
        return
    kind = value.type.tensor_type
    what = rng.choice(["size", "size", "rank", "unknown", "type", "sequence", "none", "name"])
    if what == "size" and kind.shape.dim:
        kind.shape.dim[rng.randrange(len(kind.shape.dim))].dim_value = rng.choice(INTEGERS)
    elif what == "rank":
        kind.shape.dim.add().dim_value = rng.choice(INTEGERS)
    elif what == "unknown":
        kind.ClearField("shape")
    elif what == "type":
        kind.elem_type = rng.choice(TYPES)
    elif what == "sequence":
        value.type.sequence_type.elem_type.tensor_type.elem_type = rng.choice([1, 7, 99])
    elif what == "name":
        value.name = rng.choice(["", "a\nb", "alive/x/0", "labels", "n" * 3000])
    else:
        value.ClearField("type")


@mutation(VALUES)
def tensor_type(model: ModelProto, rng: Random) -> None:
    tensor = pick(rng, tensors_of(model))
    if tensor is not None:
        tensor.data_type = rng.choice(TYPES)


@mutation(VALUES)
def tensor_content(model: ModelProto, rng: Random) -> None:
    """Raw data too short or too long, none, or in a field of another type."""
    tensor = pick(rng, tensors_of(model))
    if tensor is None:
        return
    raw = tensor.raw_data
    what = rng.choice(["short", "long", "none", "field", "both", "typed"])
    if what == "short":
        tensor.raw_data = raw[: rng.randrange(len(raw))] if raw else b"\1"
    elif what == "long":
        tensor.raw_data = raw + bytes(rng.choice([1, 4, 8, 1000]))
    elif what == "none":
        tensor.ClearField("raw_data")
    elif what == "both":
        tensor.float_data.append(1.0)
    else:
        values = list(struct.unpack(f"<{len(raw) // 4}f", raw[: len(raw) // 4 * 4]))
        tensor.ClearField("raw_data")
        if what == "typed":  # as many as there are, or one less
            tensor.float_data.extend(values[: len(values) - rng.choice([0, 1])])
        else:
            getattr(tensor, rng.choice(["int32_data", "int64_data", "uint64_data"])).append(1)


@mutation(VALUES)
def weights(model: ModelProto, rng: Random) -> None:
    """Weights that are no numbers, without end, huge or tiny, one or all."""
    tensor = pick(rng, (t for t in model.graph.initializer if t.data_type in (1, 10, 11)))
    if tensor is not None:
        values = numpy_helper.to_array(tensor).copy()
        chosen = rng.choice(FLOATS)
        with np.errstate(all="ignore"):
            if rng.random() < 0.5 or not values.size:
                values[...] = chosen
            else:
                values.reshape(-1)[rng.randrange(values.size)] = chosen
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@mutation(VALUES)
def integers(model: ModelProto, rng: Random) -> None:
    """Stored shapes, axes and indices."""
    tensor = pick(rng, (t for t in tensors_of(model) if t.data_type in (6, 7)))
    if tensor is not None:
        try:
            values = numpy_helper.to_array(tensor).astype(np.int64)
        except ValueError:  # another mutation has damaged it already
            return
        if values.size:
            values.reshape(-1)[rng.randrange(values.size)] = rng.choice(INTEGERS)
        if tensor.data_type == TensorProto.INT64:
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@mutation(VALUES)
def scales(model: ModelProto, rng: Random) -> None:
    """Scales and zero points of quantised operators: wrong numbers, shapes or types."""
    at = {
        "QuantizeLinear": (1, 2),
        "DequantizeLinear": (1, 2),
        "QLinearConv": (1, 2, 4, 5, 6, 7),
        "QLinearMatMul": (1, 2, 4, 5, 6, 7),
        "MatMulInteger": (2, 3),
        "ConvInteger": (2, 3),
    }
    names = {
        node.input[k]
        for node in nodes_of(model)
        for k in at.get(node.op_type, ())
        if k < len(node.input)
    }
    tensor = pick(rng, (t for t in model.graph.initializer if t.name in names))
    if tensor is None:
        weights(model, rng)
        return
    what = rng.choice(["value", "shape", "type"])
    if what == "type":
        tensor.data_type = rng.choice(TYPES)
    elif what == "shape":
        shape = rng.choice([(), (1,), (2,), (0,), (1, 1), (1000,)])
        values = np.full(shape, 1, numpy_helper.to_array(tensor).dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    else:
        values = numpy_helper.to_array(tensor).copy()
        values[...] = rng.choice(FLOATS) if values.dtype.kind == "f" else rng.choice([0, 1, 127])
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


@mutation(VALUES)
def external_entries(model: ModelProto, rng: Random) -> None:
    """Where external content lies: location, offset, length."""
    tensor = pick(rng, tensors_of(model))
    if tensor is None:
        return
    if tensor.data_location != TensorProto.EXTERNAL:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
    key = rng.choice(["location", "location", "offset", "length"])
    numbers = ("-1", "0", "x", "", str(2**31), str(2**70), "1e3", "9" * 5000, "\u0665", " 4 ")
    value = rng.choice(LOCATIONS if key == "location" else numbers)
    for entry in [entry for entry in tensor.external_data if entry.key == key]:
        tensor.external_data.remove(entry)
    if rng.random() < 0.95:
        tensor.external_data.add(key=key, value=value)


@mutation(VALUES)
def annotations(model: ModelProto, rng: Random) -> None:
    """Quantisation notes and sparse tensors that fit nothing."""
    if rng.random() < 0.3:
        note = model.graph.quantization_annotation.add(tensor_name="nowhere")
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="nowhere")
        return
    tensor = pick(rng, model.graph.initializer)
    if tensor is not None:
        sparse = model.graph.sparse_initializer.add()
        sparse.dims[:] = rng.choice([list(tensor.dims), [2**40], [-1], [], [0]])
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), tensor.name))
        indices = rng.choice([[0, 1, 2], [0, 0, 0], [-1, 0, 2**40], [5]])
        sparse.indices.CopyFrom(numpy_helper.from_array(np.array(indices), ""))
        model.graph.initializer.remove(tensor)
