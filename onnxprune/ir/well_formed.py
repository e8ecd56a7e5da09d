"""Refuse a model whose stored tensors cannot be what they say, before anything reads them.

What a tensor holds must fit its type and shape. All of it is counted, nothing copied, so that a
good model costs microseconds a tensor. External content is checked by `external_data`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from onnxprune.errors import InputError
from onnxprune.ir import subgraphs, tensors
from onnxprune.ir.graph import CONSTANT, label

__all__ = ["check"]

#: Largest rank that numpy has in all its versions.
RANK = 32
#: Sparse weights that are written dense must fit into a protobuf message.
DENSE = 2**31


def check(model: ModelProto) -> None:
    """Check every stored tensor, in attributes, bodies and functions too.

    Raises:
        InputError: an opset or a type that cannot be, an impossible size, or content that does
            not fit.
    """
    for imported in model.opset_import:
        if not 0 < imported.version < 2**31:
            raise InputError(
                f"the model imports opset {imported.version} of domain "
                f"'{imported.domain or 'ai.onnx'}'. Export the model again."
            )
    for tensor in _graph_tensors(model.graph):
        _tensor(tensor)
    for node in subgraphs.nodes(model.graph):
        _attributes(node)
    for function in model.functions:
        for node in function.node:
            for tensor in _node_tensors(node):
                _tensor(tensor)


#: What a Constant may hold, and as which type.
_HELD = {
    "value": AttributeProto.TENSOR,
    "sparse_value": AttributeProto.SPARSE_TENSOR,
    "value_int": AttributeProto.INT,
    "value_ints": AttributeProto.INTS,
    "value_float": AttributeProto.FLOAT,
    "value_floats": AttributeProto.FLOATS,
    "value_string": AttributeProto.STRING,
    "value_strings": AttributeProto.STRINGS,
}


def _attributes(node: NodeProto) -> None:
    """Refuse a node that takes an attribute from a function and is in none, or a bad Constant."""
    held = [(attr.name, attr.type) for attr in node.attribute]
    fits = len(node.output) == len(held) == 1 and _HELD.get(held[0][0]) == held[0][1]
    if node.op_type == CONSTANT and node.domain in ("", "ai.onnx") and not fits:
        raise InputError(
            f"node '{label(node)}' (Constant) must hold one value and "
            "make one tensor. The file is damaged: export it again."
        )
    for attr in node.attribute:
        if attr.ref_attr_name:
            raise InputError(
                f"node '{label(node)}' takes its attribute '{attr.name}' from "
                f"'{attr.ref_attr_name}' of a function, but is in none. Export the model again."
            )


def _graph_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from _sparse(sparse)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: NodeProto) -> Iterator[TensorProto]:
    for attr in node.attribute:
        if attr.type == attr.TENSOR:
            yield attr.t
        elif attr.type == attr.GRAPH:
            yield from _graph_tensors(attr.g)
        elif attr.type == attr.SPARSE_TENSOR:
            yield from _sparse(attr.sparse_tensor)
        yield from attr.tensors
        for inner in attr.graphs:
            yield from _graph_tensors(inner)


def _sparse(sparse: onnx.SparseTensorProto) -> Iterator[TensorProto]:
    dims = list(sparse.dims)
    if min(dims, default=0) < 0 or math.prod(dims) > DENSE:
        raise InputError(
            f"sparse tensor '{sparse.values.name}' has shape {dims}, which cannot be written "
            f"dense in {DENSE} bytes. The file is damaged: export it again."
        )
    yield from (sparse.values, sparse.indices)


def _tensor(tensor: TensorProto) -> None:
    """Refuse one tensor whose type, shape or content cannot be."""
    dims = list(tensor.dims)
    if min(dims, default=0) < 0 or len(dims) > RANK or math.prod(d or 1 for d in dims) >= 2**59:
        raise InputError(
            f"tensor '{tensor.name}' has the impossible shape {dims[:RANK]}. The file is damaged: "
            "export it again."
        )
    expected = tensors.expected_bytes(tensor)
    if expected is None and tensor.data_type != TensorProto.STRING:
        raise InputError(
            f"tensor '{tensor.name}' has type {tensor.data_type}, which onnx {onnx.__version__} "
            "does not know. Install a newer onnx, or export the model again."
        )
    if tensors.is_external(tensor):
        return
    if tensor.HasField("raw_data") and expected is not None:
        _counted(tensor, expected, len(tensor.raw_data), "bytes")
    elif tensor.data_type in tensors.PACKED:
        tensors.array(tensor)
    else:
        field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
        parts = 2 if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else 1
        _counted(
            tensor, math.prod(dims) * parts, len(getattr(tensor, field)), f"entries of {field}"
        )


def _counted(tensor: TensorProto, needed: int, held: int, what: str) -> None:
    if needed != held:
        raise InputError(
            f"tensor '{tensor.name}' of shape {list(tensor.dims)} needs {needed} {what} but holds "
            f"{held}. The file is damaged: export it again."
        )
