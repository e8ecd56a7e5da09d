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
from onnxprune.ir import graph, runtime, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.graph_builder import GraphBuilder, leading
from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import UnknownFormError
from onnxprune.types import Node

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
        """The gradient of every weight."""
        found = runtime.run(self.session, {name: feeds[name] for name in self.needs})
        return {weight: found[name] for weight, name in self.gives.items()}


class _Back:
    """Gradients on their way from the end to the beginning."""

    def __init__(self, builder: Builder, moved: Collection[str]) -> None:
        self.builder, self.moved = builder, moved
        self.grads: dict[str, list[str]] = defaultdict(list)
        self.blocked: set[str] = set()

    def pass_(self, node: Node) -> None:
        """Take the gradient of a node's outputs to its inputs."""
        ways = [t.name for t in (*node.inputs, *node.captured) if t and t.name in self.moved]
        if not ways or node.op in ops.FLAT:
            return
        outs = [t.name for t in node.outputs]
        if not any(name in self.grads or name in self.blocked for name in outs):
            return
        rule, first = ops.GRADIENTS.get(node.op), outs[0]
        others = any(name in self.grads for name in outs[1:])
        if rule is None or others or node.captured or not self.blocked.isdisjoint(outs):
            self.blocked.update(ways)
            return
        try:
            made = rule(self.builder, node, self.builder.total(self.grads[first]))
        except UnknownFormError:
            self.blocked.update(ways)
            return
        for tensor, grad in zip(node.inputs, made, strict=False):
            if tensor is not None and tensor.name in self.moved:
                if grad is None:
                    self.blocked.add(tensor.name)
                else:
                    self.grads[tensor.name].append(grad)


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
    """Gradients of a loss with respect to `weights`, which each run brings along.

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
    tape = GraphBuilder(opset, dtype)
    builder = Builder(tape)
    back = _Back(builder, _reached(analysis.nodes, weights))
    for name, seed in seeds.items():
        back.grads[name].append(seed(builder, name, TARGET + name))
    for node in reversed(analysis.nodes):
        back.pass_(node)
    gives = {
        name: builder.total(back.grads[name])
        for name in sorted(weights)
        if name in back.grads and name not in back.blocked
    }
    return _opened((analysis, weights), bare, tape, gives, seeds) if gives else None


def _opened(
    of: tuple[Analysis, Collection[str]],
    bare: ModelProto,
    tape: GraphBuilder,
    gives: Mapping[str, str],
    seeds: Mapping[str, Seed],
) -> Differentiated:
    found, weights = of
    nodes = leading([*bare.graph.node, *tape.nodes], set(gives.values()))
    read = {name for node in nodes for name in node.input if name}
    stored = {t.name for t in bare.graph.initializer} | tape.constants.keys()
    kind = f"tensor({skeleton.kind_of(tape.dtype)})"
    kinds = {TARGET + name: kind for name in seeds if TARGET + name in read}
    values = {k: v for k, v in tape.constants.items() if k in read}
    for value in bare.graph.input:
        if value.name in read and value.name not in stored:
            fixed = None if value.name in weights else found.read(value.name)
            if fixed is None:
                kinds[value.name] = ""
            else:
                values[value.name] = fixed
    model = skeleton.part(bare, nodes, kinds, list(dict.fromkeys(gives.values())))
    skeleton.store(model, values)
    session = runtime.open_session(graph.model_bytes(model))
    return Differentiated(session, tuple(sorted(kinds)), dict(gives))
