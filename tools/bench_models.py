"""Models that tools/bench.py measures, built from a seed, and what a file holds.

It is a program of its own because a process that once held a model cannot measure a small
one any more: the kernel hands a parent's peak memory on to the processes it starts.

Usage: `python tools/bench_models.py build resnet50 FILE`, start reading at `build`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SEED = 50
OPSET, IR_VERSION = 17, 8
#: Blocks, inner width and first stride of the four stages of ResNet-50 (He et al., CVPR 2016).
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
EXPANSION = 4
#: Channels and side of the residual chain.
WIDTH, SIDE = 16, 8
#: A block of the chain with normalisation comes after this many without.
PLAIN_BLOCKS = 2
#: How much wider the hidden layer is than the stream in a block of the large model.
WIDENING = 4
#: The transformer: tokens of a sample, words known, channels and heads.
TOKENS, VOCABULARY, STREAM, HEADS = 128, 30000, 768, 12


class Builder:
    """Nodes and seeded weights of a graph that is written from its input to its output."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(SEED)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def add(self, op: str, inputs: list[str], **attrs: Any) -> str:
        """A node; returns the name of its output."""
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attrs))
        return output

    def store(self, values: NDArray[Any]) -> str:
        """A constant; returns its name."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, shape: tuple[int, ...], scale: float) -> str:
        """Normal weights whose filters, the first axis, differ in size as trained ones do."""
        values = self.rng.standard_normal(shape, np.float32) * np.float32(scale)
        values *= self.rng.uniform(0.5, 1.5, (shape[0],) + (1,) * (len(shape) - 1))
        return self.store(values.astype(np.float32))

    def conv(self, x: str, sizes: tuple[int, int, int], stride: int = 1, gain: float = 1.0) -> str:
        """A convolution with a bias; `sizes` are outputs, inputs and kernel side."""
        outputs, inputs, side = sizes
        scale = gain * (2 / (inputs * side**2)) ** 0.5
        weight = self.normal((outputs, inputs, side, side), scale)
        names = [x, weight, self.normal((outputs,), 0.01)]
        return self.add("Conv", names, strides=[stride] * 2, pads=[side // 2] * 4)

    def norm(self, x: str, channels: int) -> str:
        """A batch normalisation."""
        draw = [(0.8, 1.2), (-0.1, 0.1), (-0.1, 0.1), (0.8, 1.2)]  # scale, bias, mean, variance
        parts = [self.rng.uniform(*ends, channels).astype(np.float32) for ends in draw]
        return self.add("BatchNormalization", [x, *(self.store(part) for part in parts)])

    def head(self, x: str, channels: int, classes: int) -> None:
        """Global pooling and a linear layer, which end the graph."""
        flat = self.add("Flatten", [self.add("GlobalAveragePool", [x])])
        weight = self.normal((classes, channels), channels**-0.5)
        self.add("Gemm", [flat, weight, self.normal((classes,), 0.01)], transB=1)

    def model(self, name: str, shape: tuple[int, ...], classes: int) -> onnx.ModelProto:
        """The finished model, its batch free."""
        kind, output = TensorProto.FLOAT, self.nodes[-1].output[0]
        inputs = [helper.make_tensor_value_info("input", kind, ["N", *shape])]
        outputs = [helper.make_tensor_value_info(output, kind, ["N", classes])]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def resnet50() -> onnx.ModelProto:
    """ResNet-50 with random weights, normalisation folded into the convolutions."""
    b = Builder()
    x = b.add("Relu", [b.conv("input", (64, 3, 7), 2)])
    x = b.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for blocks, width, first_stride in STAGES:
        for block in range(blocks):
            stride = 1 if block else first_stride
            y = b.add("Relu", [b.conv(x, (width, channels, 1))])
            y = b.add("Relu", [b.conv(y, (width, width, 3), stride)])
            y = b.conv(y, (EXPANSION * width, width, 1), gain=0.2)
            if block == 0:
                x = b.conv(x, (EXPANSION * width, channels, 1), stride)
            channels = EXPANSION * width
            x = b.add("Relu", [b.add("Add", [y, x])])
    b.head(x, channels, 1000)
    return b.model("resnet50", (3, 224, 224), 1000)


def chain(n_nodes: int, reshape_every: int) -> onnx.ModelProto:
    """About `n_nodes` in residual blocks: conv, relu, conv, relu, add.

    Every third block is normalised. With `reshape_every` there is a Reshape to a computed shape
    after about that many nodes, which turns 8x8 pixels into 4x16 and back.
    """
    b = Builder()
    n_blocks = max(1, n_nodes // 5)
    size = (WIDTH, WIDTH, 3)
    x = b.add("Relu", [b.conv("input", (WIDTH, 3, 3))])
    shaped = wide = 0
    for block in range(n_blocks):
        if len(b.nodes) + 5 > n_nodes and block:
            break
        plain = bool(block % (PLAIN_BLOCKS + 1))
        y = b.conv(x, size)
        y = b.add("Relu", [y if plain else b.norm(y, WIDTH)])
        y = b.conv(y, size, gain=1 / n_blocks)  # so that the sum stays finite at any depth
        y = b.add("Relu", [y if plain else b.norm(y, WIDTH)])
        x = b.add("Add", [x, y])
        if reshape_every and len(b.nodes) - shaped >= reshape_every:
            wide, shaped = 1 - wide, len(b.nodes)
            x = _reshape(b, x, (WIDTH, SIDE // 2, SIDE * 2) if wide else (WIDTH, SIDE, SIDE))
    b.head(x, WIDTH, 10)
    return b.model("chain", (3, SIDE, SIDE), 10)


class Outside(Builder):
    """A builder that writes weights to an external file as they are drawn, and keeps none."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.location = f"{file.name}.weights"
        self.data = file.with_name(self.location).open("wb")

    def store(self, values: NDArray[Any]) -> str:
        """A constant; returns its name."""
        tensor = TensorProto(name=f"weight_{len(self.weights)}", dims=values.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": self.location, "offset": self.data.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.data.write(values.data)
        self.weights.append(tensor)
        return tensor.name


def large(file: Path, gigabytes: float, width: int) -> onnx.ModelProto:
    """A residual stack of two-layer perceptrons whose weights take at least `gigabytes`."""
    b = Outside(file)
    hidden = WIDENING * width
    blocks = max(1, math.ceil(gigabytes * 1e9 / (2 * width * hidden * 4)))
    x = b.add("Relu", [linear(b, "input", (3, width))])
    for _ in range(blocks):
        y = b.add("Relu", [linear(b, x, (width, hidden))])
        x = b.add("Add", [x, linear(b, y, (hidden, width), gain=1 / blocks)])
    linear(b, x, (width, 10))
    b.data.close()
    return b.model("large", (3,), 10)


def transformer(layers: int) -> onnx.ModelProto:
    """An encoder over token ids, as wide as BERT base, that gives one of two classes."""
    b = Builder()
    x = b.add("Gather", [b.normal((VOCABULARY, STREAM), 1.0), "input"])
    x = b.add("Add", [x, b.normal((TOKENS, STREAM), 0.3)])
    for _ in range(layers):
        x = layer_norm(b, b.add("Add", [x, _attention(b, x)]), STREAM)
        y = linear(b, x, (STREAM, WIDENING * STREAM))
        half = b.add("Mul", [y, b.store(np.array([0.5], np.float32))])
        risen = b.add("Erf", [b.add("Mul", [y, b.store(np.array([0.5**0.5], np.float32))])])
        y = b.add("Mul", [half, b.add("Add", [risen, b.store(np.array([1], np.float32))])])
        y = linear(b, y, (WIDENING * STREAM, STREAM), 0.3)
        x = layer_norm(b, b.add("Add", [x, y]), STREAM)
    pooled = b.add("ReduceMean", [x], axes=[1], keepdims=0)
    weight = b.normal((2, STREAM), STREAM**-0.5)
    b.add("Gemm", [pooled, weight, b.normal((2,), 0.01)], transB=1)
    model = b.model("transformer", (TOKENS,), 2)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def _attention(b: Builder, x: str) -> str:
    """Scaled dot products of heads, each linear map with a bias of its own."""
    heads = b.store(np.array([0, 0, HEADS, STREAM // HEADS], np.int64))
    q, k, v = (b.add("Reshape", [linear(b, x, (STREAM,) * 2), heads]) for _ in range(3))
    q, v = (b.add("Transpose", [part], perm=[0, 2, 1, 3]) for part in (q, v))
    k = b.add("Transpose", [k], perm=[0, 2, 3, 1])
    scale = b.store(np.array([(STREAM / HEADS) ** -0.5], np.float32))
    scores = b.add("Softmax", [b.add("Mul", [b.add("MatMul", [q, k]), scale])], axis=-1)
    mixed = b.add("Transpose", [b.add("MatMul", [scores, v])], perm=[0, 2, 1, 3])
    flat = b.add("Reshape", [mixed, b.store(np.array([0, 0, STREAM], np.int64))])
    return linear(b, flat, (STREAM,) * 2)


def layer_norm(b: Builder, x: str, width: int) -> str:
    """A normalisation of the last axis, `width` long, that begins as the identity."""
    scale, bias = (b.store(np.full(width, value, np.float32)) for value in (1, 0))
    return b.add("LayerNormalization", [x, scale, bias])


def linear(b: Builder, x: str, sizes: tuple[int, int], gain: float = 1.0) -> str:
    """A matrix product with a bias, as exporters write one on more than two axes."""
    inputs, outputs = sizes
    y = b.add("MatMul", [x, b.normal((inputs, outputs), gain * (2 / inputs) ** 0.5)])
    return b.add("Add", [y, b.normal((outputs,), 0.01)])


def _reshape(b: Builder, x: str, sizes: tuple[int, ...]) -> str:
    """`x.view(x.size(0), *sizes)` as exporters write it."""
    batch = b.add("Gather", [b.add("Shape", [x]), b.store(np.array(0, np.int64))], axis=0)
    parts = [b.add("Unsqueeze", [batch, b.store(np.array([0], np.int64))])]
    parts += [b.store(np.array([size], np.int64)) for size in sizes]
    return b.add("Reshape", [x, b.add("Concat", parts, axis=0)])


@click.group()
def main() -> None:
    """Build models for tools/bench.py and count what is in a file."""


@main.command()
@click.argument("kind", type=click.Choice(["resnet50", "chain", "large", "transformer"]))
@click.argument("file")
@click.option("--nodes", default=100, show_default=True, help="Size of a chain.")
@click.option("--reshape-every", default=0, help="Nodes between two computed shapes, 0: none.")
@click.option("--gigabytes", default=3.0, show_default=True, help="Weights of a large model.")
@click.option("--width", default=2048, show_default=True, help="Channels of a large model.")
@click.option("--layers", default=12, show_default=True, help="Layers of a transformer.")
def build(kind: str, file: str, **size: Any) -> None:
    """Write a model."""
    made: dict[str, Callable[[], onnx.ModelProto]] = {
        "resnet50": resnet50,
        "chain": lambda: chain(size["nodes"], size["reshape_every"]),
        "large": lambda: large(Path(file), size["gigabytes"], size["width"]),
        "transformer": lambda: transformer(size["layers"]),
    }
    model = made[kind]()
    onnx.save(model, file)
    onnx.checker.check_model(file)


@main.command()
@click.argument("file")
def count(file: str) -> None:
    """Print the nodes, and the elements of all initializers, as JSON."""
    graph = onnx.load(file, load_external_data=False).graph
    elements = sum(int(np.prod(tensor.dims, dtype=np.int64)) for tensor in graph.initializer)
    print(json.dumps({"nodes": len(graph.node), "elements": elements}))


if __name__ == "__main__":
    main()
