"""A layer with its stored weight and bias, and what they become when its matrix changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.types import Floats

__all__ = ["StoredLayer", "name_of", "stored_layer"]


@dataclass(frozen=True)
class StoredLayer:
    """A layer as it is stored.

    Attributes:
        layer: where it stands in the graph.
        weight: its weight.
        bias_name: the name of its bias, empty where it has none.
        bias: the bias, None where it has none.
    """

    layer: Layer
    weight: NDArray[Any]
    bias_name: str
    bias: NDArray[Any] | None

    @property
    def matrix(self) -> Floats:
        """(d, o) the weight as a matrix."""
        return self.layer.matrix(self.weight)

    def changed(self, matrix: Floats, mean: Floats) -> dict[str, NDArray[Any]]:
        """New content of weight and bias for a new matrix, so that the mean result stays.

        Args:
            matrix: (d, o) new weight.
            mean: (d,) mean of the inputs.
        """
        content = {self.layer.weight.name: self.layer.stored(matrix, self.weight)}
        if self.bias is not None:
            moved = self.bias.ravel() + (self.matrix - matrix).T @ mean
            content[self.bias_name] = moved.reshape(self.bias.shape).astype(self.bias.dtype)
        return content


def stored_layer(layer: Layer, analysis: Analysis) -> StoredLayer:
    """Read the weight and bias of a layer of a model."""
    read = analysis.read
    weight = read(layer.weight.name)
    assert weight is not None
    name, _ = bias_of(layer, analysis.index.readers, read)
    bias = read(name) if name else None
    return StoredLayer(layer, weight, name, bias)


def name_of(layer: Layer) -> str:
    """What a layer goes by: its result."""
    return layer.node.outputs[0].name
