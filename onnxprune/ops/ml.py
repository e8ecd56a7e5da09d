"""Classical machine learning (ai.onnx.ml): what treats features one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.ops.registry import couples, same_but, shrinks, sums
from onnxprune.types import Coupling, Edit, Kept, Node

#: Attributes with one entry for each feature.
_LISTS = ("imputed_value_floats", "imputed_value_int64s", "offset", "scale")


@couples("ai.onnx.ml:Binarizer", "ai.onnx.ml:Imputer", "ai.onnx.ml:Scaler")
def feature_wise(node: Node) -> Iterator[Coupling]:
    """The last axis holds features."""
    yield from same_but((), node.inputs[0], node.outputs[0])


@shrinks("ai.onnx.ml:Imputer", "ai.onnx.ml:Scaler")
def shrink_feature_wise(node: Node, kept: Kept) -> Edit:
    """Lists with an entry for each feature are cut."""
    x = node.inputs[0]
    size, at = (x.size(-1), kept(x, x.rank - 1)) if x is not None else (None, np.arange(0))
    lists = {name: node.attrs[name] for name in _LISTS if name in node.attrs}
    return Edit(
        attrs={
            name: [values[k] for k in at.tolist()]
            for name, values in lists.items()
            if size is not None and len(at) < size == len(values)
        }
    )


@couples("ai.onnx.ml:Normalizer")
def normalizer(node: Node) -> Iterator[Coupling]:
    """Zeros change no sum, but may be the largest number."""
    mixed = () if node.attrs.get("norm", "MAX") in ("L1", "L2") else (-1,)
    yield from same_but(mixed, node.inputs[0], node.outputs[0])


@sums("ai.onnx.ml:Normalizer")
def summed(node: Node) -> Iterator[tuple[int, int]]:
    """The features."""
    x = node.inputs[0]
    if x is not None and x.rank > 0 and not x.constant:
        yield 0, x.rank - 1


@couples("ai.onnx.ml:ArrayFeatureExtractor")
def array_feature_extractor(node: Node) -> Iterator[Coupling]:
    """Picks features by their number: the others pass."""
    yield from same_but((-1,), node.inputs[0], node.outputs[0])
