"""Residual blocks that can go whole: what is left is the shortcut plus a bias.

A branch ends in a layer whose result is added to a shortcut. Without any of the channels that this
layer reads, its result is its bias: everything that only led there can be removed, and the addition
adds a constant for each channel.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from onnxprune import ops
from onnxprune.groups.graph_index import GraphIndex
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Group, Kernel, Node, Tensor

__all__ = ["Block", "find_blocks"]


@dataclass(frozen=True)
class Block:
    """A branch that is added to a shortcut.

    Attributes:
        root: the group that the branch's last layer reads.
        inside: all groups that go with the branch, the root among them.
        layer: the result of the last layer, `kernel` where its weight lies.
        chain: results of operators on single channels behind it; the last is added to the shortcut.
        rank: of all of them.
        channel: their axis of channels.
        branch: first results of all nodes that go with it.
        junction: the sum of branch and shortcut.
    """

    root: int
    inside: tuple[int, ...]
    layer: str
    kernel: Kernel
    chain: tuple[str, ...]
    rank: int
    channel: int
    branch: frozenset[str]
    junction: str

    @property
    def addend(self) -> str:
        """What is added to the shortcut."""
        return (self.layer, *self.chain)[-1]


def find_blocks(model: ModelProto, index: GraphIndex, groups: Sequence[Group]) -> dict[int, Block]:
    """Every branch that can go, by its root; of two that meet in one sum only the first."""
    graph_of = _Graph(model, index, groups)
    blocks: dict[int, Block] = {}
    sums = set[str]()
    for node in index.nodes:
        end = graph_of.ending(node)
        if end is None or end[1] in sums:
            continue
        chain, junction, kernel = end
        branch = graph_of.only_for(node.outputs[0].name if not chain else chain[-1])
        inside = tuple(g for g, nodes in enumerate(graph_of.touching) if nodes <= branch)
        data = kernel.operand(node)
        axis = data.at(kernel.reads) if data is not None else None
        covering = (g for g in inside if axis is not None and _covers(groups[g], axis))
        root = next(covering, None)
        if root is None or any(graph_of.by_name[name].op in ops.JUMPS for name in branch):
            continue
        y = node.outputs[0]
        channel = kernel.channel % y.rank
        where = (y.name, kernel, chain, y.rank, channel, frozenset(branch), junction)
        blocks[root] = Block(root, inside, *where)
        sums.add(junction)
    return blocks


class _Graph:
    """Who reads what, and which nodes each group touches; nodes go by their first output."""

    def __init__(self, model: ModelProto, index: GraphIndex, groups: Sequence[Group]) -> None:
        self.nodes = [node for node in index.nodes if node.outputs]
        self.by_name = {_name(node): node for node in self.nodes}
        self.readers, self.makers = index.readers, index.makers
        outer = {name for node in model.graph.node for name in node.output}
        self.ends = {value.name for value in model.graph.output}
        self.movable = {
            _name(node) for node in self.nodes if _name(node) in outer and not node.bodies
        }
        self.touching = [
            {_name(node) for axis, _ in group.axes() for node in index.touching.get(axis, ())}
            for group in groups
        ]

    def ending(self, node: Node) -> tuple[tuple[str, ...], str, Kernel] | None:
        """What a layer's result becomes until it is added, the sum, and the layer's kernel."""
        kernels = ops.kernels_of(node) if node.op in ops.LAYERS else ()
        y = node.outputs[0]
        if not kernels or kernels[0].in_axis is None or _name(node) not in self.movable:
            return None
        weight = node.inputs[kernels[0].index]
        if weight is None or not weight.constant or int(node.attrs.get("group", 1)) > 1:
            return None
        chain = list[str]()
        while y.rank > 0 and y.name not in self.ends and len(self.readers.get(y.name, ())) == 1:
            (reader,) = self.readers[y.name]
            if _name(reader) not in self.movable:
                return None
            result = reader.outputs[0]
            if ops.adds(reader.op) and _is_sum(reader, y):
                return tuple(chain), result.name, kernels[0]
            channel = kernels[0].channel % y.rank
            if not ops.treats_alike(reader.op) or not _single(reader, y, channel):
                return None
            y = result
            chain.append(y.name)
        return None

    def only_for(self, tensor: str) -> set[str]:
        """The nodes that nothing but `tensor` needs."""
        branch, waiting = {_name(self.makers[tensor])}, [self.makers[tensor]]
        while waiting:
            for source in waiting.pop().inputs:
                maker = self.makers.get(source.name) if source is not None else None
                if maker is None or _name(maker) in branch or _name(maker) not in self.movable:
                    continue
                if self._only_in(maker, branch):
                    branch.add(_name(maker))
                    waiting.append(maker)
        return branch

    def _only_in(self, node: Node, branch: Collection[str]) -> bool:
        names = [t.name for t in node.outputs]
        read = all(_name(r) in branch for name in names for r in self.readers.get(name, ()))
        return read and self.ends.isdisjoint(names)


def _name(node: Node) -> str:
    return node.outputs[0].name


def _is_sum(node: Node, addend: Tensor) -> bool:
    """Whether the addend meets a shortcut of the same shape that is not constant."""
    others = [t for t in node.inputs if t is not None and t.name != addend.name]
    shape = node.outputs[0].shape
    fits = (t.shape == shape and not t.constant for t in others)
    return addend.shape == shape and len(others) == len(node.inputs) - 1 and any(fits)


def _single(node: Node, y: Tensor, channel: int) -> bool:
    """Whether all other operands are constants with at most one number for each channel."""
    for other in node.inputs:
        if other is None or other.name == y.name:
            continue
        if not other.constant or other.shape is None or other.rank > y.rank:
            return False
        if node.op in ops.ARITHMETIC:
            offset = y.rank - other.rank
            if any(n != 1 and k + offset != channel for k, n in enumerate(other.shape)):
                return False
    return node.outputs[0].shape == y.shape


def _covers(group: Group, axis: Any) -> bool:
    """Whether all positions of an axis belong to the group."""
    site = next((site for site in group.sites if axis in site.axes), None)
    return site is not None and not group.inexact and site.positions.size == site.size
