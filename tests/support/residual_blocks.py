"""A network of residual blocks, any of which may go whole."""

from __future__ import annotations

from networks import Net

from onnxprune import ops
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir.zero_biases import biased

__all__ = ["residual"]


def residual(*, clipped: bool = True, shown: bool = False) -> Analysis:
    """Three blocks of two convolutions; the second one's sum may be rectified, and be an output."""
    net = Net(x=("N", 3, 8, 8))
    y = net.relu(net.conv("x", 3, 6))
    sums = []
    for k in range(3):
        z = net.conv(net.relu(net.conv(y, 6, 8)), 8, 6)
        y = net.op("Add", z, y)
        sums.append(y)
        y = net.relu(y) if clipped or k != 1 else net.op("Tanh", y)
    model = net.model(net.conv(y, 6, 4), *([sums[1]] if shown else []))
    return analyze(biased(model, ops.LAYERS))
