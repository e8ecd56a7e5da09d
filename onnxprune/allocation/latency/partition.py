"""Divide a model into subgraphs: operators that run as one kernel, or nearly so.

A subgraph begins with an operator that mixes channels (a dense convolution, a matrix product) and
takes all that follows it up to the next one: activations, biases, residual sums, depthwise
convolutions, what onnxruntime fuses behind a layer. Every operator is in one subgraph, so that the
times of all add up to that of the model, but for what lies between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import graph, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Node

__all__ = ["Partition", "Subgraph", "partition"]


@dataclass(frozen=True)
class Subgraph:
    """Operators, the groups whose widths they see, and the tensors that flow in and out.

    `nodes` are those of `protos`, and of their bodies.
    """

    protos: tuple[Any, ...]
    nodes: tuple[Node, ...]
    groups: tuple[int, ...]
    needs: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """A model divided into subgraphs, by number in the order that they run in.

    Attributes:
        members: the operators of each.
        nodes: by an operator's first output its nodes, those of its bodies before it.
        groups: by an operator's first output the groups that its time may depend on.
        readers: by tensor the subgraphs that read it.
        outputs: of the model.
        stored: names of the model's weights.
    """

    members: tuple[tuple[Any, ...], ...]
    nodes: Mapping[str, Sequence[Node]]
    groups: Mapping[str, set[int]]
    readers: Mapping[str, set[int]]
    outputs: frozenset[str]
    stored: frozenset[str]

    def joined(self, numbers: Sequence[int]) -> Subgraph:
        """Some subgraphs as one."""
        protos = [proto for k in numbers for proto in self.members[k]]
        made = {name for proto in protos for name in proto.output if name}
        read = {name for proto in protos for name in subgraphs.needs(proto)}
        nodes = [node for proto in protos for node in self.nodes[_name(proto)]]
        groups = {g for proto in protos for g in self.groups[_name(proto)]}
        others = set(numbers)
        gives = {n for n in made if n in self.outputs or self.readers.get(n, set()) - others}
        needs = read - made - self.stored
        return Subgraph(
            tuple(protos),
            tuple(nodes),
            tuple(sorted(groups)),
            tuple(sorted(needs)),
            tuple(sorted(gives)),
        )


def partition(analysis: Analysis, bare: ModelProto) -> Partition:
    """Divide a model.

    Args:
        analysis: the model.
        bare: its graph without large weights (`skeleton.skeleton`).
    """
    nodes = _nodes_of(analysis, bare)
    groups = _groups_of(analysis, nodes)
    members, readers = list[list[Any]](), dict[str, set[int]]()
    maker: dict[str, int] = {}  # the subgraph that makes a tensor
    for proto in bare.graph.node:
        needs = list(subgraphs.needs(proto))
        at = max((maker.get(name, -1) for name in needs), default=-1)
        if any(map(_mixes, nodes[_name(proto)])) or (at < 0 and groups[_name(proto)]):
            at = len(members)
            members.append([])
        if at >= 0:
            members[at].append(proto)
        maker.update(dict.fromkeys(proto.output, at))
        for name in needs:
            readers.setdefault(name, set()).add(at)
    outputs = frozenset(output.name for output in bare.graph.output)
    stored = frozenset(graph.constants(analysis.model))
    return Partition(tuple(map(tuple, members)), nodes, groups, readers, outputs, stored)


def _name(proto: Any) -> str:
    return next((name for name in proto.output if name), "")


def _nodes_of(analysis: Analysis, bare: ModelProto) -> dict[str, list[Node]]:
    """For each operator of the main graph its node, and before it those of its bodies."""
    outer = {_name(proto) for proto in bare.graph.node}
    found: dict[str, list[Node]] = {name: [] for name in outer}
    waiting: list[Node] = []
    for node in analysis.nodes:
        waiting.append(node)
        name = node.outputs[0].name if node.outputs else ""
        if name in outer:
            found[name], waiting = waiting, []
    return found


def _groups_of(analysis: Analysis, owned: Mapping[str, Sequence[Node]]) -> dict[str, set[int]]:
    """The groups that each operator's time may depend on."""
    by_axis: dict[tuple[str, int], set[int]] = {}
    for g, group in enumerate(analysis.groups):
        for axis, _ in group.axes():
            by_axis.setdefault((axis.tensor, axis.axis), set()).add(g)
    return {
        name: {
            g
            for node in nodes
            for tensor in node.tensors
            for k in range(tensor.rank)
            for g in by_axis.get((tensor.name, k), ())
        }
        for name, nodes in owned.items()
    }


def _mixes(node: Node) -> bool:
    """Whether an operator sums over channels, with a weight that is stored."""
    return any(kernel.in_axis is not None for kernel in ops.kernels_of(node))
