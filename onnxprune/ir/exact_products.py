"""Let products of bytes be exact on every processor.

Kernels for processors with AVX2 but without VNNI multiply unsigned by signed bytes and add each
two neighbouring products in 16 bits, which saturates: a sum then depends on who is whose neighbour,
and 2 · 255 · 127 is not 64,770 but 32,767. Of unsigned bytes alone the products are widened first.
So the signed factor, and its zero point, are shifted by 128: the differences to the zero point, and
the sums, are the same numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto

from onnxprune.ir import graph, runtime, skeleton, subgraphs
from onnxprune.ir.result_kinds import element_types
from onnxprune.types import Pairs, Quantized

__all__ = ["exact", "exact_where_needed", "has_pairs", "saturates"]

SIGNED, UNSIGNED = onnx.TensorProto.INT8, onnx.TensorProto.UINT8
#: What a shift adds, as a stored tensor, and the unsigned zero point of a factor that had none.
OFFSET, ZERO = "unsigned/offset", "unsigned/zero"
#: Rows and columns of the product that shows whether this processor saturates: kernels for one row
#: and for several differ.
PROBES = ((1, 64, 32), (4, 64, 32))


@cache
def saturates() -> bool:
    """Find out, by computing a product of bytes, whether this processor saturates pairs."""
    return any(not np.array_equal(*_product(*sizes)) for sizes in PROBES)


def _product(rows: int, depth: int, columns: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What onnxruntime gives for the largest bytes, and the exact product."""
    weight = np.full((depth, columns), 127, np.int8)
    node = onnx.helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    x, y = (
        onnx.helper.make_tensor_value_info(name, kind, (rows, size))
        for name, kind, size in (("x", UNSIGNED, depth), ("y", onnx.TensorProto.INT32, columns))
    )
    stored = onnx.numpy_helper.from_array(weight, "w")
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "product", [x], [y], [stored]),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
        ir_version=8,
    )
    data = np.full((rows, depth), 255, np.uint8)
    session = runtime.open_session(graph.model_bytes(model))
    exactly = data.astype(np.int64) @ weight.astype(np.int64)
    return runtime.run(session, {"x": data})["y"], exactly


def has_pairs(model: ModelProto, pairs: Mapping[str, Sequence[Pairs]]) -> bool:
    """Say whether an operator of the model multiplies bytes in pairs."""
    return any(graph.op_key(node) in pairs for node in subgraphs.nodes(model.graph))


def exact(
    model: ModelProto, pairs: Mapping[str, Sequence[Pairs]], decoders: Collection[str] = ()
) -> ModelProto:
    """Shift the signed factor of every product with unsigned bytes; the model is changed in place.

    Args:
        model: with its weights, or a skeleton.
        pairs: operators that multiply bytes in pairs, and where their factors lie.
        decoders: those of them that only make reals of bytes; they count if all they read is
            stored, since onnxruntime joins them with the layer behind them then.

    Returns:
        The same model, which computes the same numbers.
    """
    if not has_pairs(model, pairs):
        return model
    kinds, stored = element_types(model), graph.constants(model).keys()
    changed = False
    for inner in list(subgraphs.graphs(model.graph)):
        nodes = list[NodeProto]()
        for node in inner.node:
            for at in pairs.get(graph.op_key(node), ()):
                if graph.op_key(node) not in decoders or stored >= set(node.input):
                    nodes += _unsigned(node, at, kinds)
            nodes.append(node)
        if len(nodes) > len(inner.node):
            changed = True
            _put(inner, nodes)
    return _with_constants(model) if changed else model


def exact_where_needed(
    model: ModelProto, pairs: Mapping[str, Sequence[Pairs]], decoders: Collection[str]
) -> ModelProto:
    """The model, or a copy with exact products where this processor saturates.

    Elsewhere products with signed bytes are as exact, and faster.
    """
    if not (has_pairs(model, pairs) and saturates()):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    return exact(copy, pairs, decoders)


def _unsigned(node: NodeProto, at: Pairs, kinds: Mapping[str, int]) -> list[NodeProto]:
    """Let a node read its signed factor and zero point shifted; what computes them."""
    factor, data = at
    if kinds.get(_input(node, factor.input)) != SIGNED or _kind(node, data, kinds) == SIGNED:
        return []
    key = next(name for name in node.output if name)
    added = list[NodeProto]()
    for index in (factor.input, factor.zero_point or 0):
        name = _input(node, index)
        if not name:
            node.input.extend([""] * (index + 1 - len(node.input)))
            node.input[index] = ZERO
            continue
        wide, moved, made = (f"{key}/unsigned/{index}.{step}" for step in range(3))
        added += [
            _cast(name, wide, onnx.TensorProto.INT32),
            onnx.helper.make_node("Add", [wide, OFFSET], [moved]),
            _cast(moved, made, UNSIGNED),
        ]
        node.input[index] = made
    return added


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], to=kind)


def _kind(node: NodeProto, data: Quantized | None, kinds: Mapping[str, int]) -> int:
    """The type of what is multiplied with the factor; reals are made unsigned bytes."""
    if data is None:
        return UNSIGNED
    zero = "" if data.zero_point is None else _input(node, data.zero_point)
    # products of signed bytes are exact, and some operators take no others: unknown stays
    return kinds.get(zero) or kinds.get(_input(node, data.input)) or SIGNED


def _input(node: NodeProto, index: int) -> str:
    return str(node.input[index]) if index < len(node.input) else ""


def _put(inner: GraphProto, nodes: Sequence[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del inner.node[:]
    inner.node.extend(copies)


def _with_constants(model: ModelProto) -> ModelProto:
    """Store what shifts add, though it is no input: models before version 4 list all they store."""
    model.ir_version = max(model.ir_version, 4)
    skeleton.store(model, {OFFSET: np.array(128, np.int32), ZERO: np.array(128, np.uint8)})
    return model
