"""What BatchNormalization parameters say about activations, without any data.

Behind a normalisation channel c has mean β_c and standard deviation |γ_c|, as in training. How
channels move together follows from the weights before it. What is taken as Gaussian goes through
activations by quadrature, correlations along their Hermite series. Where normalisations have been
folded away, what an image looks like is carried on from the input. What each operator makes of
means and covariances is registered in `onnxprune.ops.MOMENTS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxprune import ops
from onnxprune.calibration.gaussian import curved
from onnxprune.groups.layers import layer_of
from onnxprune.ir.constant_folding import function_runner
from onnxprune.ops.moments import Estimate, Estimates
from onnxprune.types import Node, Read

__all__ = ["Estimate", "estimate_statistics"]

#: Multiply-accumulates that all covariances may take, ten times those of a ResNet-50's. Nothing is
#: said of what lies behind, where similar filters merge.
MOST_MACS = 4e11
#: Correlation of the colours of an image.
COLOURS = 0.9
#: Mean and standard deviation of images as models take them.
SCALES = ((0.0, 1.0), (0.45, 0.25), (115.0, 64.0))


def estimate_statistics(
    nodes: Sequence[Node], read: Read, sample: Mapping[str, Sequence[int]]
) -> dict[str, Estimate]:
    """Estimate mean and covariance of every tensor that normalisations say something about.

    `sample` holds the sizes of the inputs; those with three channels are taken as
    images.
    """
    known: dict[str, Estimate] = {}
    makers = {node.outputs[0].name: node for node in nodes}
    run = function_runner()
    given = Estimates(known, makers, read, run, lambda node: layer_of(node, read), curved)
    for name, shape in sample.items():
        image = _image(name, shape, nodes, given)
        if image is not None:
            known[name] = image
    left = MOST_MACS
    for node in nodes:
        left -= _macs(node, given)
        if left < 0:
            break
        made = ops.MOMENTS[node.op](node, given) if node.op in ops.MOMENTS else None
        if made is not None:
            known[node.outputs[0].name] = made
    return known


def _macs(node: Node, given: Estimates) -> float:
    """What the covariance behind a layer takes; nothing where it is not computed."""
    layer, data = given.layer(node), given.of(node)
    if layer is None or data is None or layer.depthwise:
        return 0.0
    inputs, numbers = len(data.mean), math.prod(layer.weight.sample or ())
    outputs = node.outputs[0].size(1) or 0
    return float(numbers * (inputs + outputs))


def _image(
    name: str, shape: Sequence[int], nodes: Sequence[Node], given: Estimates
) -> Estimate | None:
    """An input that may be an image, of the scale that the first convolution seems made for."""
    if len(shape) != 4 or not {shape[1], shape[3]} & {1, 3}:
        return None
    n = shape[1] if shape[1] in (1, 3) else shape[3]
    cov = COLOURS + (1 - COLOURS) * np.eye(n)
    guesses = [Estimate(np.full(n, mean), cov * std**2) for mean, std in SCALES]
    found = {name}
    for node in nodes:
        data = node.input(0)
        if data is None or data.name not in found:
            continue
        if ops.COPIES.get(node.op) == "permutes":
            found.add(node.outputs[0].name)
        elif ops.convolves(node.op) and node.op in ops.MOMENTS:
            made = [
                ops.MOMENTS[node.op](node, replace(given, known={data.name: guess}))
                for guess in guesses
            ]
            return min(zip(made, guesses, strict=True), key=lambda pair: _unlikely(pair[0]))[1]
    return guesses[0]


def _unlikely(made: Estimate | None) -> float:
    """How far the standard deviation behind a convolution is from one."""
    if made is None:
        return math.inf
    # np.median would import numpy.ma
    return abs(float(np.quantile(np.log(np.maximum(np.diag(made.cov), 1e-24)), 0.5)))
