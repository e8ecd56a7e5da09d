"""Who makes and who reads each tensor of a graph, worked out once for all stages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from onnxprune.types import Axis, Node

__all__ = ["GraphIndex"]


@dataclass(frozen=True)
class GraphIndex:
    """Nodes in topological order, looked up by the tensors that they touch."""

    nodes: tuple[Node, ...]

    @cached_property
    def readers(self) -> Mapping[str, list[Node]]:
        """The nodes that read each tensor, once for each time; bodies that capture it count."""
        found: dict[str, list[Node]] = defaultdict(list)
        for node in (node for node in self.nodes if node.outputs):
            for tensor in (*node.inputs, *node.captured):
                if tensor is not None:
                    found[tensor.name].append(node)
        return dict(found)

    @cached_property
    def makers(self) -> Mapping[str, Node]:
        """The node that makes each tensor."""
        return {tensor.name: node for node in self.nodes for tensor in node.outputs}

    @cached_property
    def touching(self) -> Mapping[Axis, list[Node]]:
        """The nodes with outputs that have an axis among their inputs, outputs and bodies."""
        found: dict[Axis, list[Node]] = defaultdict(list)
        for node in (node for node in self.nodes if node.outputs):
            for tensor in node.tensors:
                for k in range(tensor.rank):
                    found[Axis(tensor.name, k)].append(node)
        return dict(found)
