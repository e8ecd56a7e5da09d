"""What is known of a model before anything is decided: groups, roles, costs, what is blocked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxprune import (
    external,
    graph,
    ops,
    precompute,
    prepare,
    runtime,
    saving,
    shapes,
    sharing,
    skeleton,
)
from onnxprune.cost import CostModel, Stored, cost_model
from onnxprune.errors import InputError, OperatorError
from onnxprune.graph import ModelProto, Reader, Source
from onnxprune.ops.registry import Rule
from onnxprune.ops.stored import as_real
from onnxprune.readings import combine
from onnxprune.settings import Settings
from onnxprune.trace import Constraints, Trace, traces
from onnxprune.types import Axis, Frozen, Group, Node
from onnxprune.userrules import merged
from onnxprune.weights import GroupWeights, Profile, Roles, biases, group_name, roles

__all__ = ["Survey", "blocked", "load", "survey", "surveyed", "weights_of"]

#: Element types that hold shapes, indices and flags: int32 (but for biases), int64, string, bool.
_NOT_WEIGHTS = {6, 7, 8, 9}


@dataclass(frozen=True)
class Survey:
    """A model and what is known of it.

    `model` is the `original` in one scope (`notes` say what that took) with shared vectors
    separated; `copies` names those copies. `read` gives the content of its stored tensors by name.
    `rules` coupled the axes, `inexact` ones too.
    """

    original: ModelProto
    model: ModelProto
    nodes: tuple[Node, ...]
    traces: tuple[Trace, ...]
    roles: Roles
    groups: tuple[Group, ...]
    cost: CostModel
    sample: Mapping[str, tuple[int, ...]]
    copies: Mapping[str, str]
    read: Reader
    rules: Mapping[str, Rule]
    inexact: bool = False
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @cached_property
    def stored(self) -> dict[str, tuple[int, ...]]:
        """Shape of every stored tensor."""
        return {name: tuple(t.dims) for name, t in graph.constants(self.model).items()}


def surveyed(model: ModelProto, options: Settings) -> Survey:
    """The survey of a model under the user's settings."""
    rules = merged(options.rules)
    return survey(model, options.input_shapes, options.exclude, options.allow_inexact, rules)


def load(source: Source) -> ModelProto:
    """The model at a path, or a ModelProto as it is; `survey` looks at what it says.

    Raises:
        InputError: it cannot be read.
    """
    model = graph.load(source)
    external.resolve(model, source)
    return model


def survey(
    model: ModelProto,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    exclude: Sequence[str] = (),
    allow_inexact: bool = False,
    rules: Mapping[str, Rule] = ops.COUPLINGS,
) -> Survey:
    """Trace the model; `exclude` are regular expressions for nodes or weights to leave alone.

    `rules` couple the axes of each operator.

    Raises:
        InputError: the graph makes no sense, neither onnx's checker nor onnxruntime takes it, or
            an option does not fit it.
    """
    original = prepare.distinct(model)
    model, notes = prepare.prepare(original)
    warnings = _doubts(original, model)
    model, computed = precompute.precomputed(model)
    notes += computed
    model, copies = sharing.separate(model)
    nodes = shapes.describe(model, input_shapes)
    limits = Constraints(
        _interface(model, nodes), _excluded(nodes, exclude), ops.BARRIERS, allow_inexact
    )
    traced = traces(nodes, rules, limits)
    known = roles(nodes)
    stored = _stored(model, nodes)
    groups, crossings = combine(traced, group_name(known), stored)
    cost = cost_model(nodes, stored, saving.file_bytes(original), groups, crossings)
    sample = shapes.sample_shapes(model, input_shapes)
    return Survey(
        original,
        model,
        nodes,
        traced,
        known,
        groups,
        cost,
        sample,
        copies,
        graph.reader(model),
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
            graph.tensor_bytes(tensor),
            tensor.data_type not in _NOT_WEIGHTS or name in added,
        )
        for name, tensor in graph.constants(model).items()
    }


def _doubts(original: ModelProto, model: ModelProto) -> list[str]:
    """What onnx's checker has against a model that onnxruntime runs all the same.

    Exporters often write such models. One with operators that onnxruntime lacks can be looked at.
    """
    refused = skeleton.complaint(original)
    if not refused:
        return []
    try:
        runtime.open_session(graph.model_bytes(skeleton.skeleton(model)), optimize=False)
    except OperatorError as error:
        return [f"onnx's checker refuses the model: {refused}", str(error)]
    except InputError as error:
        raise InputError(f"onnx's checker refuses the model: {refused}; and {error}") from error
    return [f"onnx's checker refuses the model, but onnxruntime runs it: {refused}"]


def _interface(model: ModelProto, nodes: Sequence[Node]) -> dict[Axis, str]:
    ranks = {t.name: t.rank for n in nodes for t in (*n.inputs, *n.outputs) if t is not None}
    ends = [(v.name, "an input of the model") for v in graph.graph_inputs(model)]
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


def weights_of(
    found: Survey,
    seed: int,
    groups: Sequence[Group] | None = None,
    activations: Mapping[Axis, Profile] | None = None,
) -> list[GroupWeights]:
    """Every group as a criterion sees it, with statistics of calibration data if there are any."""
    read = as_real(found.nodes, found.read)
    return [
        GroupWeights(
            group,
            found.roles,
            read,
            np.random.default_rng([seed, *group.name.encode()]),
            activations,
        )
        for group in groups or found.groups
    ]


def blocked(found: Survey) -> list[tuple[Axis, str, Frozen, int, int]]:
    """Weight axes with channels that cannot be pruned: axis, node, why, how many of how many."""
    rows = []
    free = {axis for group in found.groups for axis, _ in group.axes() if axis in found.roles.makes}
    first, *others = found.traces
    for axis, node in found.roles.makes.items():
        if axis in first.root and not (others and axis in free):
            size = len(first.labels(axis))
            for why, count in first.blocked(axis).items():
                rows.append((axis, node, why, count, size))
    return rows
