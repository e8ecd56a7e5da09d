"""Small networks whose outputs keep no space."""

from __future__ import annotations

import numpy as np
import onnx
from networks import Net

__all__ = ["centred", "centred_samples", "flattened", "pooled", "vision_transformer"]


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
    y = n.relu(n.op("Conv", "x", n.weight(8, 3, 3, 3), pads=[1] * 4, strides=[2, 2]))
    y = n.relu(n.op("Conv", y, n.weight(8, 8, 3, 3), pads=[1] * 4))
    y = n.op("MaxPool", y, kernel_shape=[size // 2] * 2)
    classes = [n.const(2 * np.eye(8, dtype=np.float32)), n.const(np.zeros(8, np.float32))]
    return n.model(n.op("Gemm", n.op("Flatten", y), *classes))


def centred_samples(count: int = 32, size: int = 16) -> dict[str, np.ndarray]:
    """Pictures with nothing at the left and right border."""
    x = np.zeros((count, 3, size, size), np.float32)
    x[..., 4:-4] = 3 * np.random.default_rng(2).standard_normal((count, 3, size, size - 8))
    return {"x": x}


def flattened(size: int = 16, channels_last: bool = False) -> onnx.ModelProto:
    """Every position of the last map has columns of its own, as they do in VGG."""
    shape = (size, size, 3) if channels_last else (3, size, size)
    n = Net(x=("N", *shape))
    y = n.op("Transpose", "x", perm=[0, 3, 1, 2]) if channels_last else "x"
    y = n.relu(n.conv(y, 3, 6))
    y = n.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = n.relu(n.conv(y, 6, 5, strides=[2, 2]))
    y = n.op("Flatten", n.op("Transpose", y, perm=[0, 2, 3, 1]) if channels_last else y)
    y = n.relu(n.gemm(y, 5 * (size // 4) ** 2, 8))
    return n.model(n.gemm(y, 8, 4))


def vision_transformer(size: int = 32, patch: int = 4, width: int = 8) -> onnx.ModelProto:
    """Patches, a token for the class, learned positions, one layer of attention without heads."""
    n = Net(x=(1, 3, size, size))
    count = (size // patch) ** 2
    y = n.conv("x", 3, width, patch, strides=[patch] * 2, pads=[0] * 4)
    y = n.op("Transpose", n.op("Reshape", y, n.const([1, width, count])), perm=[0, 2, 1])
    y = n.op("Concat", n.weight(1, 1, width, name="class"), y, axis=1)
    y = n.op("Add", y, n.weight(1, count + 1, width, name="positions"))
    query, key, value = (n.op("MatMul", y, n.weight(width, width)) for _ in range(3))
    scores = n.op("Softmax", n.op("MatMul", query, n.op("Transpose", key, perm=[0, 2, 1])), axis=-1)
    y = n.op("Add", y, n.op("MatMul", scores, value))
    y = n.op("Gather", y, n.const(np.array(0)), axis=1)
    return n.model(n.gemm(n.relu(n.gemm(y, width, 12)), 12, 4))
