"""What is known of a model before anything is decided: groups, roles, costs, what is blocked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from onnxprune import ops
from onnxprune.errors import InputError, OperatorError
from onnxprune.groups.combine import combine
from onnxprune.groups.cost import CostModel, Stored, cost_model
from onnxprune.groups.dependency import Constraints, Dependencies, all_dependencies
from onnxprune.groups.roles import Roles, biases, group_name, roles
from onnxprune.ir import (
    constant_folding,
    external_data,
    normalize,
    runtime,
    save,
    shape_inference,
    shared_tensors,
    skeleton,
    tensors,
)
from onnxprune.ir import graph as graph_module
from onnxprune.ir import load as graph
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ops.registry import Rule
from onnxprune.ops.user_rules import merged
from onnxprune.settings import Settings
from onnxprune.types import Axis, Frozen, Group, Node, Read

__all__ = ["Analysis", "analyze", "analyze_as", "blocked", "load"]

#: Element types that hold shapes, indices and flags: int32 (but for biases), int64, string, bool.
_NOT_WEIGHTS = {6, 7, 8, 9}


@dataclass(frozen=True)
class Analysis:
    """A model and what is known of it.

    `model` is the `original` in one scope (`notes` say what that took) with shared vectors
    separated; `copies` names those copies. `read` gives the content of its stored tensors by name.
    `rules` coupled the axes, `inexact` ones too.
    """

    original: ModelProto
    model: ModelProto
    nodes: tuple[Node, ...]
    traces: tuple[Dependencies, ...]
    roles: Roles
    groups: tuple[Group, ...]
    cost: CostModel
    sample: Mapping[str, tuple[int, ...]]
    copies: Mapping[str, str]
    read: Read
    rules: Mapping[str, Rule]
    inexact: bool = False
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @cached_property
    def stored(self) -> dict[str, tuple[int, ...]]:
        """Shape of every stored tensor."""
        return {name: tuple(t.dims) for name, t in graph_module.constants(self.model).items()}


def analyze_as(model: ModelProto, options: Settings) -> Analysis:
    """The survey of a model under the user's settings."""
    rules = merged(options.rules)
    return analyze(model, options.input_shapes, options.exclude, options.allow_inexact, rules)


def load(source: Source) -> ModelProto:
    """The model at a path, or a ModelProto as it is; `survey` looks at what it says.

    Raises:
        InputError: it cannot be read.
    """
    model = graph.load(source)
    external_data.resolve(model, source)
    return model


def analyze(
    model: ModelProto,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    exclude: Sequence[str] = (),
    allow_inexact: bool = False,
    rules: Mapping[str, Rule] = ops.COUPLINGS,
) -> Analysis:
    """Trace the model; `exclude` are regular expressions for nodes or weights to leave alone.

    `rules` couple the axes of each operator.

    Raises:
        InputError: the graph makes no sense, neither onnx's checker nor onnxruntime takes it, or
            an option does not fit it.
    """
    original = normalize.distinct(model)
    model, notes = normalize.prepare(original)
    warnings = _doubts(original, model)
    model, computed = constant_folding.precomputed(model, ops.traits())
    notes += computed
    model, copies = shared_tensors.separate(model, ops.traits())
    nodes = shape_inference.describe(model, ops.traits(), input_shapes)
    limits = Constraints(
        _interface(model, nodes), _excluded(nodes, exclude), ops.BARRIERS, allow_inexact
    )
    traced = all_dependencies(nodes, rules, limits)
    known = roles(nodes)
    stored = _stored(model, nodes)
    groups, crossings = combine(traced, group_name(known), stored)
    cost = cost_model(nodes, stored, save.file_bytes(original), groups, crossings)
    sample = shape_inference.sample_shapes(model, input_shapes)
    return Analysis(
        original,
        model,
        nodes,
        traced,
        known,
        groups,
        cost,
        sample,
        copies,
        graph_module.reader(model),
        rules,
        allow_inexact,
        notes,
        warnings,
    )


def _stored(model: ModelProto, nodes: Sequence[Node]) -> dict[str, Stored]:
    """Size of every stored tensor, and whether its elements are parameters."""
    added = biases(nodes)
    return {
        name: Stored(
            tuple(tensor.dims),
            tensors.tensor_bytes(tensor),
            tensor.data_type not in _NOT_WEIGHTS or name in added,
        )
        for name, tensor in graph_module.constants(model).items()
    }


def _doubts(original: ModelProto, model: ModelProto) -> list[str]:
    """What onnx's checker has against a model that onnxruntime runs all the same.

    Exporters often write such models. One with operators that onnxruntime lacks can be looked at.
    """
    refused = skeleton.complaint(original)
    if not refused:
        return []
    try:
        runtime.open_session(graph_module.model_bytes(skeleton.skeleton(model)), optimize=False)
    except OperatorError as error:
        return [f"onnx's checker refuses the model: {refused}", str(error)]
    except InputError as error:
        raise InputError(f"onnx's checker refuses the model: {refused}; and {error}") from error
    return [f"onnx's checker refuses the model, but onnxruntime runs it: {refused}"]


def _interface(model: ModelProto, nodes: Sequence[Node]) -> dict[Axis, str]:
    ranks = {t.name: t.rank for n in nodes for t in (*n.inputs, *n.outputs) if t is not None}
    ends = [(v.name, "an input of the model") for v in graph_module.graph_inputs(model)]
    ends += [(v.name, "an output of the model") for v in model.graph.output]
    return {
        Axis(name, axis): f"'{name}' is {what}"
        for name, what in ends
        for axis in range(ranks.get(name, 0))
    }


def _excluded(nodes: Sequence[Node], patterns: Sequence[str]) -> list[Frozen]:
    """Freeze every constant of a matching node, and every matching constant."""
    try:
        compiled = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise InputError(f"exclude {error.pattern!r}: not a regular expression: {error}") from error
    frozen = []
    unused = set(compiled)
    for node in nodes if compiled else ():
        for tensor in (t for t in node.inputs if t is not None and t.constant):
            hits = [p for p in compiled if p.search(node.name) or p.search(tensor.name)]
            unused.difference_update(hits)
            if hits:
                frozen += [
                    Frozen(tensor.at(k), "excluded by the user", node.name, "drop --exclude")
                    for k in range(tensor.rank)
                ]
    if unused:
        patterns_left = ", ".join(f"'{p.pattern}'" for p in unused)
        raise InputError(f"exclude {patterns_left}: matches no node and no weight")
    return frozen


def blocked(analysis: Analysis) -> list[tuple[Axis, str, Frozen, int, int]]:
    """Weight axes with channels that cannot be pruned: axis, node, why, how many of how many."""
    rows = []
    free = {
        axis
        for group in analysis.groups
        for axis, _ in group.axes()
        if axis in analysis.roles.makes
    }
    first, *others = analysis.traces
    for axis, node in analysis.roles.makes.items():
        if axis in first.root and not (others and axis in free):
            size = len(first.labels(axis))
            for why, count in first.blocked(axis).items():
                rows.append((axis, node, why, count, size))
    return rows
