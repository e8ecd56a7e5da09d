"""How much of a model calibration reached, and why not the rest.

A layer that least squares cannot refit keeps its weight, a group that could not be measured keeps
its channels, a weight that no gradient reaches is not tuned: nothing of that ends a run, and all of
it is told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import bias_of, layer_of
from onnxprune.ir import zero_biases
from onnxprune.types import Node

__all__ = ["UNTOUCHED", "Part", "Reach", "label", "refitted_part"]

#: Why a layer is not refitted that could be.
UNTOUCHED = "nothing before it was changed"


@dataclass(frozen=True)
class Part:
    """How many of something there are, how many were reached, and by name why not the others."""

    count: int
    reached: int
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reach:
    """What calibration reached of a model.

    Attributes:
        layers: operators with a stored weight, those that were refitted.
        groups: of channels, those that were measured; None where none had to be.
        parameters: those that gradients reached, left by tensor; None where nothing was distilled.
    """

    layers: Part
    groups: Part | None = None
    parameters: Part | None = None

    def values(self) -> dict[str, Any]:
        """The content of the JSON report."""
        named = (
            ("layers", "refitted", self.layers),
            ("groups", "measured", self.groups),
            ("parameters", "tuned", self.parameters),
        )
        return {
            name: None
            if part is None
            else {"count": part.count, verb: part.reached, "left": dict(part.left)}
            for name, verb, part in named
        }


def label(node: Node) -> str:
    """What a node is called in the user's file."""
    return node.name or zero_biases.plain(node.outputs[0].name)


def refitted_part(analysis: Analysis, refitted: Collection[str], failed: Mapping[str, str]) -> Part:
    """Count the layers of a model that were refitted.

    Args:
        analysis: the model.
        refitted: results of the layers that were.
        failed: by the result of a layer why it could not be, though it was tried.
    """
    nodes = [node for node in analysis.nodes if node.outputs and _multiplies(node)]
    left = dict[str, str]()
    for node in nodes:
        result = node.outputs[0].name
        if result not in refitted:
            left[label(node)] = failed.get(result) or _hindrance(analysis, node) or UNTOUCHED
    done = sum(node.outputs[0].name in refitted for node in nodes)
    return Part(len(nodes), done, left)


def _multiplies(node: Node) -> bool:
    """Whether a node multiplies with a stored weight of two or more axes."""
    weights = (node.input(kernel.index) for kernel in ops.kernels_of(node))
    stored = any(w is not None and w.constant and w.rank > 1 for w in weights)
    return stored and node.op not in ops.LOOKUPS


def _hindrance(analysis: Analysis, node: Node) -> str:
    """Why least squares cannot refit a layer; empty where it can."""
    if node.op not in ops.LAYERS:
        return f"{node.op} is not refitted"
    (kernel,) = ops.kernels_of(node)
    weight = node.inputs[kernel.index]
    stored = analysis.read(weight.name) if weight is not None else None
    if weight is None or stored is None:
        return "its weight is computed"
    if not np.issubdtype(stored.dtype, np.floating) or stored.dtype == np.float16:
        return f"its weight is {stored.dtype}"
    readers = analysis.index.readers
    if len(readers[weight.name]) > 1:
        return "its weight is read by several operators"
    layer = layer_of(node, analysis.read)
    if layer is None:
        return "its form is not that of a plain product: groups, factors, or axes of its own"
    if layer not in analysis.refittable:
        return "it stands in a branch or loop, or its bias is shared or computed"
    return "" if bias_of(layer, readers, analysis.read)[0] else "it has no bias of its own"
