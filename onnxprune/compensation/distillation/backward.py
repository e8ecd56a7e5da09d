"""A model that gives the gradients of a loss with respect to stored weights.

The graph runs forward, a few of its tensors are compared with targets that are fed, and their
gradients go back operator by operator (reverse mode; rules in `onnxprune.ops.GRADIENTS`). What lies
before an operator without a rule gets no gradient at all rather than a part of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import exact_products, graph, later_opset, runtime, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.graph_builder import GraphBuilder, leading
from onnxprune.ops.builder import Builder, UnknownFormError
from onnxprune.ops.gradients import CHANGED
from onnxprune.types import Node, Read

__all__ = ["TARGET", "Differentiated", "Seed", "differentiated", "unreached"]

#: What the name of a fed target begins with.
TARGET = "onnxprune/target/"
#: Rules are written for operators from this version on.
OPSET = 11
#: The version that earlier graphs are brought to: it can add to places that a run tells.
LATER = 17
#: The gradient of a loss at a tensor, from the tensor's and its target's name.
Seed = Callable[[Builder, str, str], str]
#: By name of a weight why no gradient reaches it.
Reasons: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class Differentiated:
    """A session that gives gradients.

    Attributes:
        session: onnxruntime's session.
        needs: its inputs.
        gives: by weight the output that holds its gradient.
        blocked: by each other weight why it gets none.
    """

    session: Any
    needs: tuple[str, ...]
    gives: Mapping[str, str]
    blocked: Mapping[str, str]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute the gradient of every weight."""
        found = runtime.run(self.session, {name: feeds[name] for name in self.needs})
        return {weight: found[name] for weight, name in self.gives.items()}


class _Found(NamedTuple):
    """Gradients by the weight that they are of, and by each other weight why it has none."""

    gives: dict[str, str]
    blocked: dict[str, str]


def _reached(nodes: Sequence[Node], weights: Collection[str]) -> set[str]:
    """The tensors that depend on the weights, and these."""
    moved = set(weights)
    for node in nodes:
        if any(t is not None and t.name in moved for t in (*node.inputs, *node.captured)):
            moved.update(t.name for t in node.outputs)
    return moved


def differentiated(
    analysis: Analysis,
    weights: Collection[str],
    seeds: Mapping[str, Seed],
    dtype: np.dtype[Any],
    device: runtime.Device | None = None,
) -> Differentiated | None:
    """Differentiate a loss with respect to `weights`, which each run brings along.

    Args:
        analysis: the model, without bodies of control flow on the way.
        weights: names of stored tensors.
        seeds: for each tensor that the loss compares, the gradient there.
        dtype: of the weights.
        device: what runs it, None: the processor.

    Returns:
        None where no gradient reaches any of them. Targets are fed as `TARGET` + name.
    """
    plan = _planned(analysis, weights, seeds, dtype)

    def fixed(name: str) -> NDArray[Any] | None:
        return None if name in weights else analysis.read(name)

    if plan is None or not plan.found.gives:
        return None
    model, needs = _assembled(plan.bare, plan.added, plan.found.gives, seeds, fixed)
    session = runtime.open_session(graph.model_bytes(model), device)
    return Differentiated(session, needs, plan.found.gives, plan.found.blocked)


def unreached(analysis: Analysis, weights: Collection[str], compared: Iterable[str]) -> Reasons:
    """Find the weights that no gradient reaches, and why, without running anything.

    Args:
        analysis: the model.
        weights: names of stored tensors.
        compared: tensors that a loss depends on.
    """
    seeds = {name: lambda builder, y, target: target for name in compared}
    plan = _planned(analysis, weights, seeds, np.dtype(np.float32))
    if plan is None:
        return dict.fromkeys(weights, f"its operators are of a version before {OPSET}")
    return plan.found.blocked


class _Planned(NamedTuple):
    """A graph and what gradients add to it."""

    bare: ModelProto
    added: GraphBuilder
    found: _Found


def _planned(
    analysis: Analysis,
    weights: Collection[str],
    seeds: Mapping[str, Seed],
    dtype: np.dtype[Any],
) -> _Planned | None:
    """Write down all gradients; None where the operators are of too early a version."""
    bare = skeleton.without_constant_nodes(analysis.model, weights)
    bare = later_opset.raised(bare, LATER, CHANGED)
    opset = later_opset.opset_of(bare)
    if opset < OPSET:
        return None
    added = GraphBuilder(opset, dtype)
    builder = Builder(added)
    ends = {name: seed(builder, name, TARGET + name) for name, seed in seeds.items()}
    outer = {name for node in bare.graph.node for name in node.output}
    nodes = [(node, node.outputs[0].name in outer) for node in analysis.nodes if node.outputs]
    return _Planned(bare, added, _gradients(nodes, builder, ends, weights))


def _gradients(
    nodes: Sequence[tuple[Node, bool]],
    builder: Builder,
    ends: Mapping[str, str],
    weights: Collection[str],
) -> _Found:
    """Take gradients at `ends` back to weights, those that they reach whole.

    `nodes` say of each whether it stands in the main graph: no gradient goes through bodies.
    """
    moved = _reached([node for node, _ in nodes], weights)
    grads = defaultdict[str, list[str]](list, {name: [grad] for name, grad in ends.items()})
    blocked = dict[str, str]()
    for node, outer in reversed(nodes):
        ways = {t.name for t in (*node.inputs, *node.captured) if t and t.name in moved}
        outs = {t.name for t in node.outputs}
        why = f"no gradient goes through {node.op} '{node.name}'"
        if not outer:
            _note(blocked, ways, why)
        if not ways or node.op in ops.FLAT or outs.isdisjoint(grads.keys() | blocked.keys()):
            continue
        behind = next((blocked[name] for name in outs if name in blocked), None)
        made = None if behind else _through(node, builder, grads)
        lost = ways if made is None else _add(node, made, grads, moved)
        _note(blocked, lost, behind or why)
    gives = {
        name: builder.total(grads[name])
        for name in sorted(weights)
        if name in grads and name not in blocked
    }
    nowhere = "nothing that is compared depends on it"
    return _Found(gives, {w: blocked.get(w, nowhere) for w in weights if w not in gives})


def _note(blocked: dict[str, str], names: Iterable[str], why: str) -> None:
    """Write down why tensors get no gradient; the first reason counts."""
    for name in names:
        blocked.setdefault(name, why)


def _add(
    node: Node,
    made: Sequence[str | None],
    grads: Mapping[str, list[str]],
    moved: Collection[str],
) -> list[str]:
    """Add gradients of a node's inputs to those that are there; the inputs that get none."""
    lost = list[str]()
    for tensor, grad in zip_longest(node.inputs, made):
        if tensor is None or tensor.name not in moved:
            continue
        if grad is None:
            lost.append(tensor.name)
        else:
            grads[tensor.name].append(grad)
    return lost


def _through(
    node: Node, builder: Builder, grads: Mapping[str, list[str]]
) -> Sequence[str | None] | None:
    """Gradients of a node's inputs from those of its results; None where no rule has them."""
    rule = ops.GRADIENTS.get(node.op)
    if rule is None or node.captured:
        return None
    slots = node.slots or tuple(range(len(node.outputs)))
    given: list[str | None] = [None] * (1 + max(slots))
    for slot, tensor in zip(slots, node.outputs, strict=True):
        given[slot] = _sum(builder, grads[tensor.name]) if tensor.name in grads else None
    try:
        return rule(builder, node, given)
    except UnknownFormError:
        return None


def _sum(builder: Builder, grads: list[str]) -> str:
    """Add the gradients of a tensor, once."""
    grads[:] = [builder.total(grads)]
    return grads[0]


def _assembled(
    bare: ModelProto,
    added: GraphBuilder,
    gives: Mapping[str, str],
    seeds: Collection[str],
    fixed: Read,
) -> tuple[ModelProto, tuple[str, ...]]:
    """The skeleton `bare` and what was added as a model, and its inputs.

    `gives` names the gradients by weight, `fixed` holds the weights that stay.
    """
    nodes = leading([*bare.graph.node, *added.nodes], set(gives.values()))
    read = {name for node in nodes for name in subgraphs.needs(node)}
    stored = {t.name for t in bare.graph.initializer} | added.constants.keys()
    kind = f"tensor({skeleton.kind_of(added.dtype)})"
    kinds = {TARGET + name: kind for name in seeds if TARGET + name in read}
    values = {k: v for k, v in added.constants.items() if k in read}
    for value in bare.graph.input:
        if value.name in read and value.name not in stored:
            content = fixed(value.name)
            if content is None:
                kinds[value.name] = ""
            else:
                values[value.name] = content
    model = skeleton.part(bare, nodes, kinds, list(dict.fromkeys(gives.values())))
    skeleton.store(model, values)
    model = exact_products.exact_where_needed(model, ops.byte_products(), ops.DECODERS)
    return model, tuple(sorted(kinds))
