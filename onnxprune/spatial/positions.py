"""Follow a crop through a model: which positions of inner and of stored tensors go with it.

Windows move a border by their strides; everywhere else the rules of operators say which positions
belong together. So the columns of a layer behind a Flatten are found, and the rows of learned
position embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.spatial.extent import Extent
from onnxprune.types import Axis, Choice, Coupling, Fact, Ints, Mask, Node, Plan, Tensor

__all__ = ["Followed", "follow"]

Gone = dict[Axis, NDArray[np.bool_]]


@dataclass(frozen=True)
class Followed:
    """What goes with a crop.

    Attributes:
        stored: by name of a stored tensor, kept positions of each axis that loses some.
        plan: kept positions of all axes that lose some.
        masks: where layers and windows would read positions that are gone.
        exact: whether layers alone lose some of what is stored: zeros in the place of what is gone
            then give the same.
    """

    stored: Mapping[str, Mapping[int, Ints]]
    plan: Plan
    masks: Sequence[Mask]
    exact: bool


def follow(analysis: Analysis, extent: Extent) -> Followed:
    """Find the positions that go where an input loses its border."""
    inputs = {t.name: t for node in analysis.nodes for t in node.inputs if t is not None}
    gone = Gone()
    for k, axis in enumerate(extent.axes):
        if extent.input in inputs and inputs[extent.input].size(axis) == extent.full[k]:
            dead = np.ones(extent.full[k], bool)
            dead[extent.before[k] : extent.full[k] - extent.after[k]] = False
            gone[Axis(extent.input, axis)] = dead
    for node in analysis.nodes:
        _through_window(node, gone)
        rule = analysis.rules.get(node.op)
        facts = tuple(_couplings(rule(node))) if rule is not None else ()
        for coupling in (*facts, *facts):  # first from data to the result, then to what is stored
            _spread(coupling, node, gone)
    kept = {axis: np.flatnonzero(~dead) for axis, dead in gone.items()}
    stored: dict[str, dict[int, Ints]] = {}
    for at, keep in kept.items():
        if at.tensor in analysis.stored:
            stored.setdefault(at.tensor, {})[at.axis] = keep
    weights = {tensor.name for node in analysis.nodes for tensor in _weights(node)}
    plan = Plan(kept, {axis: len(dead) for axis, dead in gone.items()})
    exact = bool(stored) and stored.keys() <= weights
    return Followed(stored, plan, list(_masks(analysis.nodes, gone)), exact)


def _through_window(node: Node, gone: Gone) -> None:
    """Positions of a result whose window begins where nothing is left."""
    x, y = node.input(0), node.outputs[0] if node.outputs else None
    if x is None or y is None:
        return
    for axis in range(2, x.rank):
        step, dead = ops.extents.step_along(node, axis), gone.get(x.at(axis))
        size = y.size(axis) if y.rank == x.rank else None
        if step is None or dead is None or size is None or size < 2:
            continue
        alive = np.flatnonzero(~dead)
        left = size - -(-(len(dead) - len(alive)) // step)
        first = min(int(alive[0]) // step, size - max(left, 1))
        found = np.ones(size, bool)
        found[first : first + max(left, 1)] = False
        gone[y.at(axis)] = found


def _couplings(facts: Iterable[Fact]) -> Iterator[Coupling]:
    for fact in facts:
        if isinstance(fact, Coupling):
            yield fact
        elif isinstance(fact, Choice):
            yield from (c for option in fact.options for c in option.couplings)


def _spread(coupling: Coupling, node: Node, gone: Gone) -> None:
    """What one axis lost the other loses, but no input of the model."""
    known = {tensor.name: tensor for tensor in node.tensors}
    made = {tensor.name for tensor in node.outputs}
    ends = ((coupling.a, coupling.a_at), (coupling.b, coupling.b_at))
    for (source, at), (target, to) in (ends, ends[::-1]):
        tensor = known.get(target.tensor)
        size = None if tensor is None else tensor.size(target.axis)
        free = tensor is not None and (tensor.constant or tensor.name in made)
        if source not in gone or size is None or not free:
            continue
        from_at = np.arange(len(gone[source])) if at is None else at
        to_at = np.arange(size) if to is None else to
        if len(from_at) == len(to_at):
            dead = gone.get(target, np.zeros(size, bool)).copy()
            dead[to_at[gone[source][from_at]]] = True
            if dead.any() and not dead.all():
                gone[target] = dead


def _weights(node: Node) -> Iterator[Tensor]:
    """Stored tensors that a node multiplies as a layer."""
    for kernel in ops.kernels_of(node):
        weight = node.input(kernel.index)
        if weight is not None:
            yield weight


def _masks(nodes: Sequence[Node], gone: Mapping[Axis, NDArray[np.bool_]]) -> Iterator[Mask]:
    """Where windows and layers would read positions that are gone."""
    for node in nodes:
        for index, axis in sorted({*_window_reads(node), *_layer_reads(node)}):
            x = node.input(index)
            if x is not None and not x.constant and x.at(axis) in gone:
                at = x.at(axis)
                yield Mask(node.outputs[0].name, index, at, x.rank, len(gone[at]))


def _window_reads(node: Node) -> Iterator[tuple[int, int]]:
    """The first input and its axes of space, of a node that slides a window over them."""
    x = node.input(0)
    for axis in range(2, 0 if x is None else x.rank):
        if ops.extents.step_along(node, axis) is not None:
            yield 0, axis


def _layer_reads(node: Node) -> Iterator[tuple[int, int]]:
    """Inputs and axes that a node sums over as a layer."""
    for kernel in ops.kernels_of(node):
        data = kernel.operand(node)
        for index, x in enumerate(node.inputs):
            if data is not None and x is data and kernel.in_axis is not None:
                yield index, kernel.reads % max(x.rank, 1)
