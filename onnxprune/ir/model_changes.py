"""Tell what changed between two models, node by node and weight by weight.

Nodes are paired by `ir.node_pairs`. Names of nodes and of tensors inside the graph do not count:
tensors are the same if paired nodes make them, weights if paired nodes read them at the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from onnxprune.ir import graph, subgraphs, tensors
from onnxprune.ir.node_pairs import node_pairs

__all__ = ["Link", "ModelChanges", "NodeChange", "NodeName", "WeightChange", "model_changes"]

#: Integers up to this many are shown in full: shapes, axes.
SHOWN = 8


class WeightChange(NamedTuple):
    """A stored tensor of two models: as text what it is, None where there is none.

    `before` and `after` are shapes, with the type where that changed and the numbers of short lists
    of integers; they are equal where only the numbers differ. `bytes` are those of both.
    """

    name: str
    before: str | None
    after: str | None
    bytes: tuple[int, int]


class Link(NamedTuple):
    """An input of a node that comes from somewhere else: its number, and both tensors."""

    number: int
    before: str
    after: str


class NodeName(NamedTuple):
    """A node as people know it."""

    name: str
    op: str


@dataclass(frozen=True)
class NodeChange:
    """A node that both models have, and what is different.

    Attributes:
        node: its name and operator, in the second model.
        attributes: text of both values by name, "-" where there is none.
        weights: stored tensors that it reads.
        inputs: other inputs that come from elsewhere.
        outputs: how many there are before and after, None where that is the same.
    """

    node: NodeName
    attributes: Mapping[str, tuple[str, str]]
    weights: Sequence[WeightChange]
    inputs: Sequence[Link]
    outputs: tuple[int, int] | None = None

    @property
    def found(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.attributes or self.weights or self.inputs or self.outputs)


@dataclass
class ModelChanges:
    """All that differs between two models.

    Attributes:
        gone: nodes of the first model alone.
        new: nodes of the second alone.
        changed: nodes of both that differ.
        same: how many nodes do not.
        weights: stored tensors that differ, the largest first.
        interface: text of both by "input NAME" or "output NAME", "-" where there is none.
        about: the same of versions and metadata.
    """

    gone: list[NodeName] = field(default_factory=list)
    new: list[NodeName] = field(default_factory=list)
    changed: list[NodeChange] = field(default_factory=list)
    same: int = 0
    weights: list[WeightChange] = field(default_factory=list)
    interface: dict[str, tuple[str, str]] = field(default_factory=dict)
    about: dict[str, tuple[str, str]] = field(default_factory=dict)


class _Stored(NamedTuple):
    """A stored tensor and what it is called in the whole model."""

    name: str
    tensor: TensorProto


class _Scope(NamedTuple):
    """A graph, what it can read of stored tensors, and what its nodes are called with."""

    nodes: Sequence[NodeProto]
    stored: Mapping[str, _Stored]
    inputs: Sequence[str]
    prefix: str = ""

    def name(self, node: NodeProto) -> NodeName:
        return NodeName(self.prefix + graph.label(node), graph.op_key(node))


#: What differs between stored tensors, by what both are called; None where nothing does.
_Weights: TypeAlias = dict[tuple[str | None, str | None], WeightChange | None]


def model_changes(before: ModelProto, after: ModelProto) -> ModelChanges:
    """Compare two models; both stay as they are."""
    found = ModelChanges()
    first, second = _scope(before.graph), _scope(after.graph)
    weights: _Weights = {}
    _compare((first, second), dict(zip(second.inputs, first.inputs, strict=False)), found, weights)
    _compare_functions(before, after, found)
    _pair_by_name(first.stored, second.stored, weights)
    changes = [change for change in weights.values() if change is not None]
    found.weights = sorted(changes, key=lambda change: -max(change.bytes))
    found.interface = _differing(_interface(before), _interface(after))
    found.about = _differing(_about(before), _about(after))
    return found


def _scope(body: GraphProto, outer: _Scope | None = None, prefix: str = "") -> _Scope:
    """A graph, inside another one whose stored tensors it can read too."""
    stored = dict(outer.stored) if outer else {}
    stored |= {t.name: _Stored(prefix + t.name, t) for t in body.initializer}
    nodes = []
    for node in body.node:
        if node.op_type == graph.CONSTANT and node.attribute:
            name = node.output[0]
            stored[name] = _Stored(prefix + name, graph.constants_of(node))
        else:
            nodes.append(node)
    inputs = [value.name for value in body.input if value.name not in stored]
    return _Scope(nodes, stored, inputs, prefix)


def _compare(
    scopes: tuple[_Scope, _Scope],
    renamed: dict[str, str],
    found: ModelChanges,
    weights: _Weights,
) -> None:
    """Add what differs between two graphs; `renamed` says what the second calls tensors."""
    first, second = scopes
    pairs = node_pairs(first.nodes, second.nodes)
    matched = set(pairs.values())
    names = dict(renamed)
    for a, b in pairs.items():
        names.update(zip(second.nodes[b].output, first.nodes[a].output, strict=False))
    found.gone += [first.name(n) for k, n in enumerate(first.nodes) if k not in pairs]
    found.new += [second.name(n) for k, n in enumerate(second.nodes) if k not in matched]
    for a, b in pairs.items():
        nodes = first.nodes[a], second.nodes[b]
        change = _node_change(scopes, nodes, names, weights)
        if change.found:
            found.changed.append(change)
        else:
            found.same += 1
        for inner in _bodies(scopes, nodes):
            _compare(inner, names, found, weights)


def _bodies(
    scopes: tuple[_Scope, _Scope], nodes: tuple[NodeProto, NodeProto]
) -> Iterator[tuple[_Scope, _Scope]]:
    """The graphs inside two nodes, pair by pair."""
    first, second = scopes
    for (_, a), (name, b) in zip(*map(subgraphs.bodies, nodes), strict=False):
        prefix = f"{second.name(nodes[1]).name}/{name}/"
        yield _scope(a, first, prefix), _scope(b, second, prefix)


def _compare_functions(before: ModelProto, after: ModelProto, found: ModelChanges) -> None:
    """Add what differs between functions that models define."""
    first = {f"{f.domain}:{f.name}": f for f in before.functions}
    second = {f"{f.domain}:{f.name}": f for f in after.functions}
    found.gone += [NodeName(name, "function") for name in first.keys() - second.keys()]
    found.new += [NodeName(name, "function") for name in second.keys() - first.keys()]
    for name in sorted(first.keys() & second.keys()):
        scopes = tuple(_Scope(f.node, {}, f.input, f"{name}/") for f in (first[name], second[name]))
        renamed = dict(zip(scopes[1].inputs, scopes[0].inputs, strict=False))
        _compare((scopes[0], scopes[1]), renamed, found, {})


def _node_change(
    scopes: tuple[_Scope, _Scope],
    nodes: tuple[NodeProto, NodeProto],
    names: Mapping[str, str],
    weights: _Weights,
) -> NodeChange:
    """What differs between a node and its pair."""
    (first, second), (a, b) = scopes, nodes
    changes, links = [], []
    for number, (x, y) in enumerate(zip_longest(a.input, b.input, fillvalue="")):
        old, new = first.stored.get(x), second.stored.get(y)
        fits = (old is not None or not x) and (new is not None or not y)
        if fits and (old is not None or new is not None):
            change = _weight_change(old, new, weights)
            changes += [] if change is None else [change]
        elif not fits and names.get(y, y) != x:
            links.append(Link(number, x or "-", y or "-"))
    counts = len(a.output), len(b.output)
    own = None if counts[0] == counts[1] else counts
    attributes = _differing(_attributes(a), _attributes(b))
    return NodeChange(second.name(b), attributes, changes, links, own)


def _weight_change(
    before: _Stored | None, after: _Stored | None, weights: _Weights
) -> WeightChange | None:
    """What differs between two stored tensors, None where nothing does; told once for each pair."""
    held = [stored for stored in (before, after) if stored is not None]
    key = (None if before is None else before.name, None if after is None else after.name)
    if key not in weights:
        alike = len(held) == 2 and _equal(held[0].tensor, held[1].tensor)
        weights[key] = None if alike else _different(before, after, held[-1].name)
    return weights[key]


def _different(before: _Stored | None, after: _Stored | None, name: str) -> WeightChange:
    """Two stored tensors that are not the same, side by side."""
    both = [None if stored is None else stored.tensor for stored in (before, after)]
    retyped = len({tensor.data_type for tensor in both if tensor is not None}) > 1
    old, new = (None if tensor is None else _shown(tensor, retyped) for tensor in both)
    a, b = (0 if tensor is None else tensors.tensor_bytes(tensor) for tensor in both)
    return WeightChange(name, old, new, (a, b))


def _equal(a: TensorProto, b: TensorProto) -> bool:
    """Whether type, shape and content are the same."""
    if a.data_type != b.data_type or a.dims != b.dims:
        return False
    plain = not (tensors.is_external(a) or tensors.is_external(b))
    if plain and a.HasField("raw_data") and b.HasField("raw_data"):
        return bool(a.raw_data == b.raw_data)
    x, y = tensors.array(a), tensors.array(b)
    if x.dtype == object:
        return bool((x == y).all())
    return bool(np.array_equal(tensors.raw(x), tensors.raw(y)))


def _shown(tensor: TensorProto, typed: bool) -> str:
    """A stored tensor as text: shape, type if that matters, few integers one by one."""
    count = int(np.prod(tensor.dims, dtype=np.int64))
    whole = tensor.data_type in (TensorProto.INT64, TensorProto.INT32)
    size = "x".join(map(str, tensor.dims)) or "scalar"
    kind = f"{TensorProto.DataType.Name(tensor.data_type).lower()} " if typed else ""
    if whole and count <= SHOWN:
        return kind + "[" + ", ".join(map(str, tensors.array(tensor).ravel().tolist())) + "]"
    return kind + size


def _pair_by_name(
    first: Mapping[str, _Stored], second: Mapping[str, _Stored], weights: _Weights
) -> None:
    """Add the stored tensors of the main graphs that no pair of nodes reads."""
    before, after = {a for a, _ in weights}, {b for _, b in weights}
    old = {name: stored for name, stored in first.items() if name not in before}
    new = {name: stored for name, stored in second.items() if name not in after}
    for name in dict.fromkeys((*old, *new)):
        _weight_change(old.get(name), new.get(name), weights)


def _attributes(node: NodeProto) -> dict[str, str]:
    """Every attribute of a node as text, graphs that are compared on their own left out."""
    own = {name for name, _ in subgraphs.bodies(node)}
    return {a.name: _attribute(a) for a in node.attribute if a.name not in own}


def _attribute(attribute: AttributeProto) -> str:
    """The value of an attribute as text that is the same only for the same value."""
    if attribute.type == AttributeProto.TENSOR:
        return f"tensor {_shown(attribute.t, typed=True)} #{_digest(attribute.t)}"
    if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
        return f"graph #{_digest(attribute)}"
    if attribute.ref_attr_name:
        return f"attribute {attribute.ref_attr_name} of the function"
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        return f"{value:.7g}"
    return str(list(value)) if hasattr(value, "__iter__") else str(value)


def _digest(message: Any) -> str:
    """Eight digits that differ where the content does."""
    return sha256(message.SerializeToString(deterministic=True)).hexdigest()[:8]


def _interface(model: ModelProto) -> dict[str, str]:
    """Type and shape of every input and output."""
    found = {}
    for kind, values in (("input", graph.graph_inputs(model)), ("output", model.graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            sizes = "x".join(map(str, graph.shown_sizes(value))) or "scalar"
            found[f"{kind} {value.name}"] = f"{_type_name(tensor.elem_type)} {sizes}"
    return found


@cache
def _type_name(number: int) -> str:
    return str(TensorProto.DataType.Name(number)).lower()


def _about(model: ModelProto) -> dict[str, str]:
    """Versions, and what the model says of itself."""
    found = {"IR version": str(model.ir_version)}
    found |= {f"opset {o.domain or 'ai.onnx'}": str(o.version) for o in model.opset_import}
    found["producer"] = f"{model.producer_name} {model.producer_version}".strip()
    return found | {f"metadata {entry.key}": entry.value for entry in model.metadata_props}


def _differing(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What is not the same in two mappings, "-" where a name is missing."""
    both = ((name, (before.get(name, "-"), after.get(name, "-"))) for name in {**before, **after})
    return {name: pair for name, pair in both if pair[0] != pair[1]}
