"""A small convolutional network with what sparsity needs to know of it."""

from dataclasses import dataclass

import numpy as np
from networks import Net, samples_of

from onnxprune import ops
from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.layers import Layer
from onnxprune.ir import zero_biases
from onnxprune.settings import Settings
from onnxprune.sparsity.weights import Weight, weights_of


@dataclass(frozen=True)
class SparseCase:
    analysis: Analysis
    data: Calibration
    weights: list[Weight]
    layers: dict[str, Layer]


def sparse_case() -> SparseCase:
    """Three convolutions of 8 channels, each with a bias, and seeded samples."""
    n = Net(x=("N", 3, 8, 8))
    y = n.relu(n.conv(n.relu(n.conv("x", 3, 8)), 8, 8))
    y = n.relu(n.conv(y, 8, 8))
    model = n.model(n.op("Flatten", n.op("GlobalAveragePool", y)))
    analysis = analyze(zero_biases.biased(model, ops.LAYERS))
    feeds = samples_of(model, np.random.default_rng(0))
    data = calibration(feeds, model, Settings(), analysis.nodes)
    layers = {layer.weight.name: layer for layer in analysis.layers}
    return SparseCase(analysis, data, weights_of(analysis.nodes, analysis.stored), layers)
