"""Which layers read each group, and whether least squares can stand in for its channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.head_units import single_units
from onnxprune.groups.layers import Layer, layer_of
from onnxprune.types import Group, Ints

__all__ = ["GroupReaders", "layers_of", "readers_of_groups"]


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


def layers_of(analysis: Analysis) -> tuple[Layer, ...]:
    """Every node that least squares can refit, in the order of the graph."""
    made = (layer_of(node, analysis.read) for node in analysis.nodes)
    layers = [layer for layer in made if layer is not None]
    uses: dict[str, int] = {}
    for node in analysis.nodes:
        for tensor in node.inputs:
            if tensor is not None:
                uses[tensor.name] = uses.get(tensor.name, 0) + 1
    return tuple(layer for layer in layers if uses[layer.weight.name] == 1)


def readers_of_groups(analysis: Analysis, layers: Sequence[Layer]) -> list[GroupReaders]:
    """The readers of every group."""
    by_node = {layer.node.outputs[0].name: layer for layer in layers}
    return [_readers(analysis, group, by_node) for group in analysis.groups]


def _readers(analysis: Analysis, group: Group, by_node: Mapping[str, Layer]) -> GroupReaders:
    at = dict((single_units(group) if group.heads > 1 else group).axes())
    whole = dict(group.axes())
    layers, columns, complete = list[Layer](), list[Ints](), True
    for node in analysis.nodes:
        for kernel in ops.kernels_of(node):
            data = kernel.operand(node)
            axis = None if data is None or kernel.in_axis is None else data.at(kernel.channel)
            if axis is None or axis not in whole:
                continue
            layer = by_node.get(node.outputs[0].name)
            if layer is None or axis not in at:
                complete = False
                continue
            stored = analysis.read(layer.weight.name)
            assert stored is not None
            layers.append(layer)
            columns.append(layer.columns(at[axis], stored.shape))
        for index, axis_number in ops.SUMS[node.op](node) if node.op in ops.SUMS else ():
            x = node.inputs[index]
            complete = complete and not (x is not None and x.at(axis_number) in whole)
    return GroupReaders(group, tuple(layers), tuple(columns), complete and bool(layers))
