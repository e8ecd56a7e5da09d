"""Networks with seeded weights for tools/bench_passes.py, as exporters write them.

Normalisation is folded into convolutions where exporters fold it. Weights are random, because what
calibration costs hangs on the graph and its sizes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx
from bench_models import (
    TOKENS,
    VOCABULARY,
    Builder,
    layer_norm,
    linear,
    resnet50,
    transformer,
)

__all__ = ["NETWORKS", "Network"]

#: Expansion, channels, blocks and first stride of the stages of MobileNetV2 (Sandler et al., 2018).
INVERTED = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
#: DenseNet-BC-100 (Huang et al., 2017): layers of a block, channels that each of them adds.
DENSE_LAYERS, GROWTH = 16, 12
#: ViT-S/16 (Touvron et al., 2021): layers, channels, heads, side of a patch.
VIT_LAYERS, VIT_WIDTH, VIT_HEADS, PATCH = 12, 384, 6, 16


class Network(NamedTuple):
    """A graph and the shape of one sample; samples of integers are below `words`."""

    build: Callable[[], onnx.ModelProto]
    sample: tuple[int, ...]
    words: int = 0


def resnet56() -> onnx.ModelProto:
    """ResNet-56 for pictures of 32 x 32: three stages of nine blocks."""
    b = Builder()
    x, channels = b.add("Relu", [b.conv("input", (16, 3, 3))]), 16
    for stage, width in enumerate((16, 32, 64)):
        for block in range(9):
            stride = 2 if stage and not block else 1
            y = b.add("Relu", [b.conv(x, (width, channels, 3), stride)])
            y = b.conv(y, (width, width, 3), gain=0.2)
            if width != channels:
                x = b.conv(x, (width, channels, 1), stride)
            x, channels = b.add("Relu", [b.add("Add", [y, x])]), width
    b.head(x, channels, 10)
    return b.model("resnet56", (3, 32, 32), 10)


def mobilenet_v2() -> onnx.ModelProto:
    """MobileNetV2 with normalisation folded into the convolutions."""
    b = Builder()
    ends = [b.store(np.array(end, np.float32)) for end in (0, 6)]
    x, channels = b.add("Clip", [b.conv("input", (32, 3, 3), 2), *ends]), 32
    for expansion, width, blocks, first_stride in INVERTED:
        for block in range(blocks):
            stride, inner, y = 1 if block else first_stride, expansion * channels, x
            if expansion > 1:
                y = b.add("Clip", [b.conv(y, (inner, channels, 1)), *ends])
            y = b.add("Clip", [_depthwise(b, y, inner, stride), *ends])
            y = b.conv(y, (width, inner, 1), gain=0.5)
            x = b.add("Add", [x, y]) if block else y
            channels = width
    x = b.add("Clip", [b.conv(x, (1280, channels, 1)), *ends])
    b.head(x, 1280, 1000)
    return b.model("mobilenet_v2", (3, 224, 224), 1000)


def _depthwise(b: Builder, x: str, channels: int, stride: int) -> str:
    """A convolution of 3 x 3 that keeps channels apart."""
    names = [x, b.normal((channels, 1, 3, 3), (2 / 9) ** 0.5), b.normal((channels,), 0.01)]
    return b.add("Conv", names, strides=[stride] * 2, pads=[1] * 4, group=channels)


def densenet() -> onnx.ModelProto:
    """DenseNet-BC-100, k = 12, for pictures of 32 x 32; each layer is normalised before it."""
    b = Builder()
    x, channels = b.conv("input", (2 * GROWTH, 3, 3)), 2 * GROWTH
    for block in range(3):
        for _ in range(DENSE_LAYERS):
            y = b.conv(b.add("Relu", [b.norm(x, channels)]), (4 * GROWTH, channels, 1))
            y = b.conv(b.add("Relu", [b.norm(y, 4 * GROWTH)]), (GROWTH, 4 * GROWTH, 3))
            x = b.add("Concat", [x, y], axis=1)
            channels += GROWTH
        if block < 2:
            y = b.add("Relu", [b.norm(x, channels)])
            x = b.conv(y, (channels // 2, channels, 1))
            x = b.add("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2])
            channels //= 2
    b.head(b.add("Relu", [b.norm(x, channels)]), channels, 10)
    return b.model("densenet", (3, 32, 32), 10)


def vit() -> onnx.ModelProto:
    """ViT-S/16 for pictures of 224 x 224; the mean of all patches is classified."""
    b = Builder()
    scale = (2 / (3 * PATCH**2)) ** 0.5
    names = ["input", b.normal((VIT_WIDTH, 3, PATCH, PATCH), scale), b.normal((VIT_WIDTH,), 0.01)]
    x = b.add("Conv", names, strides=[PATCH] * 2, kernel_shape=[PATCH] * 2)
    patches = (224 // PATCH) ** 2
    x = b.add("Reshape", [x, b.store(np.array([0, VIT_WIDTH, patches], np.int64))])
    x = b.add("Transpose", [x], perm=[0, 2, 1])
    x = b.add("Add", [x, b.normal((patches, VIT_WIDTH), 0.3)])
    for _ in range(VIT_LAYERS):
        x = b.add("Add", [x, _attention(b, layer_norm(b, x, VIT_WIDTH))])
        y = linear(b, layer_norm(b, x, VIT_WIDTH), (VIT_WIDTH, 4 * VIT_WIDTH))
        half = b.add("Mul", [y, b.store(np.array([0.5], np.float32))])
        risen = b.add("Erf", [b.add("Mul", [y, b.store(np.array([0.5**0.5], np.float32))])])
        y = b.add("Mul", [half, b.add("Add", [risen, b.store(np.array([1], np.float32))])])
        x = b.add("Add", [x, linear(b, y, (4 * VIT_WIDTH, VIT_WIDTH), 0.3)])
    pooled = b.add("ReduceMean", [layer_norm(b, x, VIT_WIDTH)], axes=[1], keepdims=0)
    weight = b.normal((1000, VIT_WIDTH), VIT_WIDTH**-0.5)
    b.add("Gemm", [pooled, weight, b.normal((1000,), 0.01)], transB=1)
    return b.model("vit", (3, 224, 224), 1000)


def _attention(b: Builder, x: str) -> str:
    """Scaled dot products of heads; queries, keys and values come from one product."""
    size = VIT_WIDTH // VIT_HEADS
    shape = b.store(np.array([0, 0, 3, VIT_HEADS, size], np.int64))
    split = b.add("Reshape", [linear(b, x, (VIT_WIDTH, 3 * VIT_WIDTH)), shape])
    split = b.add("Transpose", [split], perm=[2, 0, 3, 1, 4])
    numbers = [b.store(np.array(k, np.int64)) for k in range(3)]
    q, k, v = (b.add("Gather", [split, number], axis=0) for number in numbers)
    scale = b.store(np.array([size**-0.5], np.float32))
    k = b.add("Transpose", [k], perm=[0, 1, 3, 2])
    scores = b.add("Softmax", [b.add("MatMul", [b.add("Mul", [q, scale]), k])], axis=-1)
    mixed = b.add("Transpose", [b.add("MatMul", [scores, v])], perm=[0, 2, 1, 3])
    flat = b.add("Reshape", [mixed, b.store(np.array([0, 0, VIT_WIDTH], np.int64))])
    return linear(b, flat, (VIT_WIDTH, VIT_WIDTH), 0.3)


PICTURE, SMALL = (3, 224, 224), (3, 32, 32)
NETWORKS = {
    "resnet56": Network(resnet56, SMALL),
    "resnet50": Network(resnet50, PICTURE),
    "mobilenet_v2": Network(mobilenet_v2, PICTURE),
    "densenet": Network(densenet, SMALL),
    "vit": Network(vit, PICTURE),
    "bert": Network(lambda: transformer(12), (TOKENS,), VOCABULARY),
}
