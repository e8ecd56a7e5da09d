"""Small networks whose outputs keep no space."""

from __future__ import annotations

import numpy as np
import onnx
from networks import Net

__all__ = ["centred", "centred_samples", "pooled"]


def pooled(rank: int = 2, size: int = 32) -> onnx.ModelProto:
    """Two strides, and a window over all there is."""
    n = Net(x=("N", 3, *[size] * rank))
    y = n.relu(n.conv("x", 3, 8, rank=rank, strides=[2] * rank))
    y = n.relu(n.conv(y, 8, 8, rank=rank))
    y = n.op("MaxPool", y, kernel_shape=[2] * rank, strides=[2] * rank)
    y = n.op("AveragePool", y, kernel_shape=[size // 4] * rank)
    return n.model(n.gemm(n.op("Reshape", y, n.const([-1, 8], "sizes")), 8, 4))


def centred(size: int = 16) -> onnx.ModelProto:
    """What matters most in a picture decides, wherever that is; every channel is a class."""
    n = Net(x=("N", 3, size, size))
    y = n.relu(n.conv("x", 3, 8, strides=[2, 2]))
    y = n.op("MaxPool", n.relu(n.conv(y, 8, 8)), kernel_shape=[size // 2] * 2)
    classes = [n.const(2 * np.eye(8, dtype=np.float32)), n.const(np.zeros(8, np.float32))]
    return n.model(n.op("Gemm", n.op("Flatten", y), *classes))


def centred_samples(count: int = 32, size: int = 16) -> dict[str, np.ndarray]:
    """Pictures with nothing at the left and right border."""
    x = np.zeros((count, 3, size, size), np.float32)
    x[..., 4:-4] = 3 * np.random.default_rng(2).standard_normal((count, 3, size, size - 8))
    return {"x": x}
