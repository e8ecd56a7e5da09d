"""What is known of a model before anything is decided: groups, roles, costs, what is blocked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.errors import InputError, OperatorError
from onnxprune.groups.blocks import Block, find_blocks
from onnxprune.groups.combine import combine
from onnxprune.groups.cost import METRICS, CostModel, Stored, cost_model
from onnxprune.groups.dependency import Constraints, Dependencies, find_dependencies
from onnxprune.groups.frozen import excluded_axes, interface_axes
from onnxprune.groups.graph_index import GraphIndex
from onnxprune.groups.layers import Layer, bias_of, find_layers
from onnxprune.groups.readers import GroupReaders, find_readers
from onnxprune.groups.roles import Roles, biases_of, group_name, roles
from onnxprune.ir import (
    acceptance,
    constant_folding,
    graph,
    normalize,
    save,
    shape_inference,
    shared_tensors,
    skeleton,
    tensors,
    zero_biases,
)
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import read_model
from onnxprune.ir.patch import patch
from onnxprune.ops.registry import Rule
from onnxprune.ops.user_rules import merged
from onnxprune.settings import AnalysisSettings
from onnxprune.types import Axis, Floats, Frozen, Group, Node, Read

__all__ = ["Analysis", "analyze", "blocked", "load"]

#: Element types that hold shapes, indices and flags: int32 (but for biases), int64, string, bool.
_NOT_WEIGHTS = {6, 7, 8, 9}


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A model and what is known of it.

    Attributes:
        original: the model as it was given.
        model: the same in one scope, with shared vectors separated, and zero biases where layers
            had none if that was asked for.
        index: its nodes, and who makes and reads each tensor.
        dependencies: labels of all positions, one value for each way to settle choices.
        roles: what the axes of stored weights do.
        groups: channels that live and die together.
        cost: what `model` costs as a function of the groups' widths.
        original_cost: (4,) what `original` costs, in the order of `METRICS`.
        sample: sizes of the inputs for a sample run.
        copies: names of separated vectors and whose copies they are.
        read: content of stored tensors by name.
        rules: what coupled the axes.
        inexact: whether couplings count that change what stays.
        biases: whether layers without a bias got one.
        notes: what it took to bring the model into this form.
        warnings: what onnx's checker has against it.
    """

    original: ModelProto
    model: ModelProto
    index: GraphIndex
    dependencies: tuple[Dependencies, ...]
    roles: Roles
    groups: tuple[Group, ...]
    cost: CostModel
    original_cost: Floats
    sample: Mapping[str, tuple[int, ...]]
    copies: Mapping[str, str]
    read: Read
    rules: Mapping[str, Rule]
    inexact: bool = False
    biases: bool = False
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Operators in topological order."""
        return self.index.nodes

    @cached_property
    def stored(self) -> dict[str, tuple[int, ...]]:
        """Shape of every stored tensor."""
        return {name: tuple(t.dims) for name, t in graph.constants(self.model).items()}

    @cached_property
    def parameters(self) -> dict[str, int]:
        """How many numbers every stored tensor holds that counts as a parameter."""
        stored = _stored(self.model, self.nodes)
        return {name: math.prod(s.shape) for name, s in stored.items() if s.counts}

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every node that multiplies with a stored weight of its own, in the order of the graph."""
        return find_layers(self.index, self.read)

    @cached_property
    def refittable(self) -> tuple[Layer, ...]:
        """The layers that least squares can refit.

        A run shows what reaches them and what they give, as they stand in the main graph, and
        their bias, which takes the mean, is theirs alone.
        """
        readers = self.index.readers
        shown = {name for node in self.model.graph.node for name in node.output}
        return tuple(
            layer
            for layer in self.layers
            if layer.node.outputs[0].name in shown
            and (layer.bias is None or bias_of(layer, readers, self.read)[0])
        )

    @cached_property
    def readers(self) -> list[GroupReaders]:
        """The layers that read each group, of those that can be refitted."""
        return find_readers(self.groups, self.nodes, self.refittable, self.read)

    @cached_property
    def blocks(self) -> dict[int, Block]:
        """Residual blocks that can go whole, by the group that their last layer reads."""
        return find_blocks(self.model, self.index, self.groups)

    @cached_property
    def centred(self) -> frozenset[int]:
        """Groups along which something subtracts a mean, so that zeros are no neutral numbers."""
        axes = {
            x.at(axis)
            for node in self.nodes
            for index, axis in (ops.CENTRES[node.op](node) if node.op in ops.CENTRES else ())
            if (x := node.inputs[index]) is not None
        }
        found = enumerate(self.groups)
        return frozenset(g for g, group in found if any(axis in axes for axis, _ in group.axes()))

    def with_weights(
        self, patches: Mapping[str, NDArray[Any]], scratch: Path | None = None
    ) -> Analysis:
        """The same with new content of stored tensors; `scratch` takes external ones."""
        model = patch(self.model, patches, scratch)
        return replace(self, model=model, read=graph.reader(model))

    def with_groups(self, groups: Iterable[Group]) -> Analysis:
        """The same with its groups arranged anew: heads' units in another order."""
        return replace(self, groups=tuple(groups))


def load(source: Source) -> ModelProto:
    """Read the model at a path, or take a ModelProto as it is.

    Raises:
        InputError: it cannot be read.
    """
    return read_model(source).proto


def analyze(
    model: ModelProto, settings: AnalysisSettings | None = None, *, biases: bool = False
) -> Analysis:
    """Work out the groups of a model, their costs, and what is frozen.

    With `biases`, layers that have none get zeros, to take the mean of what is removed before.

    Raises:
        InputError: the graph makes no sense, no runtime takes it, or an option does not fit it.
    """
    settings = settings or AnalysisSettings()
    original, traits = normalize.distinct(model), ops.traits()
    full, notes = normalize.typed(model)
    full = normalize.distinct(zero_biases.biased(full, ops.LAYERS) if biases else full)
    scoped, more = normalize.prepare(full)
    folded, computed = constant_folding.precomputed(scoped, traits, biases_too=biases)
    prepared, copies = shared_tensors.separate(folded, traits)
    nodes = shape_inference.describe(prepared, traits, settings.input_shapes)
    index = GraphIndex(ops.marked(nodes))
    rules = merged(settings.rules)
    dependencies = find_dependencies(index.nodes, rules, _constraints(prepared, index, settings))
    known, stored = roles(index.nodes), _stored(prepared, index.nodes)
    groups, crossings = combine(dependencies, group_name(known), stored)
    cost = cost_model(index.nodes, stored, save.file_bytes(full), groups, crossings)
    return Analysis(
        original=original,
        model=prepared,
        index=index,
        dependencies=dependencies,
        roles=known,
        groups=groups,
        cost=cost,
        original_cost=_without_biases(cost.full, original, prepared),
        sample=shape_inference.sample_shapes(prepared, settings.input_shapes),
        copies=copies,
        read=graph.reader(prepared),
        rules=rules,
        inexact=settings.allow_inexact,
        biases=biases,
        notes=[*notes, *more, *computed],
        warnings=_doubts(original, scoped),
    )


def _constraints(model: ModelProto, index: GraphIndex, settings: AnalysisSettings) -> Constraints:
    """What may not be cut whatever the rules say."""
    return Constraints(
        interface_axes(model, index.nodes),
        excluded_axes(index.nodes, settings.exclude),
        ops.BARRIERS,
        settings.allow_inexact,
    )


def _stored(model: ModelProto, nodes: Sequence[Node]) -> dict[str, Stored]:
    """Size of every stored tensor, and whether its elements are parameters."""
    added = biases_of(nodes)
    return {
        name: Stored(
            tuple(tensor.dims),
            tensors.tensor_bytes(tensor),
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
        acceptance.opens(model)
    except OperatorError as error:
        return [f"onnx's checker refuses the model: {refused}", str(error)]
    except InputError as error:
        raise InputError(f"onnx's checker refuses the model: {refused}; and {error}") from error
    return [f"onnx's checker refuses the model, but onnxruntime runs it: {refused}"]


def _without_biases(cost: Floats, original: ModelProto, model: ModelProto) -> Floats:
    """(4,) the cost of the original: that of the model less what added zero biases take."""
    own: Floats = cost.copy()
    own[METRICS.index("params")] -= zero_biases.spare_parameters(model)
    own[METRICS.index("size")] = save.file_bytes(original)
    return own


def blocked(analysis: Analysis) -> list[tuple[Axis, str, Frozen, int, int]]:
    """Weight axes with channels that cannot be pruned: axis, node, why, how many of how many."""
    rows = []
    free = {
        axis
        for group in analysis.groups
        for axis, _ in group.axes()
        if axis in analysis.roles.makes
    }
    first, *others = analysis.dependencies
    for axis, node in analysis.roles.makes.items():
        if axis in first.root and not (others and axis in free):
            size = len(first.labels(axis))
            for why, count in first.blocked(axis).items():
                rows.append((axis, node, why, count, size))
    return rows
