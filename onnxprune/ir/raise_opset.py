"""Write a model for a later version of operators, where each of its own takes what it says.

A newer definition may take more types, have more attributes, or read as an input what was an
attribute of the same name. Everything else that changed is refused. Whether an operator that takes
the same also computes the same is to be seen by running both models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto

from onnxprune.ir import graph, subgraphs

__all__ = ["raised"]

_OWN = ("", "ai.onnx")
#: Types of attributes that can become inputs, and of their numbers.
_KINDS = {AttributeProto.INTS: np.int64, AttributeProto.INT: np.int64}


class _Move(NamedTuple):
    """An attribute that becomes an input: its name, and the number of the input."""

    name: str
    place: int


def raised(model: ModelProto, least: int) -> ModelProto | None:
    """The model for operators of at least a version; None where some mean something else there."""
    now = max((o.version for o in model.opset_import if o.domain in _OWN), default=1)
    if now >= least:
        return model
    new = ModelProto()
    new.CopyFrom(model)
    own = [node for node in subgraphs.nodes(new.graph) if node.domain in _OWN]
    moves = [_moves(node, now, least) for node in own]
    if model.functions or any(found is None for found in moves):
        return None
    for node, found in zip(own, moves, strict=True):
        for move in found or ():
            _move(new, node, move)
    for opset in new.opset_import:
        if opset.domain in _OWN:
            opset.version = least
    new.ir_version = max(new.ir_version, 8)
    graph.list_stored(new)
    return new


def _moves(node: NodeProto, now: int, least: int) -> Sequence[_Move] | None:
    """What becomes an input of a node; None where its operator takes something else later."""
    try:
        old, new = (onnx.defs.get_schema(node.op_type, version, "") for version in (now, least))
    except onnx.defs.SchemaError:
        return None
    if old.since_version == new.since_version:
        return ()
    places = {value.name: k for k, value in enumerate(new.inputs)}
    gone = [a for a in node.attribute if a.name not in new.attributes]
    moves = [_Move(a.name, places[a.name]) for a in gone if a.name in places and a.type in _KINDS]
    defaults = {pair for pair in _defaults(old) if pair[0] not in places}
    free = all(move.place >= len(node.input) for move in moves)
    last = max((move.place + 1 for move in moves), default=len(node.input))
    fits = new.min_input <= last <= new.max_input and defaults <= _defaults(new)
    return moves if len(moves) == len(gone) and free and fits and not new.deprecated else None


def _defaults(schema: Any) -> set[tuple[str, str]]:
    """Attributes that may be left out, and what they are then."""
    return {
        (name, str(attribute.default_value))
        for name, attribute in schema.attributes.items()
        if not attribute.required
    }


def _move(model: ModelProto, node: NodeProto, move: _Move) -> None:
    """Store what an attribute of a node says, and let the node read it."""
    (attribute,) = (a for a in node.attribute if a.name == move.name)
    values = np.array(onnx.helper.get_attribute_value(attribute), _KINDS[attribute.type])
    name = f"{node.output[0]}_{move.name}"
    while name in graph.constants(model):
        name += "_"
    node.attribute.remove(attribute)
    while len(node.input) <= move.place:
        node.input.append("")
    node.input[move.place] = name
    model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
