"""A model that gives the gradients of a loss with respect to stored weights.

The graph runs forward, a few of its tensors are compared with targets that are fed, and their
gradients go back operator by operator (reverse mode; rules in `onnxprune.ops.GRADIENTS`). What lies
before an operator without a rule gets no gradient at all rather than a part of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import exact_products, graph, runtime, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.graph_builder import GraphBuilder, leading
from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import UnknownFormError
from onnxprune.types import Node, Read

__all__ = ["TARGET", "Differentiated", "Seed", "differentiated"]

#: What the name of a fed target begins with.
TARGET = "onnxprune/target/"
#: Rules are written for operators from this version on.
OPSET = 11
#: The gradient of a loss at a tensor, from the tensor's and its target's name.
Seed = Callable[[Builder, str, str], str]


@dataclass(frozen=True)
class Differentiated:
    """A session: `needs` are its inputs, `gives` maps weights to outputs that hold gradients."""

    session: Any
    needs: tuple[str, ...]
    gives: Mapping[str, str]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute the gradient of every weight."""
        found = runtime.run(self.session, {name: feeds[name] for name in self.needs})
        return {weight: found[name] for weight, name in self.gives.items()}


def _reached(nodes: Sequence[Node], weights: Collection[str]) -> set[str]:
    """The tensors that depend on the weights, and these."""
    moved = set(weights)
    for node in nodes:
        if any(t is not None and t.name in moved for t in (*node.inputs, *node.captured)):
            moved.update(t.name for t in node.outputs)
    return moved


def differentiated(
    analysis: Analysis, weights: Collection[str], seeds: Mapping[str, Seed], dtype: np.dtype[Any]
) -> Differentiated | None:
    """Differentiate a loss with respect to `weights`, which each run brings along.

    Args:
        analysis: the model, without bodies of control flow on the way.
        weights: names of stored tensors.
        seeds: for each tensor that the loss compares, the gradient there.
        dtype: of the weights.

    Returns:
        None where no gradient reaches any of them. Targets are fed as `TARGET` + name.
    """
    bare = skeleton.skeleton(analysis.model, fed=weights)
    opset = max((o.version for o in bare.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OPSET:
        return None
    added = GraphBuilder(opset, dtype)
    builder = Builder(added)
    ends = {name: seed(builder, name, TARGET + name) for name, seed in seeds.items()}
    gives = _gradients(analysis.nodes, builder, ends, weights)

    def fixed(name: str) -> NDArray[Any] | None:
        return None if name in weights else analysis.read(name)

    return _opened(bare, added, gives, seeds, fixed) if gives else None


def _gradients(
    nodes: Sequence[Node], builder: Builder, ends: Mapping[str, str], weights: Collection[str]
) -> dict[str, str]:
    """Take gradients at `ends` back to weights, those that they reach whole."""
    moved = _reached(nodes, weights)
    grads = defaultdict[str, list[str]](list, {name: [grad] for name, grad in ends.items()})
    blocked = set[str]()
    for node in reversed(nodes):
        ways = {t.name for t in (*node.inputs, *node.captured) if t and t.name in moved}
        outs = {t.name for t in node.outputs}
        if not ways or node.op in ops.FLAT or outs.isdisjoint(grads.keys() | blocked):
            continue
        made = _through(node, builder, grads) if blocked.isdisjoint(outs) else None
        if made is None:
            blocked |= ways
            continue
        for tensor, grad in zip(node.inputs, made, strict=False):
            if tensor is not None and tensor.name in moved:
                if grad is None:
                    blocked.add(tensor.name)
                else:
                    grads[tensor.name].append(grad)
    whole = [name for name in sorted(weights) if name in grads and name not in blocked]
    return {name: builder.total(grads[name]) for name in whole}


def _through(
    node: Node, builder: Builder, grads: Mapping[str, list[str]]
) -> Sequence[str | None] | None:
    """Gradients of a node's inputs from that of its first output; None where no rule has them."""
    rule, (first, *others) = ops.GRADIENTS.get(node.op), [t.name for t in node.outputs]
    if rule is None or node.captured or any(name in grads for name in others):
        return None
    try:
        return rule(builder, node, builder.total(grads[first]))
    except UnknownFormError:
        return None


def _opened(
    bare: ModelProto,
    added: GraphBuilder,
    gives: Mapping[str, str],
    seeds: Collection[str],
    fixed: Read,
) -> Differentiated:
    """A session of the skeleton `bare` and what was added; `fixed` are weights that stay."""
    nodes = leading([*bare.graph.node, *added.nodes], set(gives.values()))
    read = {name for node in nodes for name in node.input if name}
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
    session = runtime.open_session(graph.model_bytes(model))
    return Differentiated(session, tuple(sorted(kinds)), dict(gives))
