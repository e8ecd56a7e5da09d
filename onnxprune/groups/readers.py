"""Which layers read each group, and whether least squares can stand in for its channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxprune import ops
from onnxprune.groups.head_units import single_units
from onnxprune.groups.layers import Layer
from onnxprune.types import Group, Ints, Node, Read

__all__ = ["GroupReaders", "find_readers"]


@dataclass(frozen=True)
class GroupReaders:
    """Layers that read a group, each with the (n_units, k) columns of its units.

    Units are the group's channels, or in a group of heads the parts of each channel. `complete`:
    nothing else reads the group.
    """

    group: Group
    layers: tuple[Layer, ...]
    columns: tuple[Ints, ...]
    complete: bool


def find_readers(
    groups: Sequence[Group], nodes: Sequence[Node], layers: Sequence[Layer], read: Read
) -> list[GroupReaders]:
    """The layers that read each group, in the order of `groups`."""
    by_node = {layer.node.outputs[0].name: layer for layer in layers}
    return [_readers(group, nodes, by_node, read) for group in groups]


def _readers(
    group: Group, nodes: Sequence[Node], by_node: Mapping[str, Layer], read: Read
) -> GroupReaders:
    at = dict((single_units(group) if group.heads > 1 else group).axes())
    whole = dict(group.axes())
    layers, columns, complete = list[Layer](), list[Ints](), True
    for node in nodes:
        for kernel in ops.kernels_of(node):
            data = kernel.operand(node)
            axis = None if data is None or kernel.in_axis is None else data.at(kernel.channel)
            if axis is None or axis not in whole:
                continue
            layer = by_node.get(node.outputs[0].name)
            if layer is None or axis not in at:
                complete = False
                continue
            stored = read(layer.weight.name)
            assert stored is not None
            layers.append(layer)
            columns.append(layer.columns(at[axis], stored.shape))
        for index, axis_number in ops.statistics_of(node):
            x = node.inputs[index]
            complete = complete and not (x is not None and x.at(axis_number) in whole)
    return GroupReaders(group, tuple(layers), tuple(columns), complete and bool(layers))
