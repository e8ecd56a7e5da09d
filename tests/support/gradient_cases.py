"""What gradients go through: an operator each, on h, with the shape of h and the opset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from networks import Net

__all__ = ["CASES", "GradientCase"]

MS = "com.microsoft"
IMAGE, ROWS, STEPS = (3, 4, 6, 6), (3, 5, 8), (4, 3, 5)


#: Writes what is made of h.
Make: TypeAlias = Callable[[Net, str], Any]


class GradientCase(NamedTuple):
    """The shape of h, what is made of it, and the version of the operators."""

    shape: tuple[int, ...]
    make: Make
    opset: int = 20
    others: tuple[str, ...] = ()


CASES: dict[str, GradientCase] = {}


def case(
    name: str, shape: tuple[int, ...], opset: int = 20, *others: str
) -> Callable[[Make], Make]:
    """Add a case; `others` are stored tensors whose gradients are checked too."""

    def add(make: Make) -> Make:
        assert name not in CASES
        CASES[name] = GradientCase(shape, make, opset, others)
        return make

    return add


def ints(n: Net, *values: int) -> str:
    """A stored row of integers."""
    return n.const(np.array(values, np.int64))


def positive(n: Net, size: int, name: str = "") -> str:
    """Stored numbers from a half to one and a half."""
    return n.const(n.rng.uniform(0.5, 1.5, size).astype(np.float32), name)


def plain(kind: str, *rows: Sequence[int], **attrs: Any) -> Make:
    """An operator on h and stored integers."""
    return lambda n, h: n.op(kind, h, *(ints(n, *row) for row in rows), **attrs)


def biased(kind: str) -> Make:
    """One of onnxruntime's on h and a stored row."""
    return lambda n, h: n.op(kind, h, n.weight(8, name="v"), domain=MS)


# convolutions

case("Conv grouped, of more", (2, 4, 4, 4), 20, "w")(
    lambda n, h: n.op("Conv", h, n.weight(6, 2, 3, 3, name="w"), group=2, pads=[1] * 4)
)
case("Conv grouped, several for each", (2, 2, 4, 4), 20, "w")(
    lambda n, h: n.op("Conv", h, n.weight(4, 1, 3, 3, name="w"), group=2, strides=[2, 1])
)
case("Conv of patches", (2, 3, 4, 6), 20, "w")(
    lambda n, h: n.op("Conv", h, n.weight(5, 3, 2, 3, name="w"), strides=[2, 3])
)
case("ConvTranspose", (2, 3, 4, 4), 20, "w", "v")(
    lambda n, h: n.op(
        "ConvTranspose", h, n.weight(3, 5, 3, 3, name="w"), n.weight(5, name="v"),
        strides=[2, 2], pads=[1, 0, 0, 1], output_padding=[1, 0],
    )
)  # fmt: skip
case("ConvTranspose grouped", (2, 4, 5), 20, "w")(
    lambda n, h: n.op("ConvTranspose", h, n.weight(4, 3, 2, name="w"), group=2, dilations=[2])
)

# normalisations

case("LayerNormalization of two axes", ROWS, 20, "w", "v")(
    lambda n, h: n.op(
        "LayerNormalization", h, n.weight(5, 8, name="w"), n.weight(5, 8, name="v"), axis=1
    )
)
case("RMSNormalization's scale", ROWS, 23, "w")(
    lambda n, h: n.op("RMSNormalization", h, n.weight(8, name="w"))
)
case("BatchNormalization's numbers", IMAGE, 20, "w", "v", "m", "s2")(
    lambda n, h: n.op(
        "BatchNormalization", h, n.weight(4, name="w"), n.weight(4, name="v"),
        n.weight(4, name="m"), positive(n, 4, "s2"),
    )
)  # fmt: skip
case("InstanceNormalization", IMAGE, 20, "w", "v")(
    lambda n, h: n.op("InstanceNormalization", h, n.weight(4, name="w"), n.weight(4, name="v"))
)


def grouped(width: int) -> Make:
    """Two groups, with as many scales and biases."""
    return lambda n, h: n.op(
        "GroupNormalization", h, n.weight(width, name="w"), n.weight(width, name="v"), num_groups=2
    )


for opset, width in ((18, 2), (21, 4)):
    case(f"GroupNormalization {opset}", IMAGE, opset, "w", "v")(grouped(width))
for p in (1, 2):
    case(f"LpNormalization {p}", ROWS)(plain("LpNormalization", axis=1, p=p))
case("LRN", IMAGE)(lambda n, h: n.op("LRN", h, size=3, alpha=0.7, beta=0.6, bias=1.3))
case("MeanVarianceNormalization", IMAGE)(
    lambda n, h: n.op("MeanVarianceNormalization", h, axes=[1, 3])
)


def skipped(kind: str, extra: int) -> Make:
    """What is normalised, and the sum that was."""

    def make(n: Net, h: str) -> Any:
        weights = [n.weight(8, name="w"), *[n.weight(8) for _ in range(extra)]]
        given = (h, n.op("Sigmoid", h), *weights, n.weight(8, name="bias"))
        return n.op("Add", *n.op(kind, *given, domain=MS, outputs=4)[::3])

    return make


for kind, extra in (("SkipLayerNormalization", 1), ("SkipSimplifiedLayerNormalization", 0)):
    case(kind, ROWS, 20, "w", "bias")(skipped(kind, extra))

# along an axis

case("Softmax of several axes", ROWS, 12)(lambda n, h: n.op("Softmax", h, axis=1))
case("CumSum", ROWS)(lambda n, h: n.op("CumSum", h, n.const(np.array(1)), exclusive=1))
for op in ("L1", "L2", "LogSumExp", "Max", "Min", "SumSquare"):
    case(f"Reduce{op}", ROWS)(plain(f"Reduce{op}", [1], keepdims=0))
case("ReduceLogSum", ROWS)(lambda n, h: n.op("ReduceLogSum", n.op("Exp", h), ints(n, -1)))
case("ReduceSum of all", (3, 4))(lambda n, h: n.op("ReduceSum", h, keepdims=1))
case("ReduceMean 13", ROWS, 13)(lambda n, h: n.op("ReduceMean", h, axes=[0, 2]))
case("TopK", ROWS)(lambda n, h: n.op("TopK", h, ints(n, 3), outputs=2, axis=1)[0])

# pools

case("AveragePool padded", IMAGE)(
    lambda n, h: n.op("AveragePool", h, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])
)
case("MaxPool of more than there is", (2, 2, 2, 2))(
    plain("MaxPool", kernel_shape=[5, 5], pads=[2, 2, 2, 2])
)
case("GlobalMaxPool", IMAGE)(lambda n, h: n.op("GlobalMaxPool", h))
case("GlobalLpPool", IMAGE)(lambda n, h: n.op("GlobalLpPool", h, p=3))
case("LpPool", IMAGE)(lambda n, h: n.op("LpPool", h, kernel_shape=[2, 2], strides=[2, 2]))

# resizing


def resized(*sizes: int, **attrs: Any) -> Any:
    """A Resize of the last axes to sizes."""
    return lambda n, h: n.op("Resize", h, "", "", ints(n, *sizes), axes=[2, 3], **attrs)


for mode in ("nearest", "linear", "cubic"):
    for how in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        case(f"Resize {mode} {how}", IMAGE)(
            resized(9, 4, mode=mode, coordinate_transformation_mode=how, nearest_mode="floor")
        )
for rounding in ("ceil", "round_prefer_floor", "round_prefer_ceil"):
    case(f"Resize {rounding}", IMAGE)(resized(9, 4, nearest_mode=rounding))
case("Resize by scales", IMAGE)(
    lambda n, h: n.op(
        "Resize", h, "", n.const(np.array([1, 1, 1.7, 2.0], np.float32)), mode="linear",
        coordinate_transformation_mode="half_pixel_symmetric",
    )
)  # fmt: skip

case("Gather rows, early", (6, 4), 9, "table")(
    lambda n, h: n.op(
        "Mul", h, n.op("Gather", n.weight(5, 4, name="table"), ints(n, 3, 1, 3, 0, 1, 4))
    )
)
case("Clip and Pad, early", ROWS, 8)(
    lambda n, h: n.op("Pad", n.op("Clip", h, min=-0.5, max=0.7), pads=[0, 1, 2, 0, 0, 1])
)
case("Softmax of several axes, early", ROWS, 9)(lambda n, h: n.op("Softmax", h, axis=1))

# positions

case("Split", ROWS)(
    lambda n, h: n.op("Sub", *n.op("Split", h, ints(n, 3, 2, 3), axis=2, outputs=3)[::2])
)
case("Slice to an end", (3, 4, 6))(
    lambda n, h: n.op(
        "Slice", n.op("Transpose", h, perm=[2, 1, 0]), *(ints(n, v) for v in (-3, 2, 2))
    )
)
case("Concat of samples", (3, 4))(
    lambda n, h: n.op(
        "Concat", h, n.op("Transpose", n.op("Tanh", n.op("Transpose", h)), perm=[1, 0]), axis=0
    )
)
for mode in ("reflect", "edge", "wrap"):
    case(f"Pad {mode}", IMAGE)(plain("Pad", [0, 0, 2, 1, 0, 0, 0, 3], mode=mode))
case("Pad of some axes", IMAGE)(lambda n, h: n.op("Pad", h, ints(n, 1, 2), "", ints(n, -1)))
case("Gather again", ROWS)(
    lambda n, h: n.op("Gather", h, n.const(np.array([[1, 0], [-1, 1]])), axis=1)
)
case("Gather rows", (6, 4), 20, "table")(
    lambda n, h: n.op(
        "Mul", h, n.op("Gather", n.weight(5, 4, name="table"), ints(n, 3, 1, 3, 0, 1, 4))
    )
)
case("GatherElements", (3, 4))(
    lambda n, h: n.op("GatherElements", h, n.const(np.array([[0, 0], [1, 3], [2, 2]])), axis=1)
)
case("GatherND", (3, 4, 2))(
    lambda n, h: n.op("GatherND", h, n.const(np.array([[0, 1], [2, 3], [0, -3]])))
)
case("GatherND elements", (3, 4))(
    lambda n, h: n.op("GatherND", h, n.const(np.array([[[0, 1], [2, 3]], [[-1, -1], [0, 0]]])))
)
case("ScatterElements", (3, 4))(
    lambda n, h: n.op(
        "ScatterElements",
        h,
        n.const(np.array([[0], [1], [2]])),
        n.op("ReduceSum", h, ints(n, 1)),
        axis=1,
    )
)
case("ScatterND", (3, 4))(
    lambda n, h: n.op(
        "ScatterND",
        h,
        n.const(np.array([[2], [0]])),
        n.op("Slice", n.op("Exp", h), ints(n, 0), ints(n, 2)),
    )
)
case("ReverseSequence", (4, 3, 2))(
    lambda n, h: n.op("ReverseSequence", h, ints(n, 2, 4, 1), time_axis=0, batch_axis=1)
)
case("Trilu", ROWS)(lambda n, h: n.op("Trilu", h, n.const(np.array(1)), upper=0))
case("Tile", (3, 4))(lambda n, h: n.op("Tile", h, ints(n, 2, 3)))
for mode in ("DCR", "CRD"):
    case(f"DepthToSpace {mode}", (2, 8, 2, 3))(plain("DepthToSpace", blocksize=2, mode=mode))
case("SpaceToDepth", (2, 3, 4, 6))(lambda n, h: n.op("SpaceToDepth", h, blocksize=2))
case("Expand to a size that a run tells", (1, 3, 1))(
    lambda n, h: n.op("Expand", h, n.op("Concat", n.op("Shape", h, end=1), ints(n, 3, 4), axis=0))
)

# products

case("Einsum", ROWS, 20, "w")(
    lambda n, h: n.op("Einsum", h, n.weight(8, 2, 3, name="w"), equation="bld,dhk->bhlk")
)
case("Einsum of three", (3, 4), 20)(
    lambda n, h: n.op("Einsum", h, n.weight(4, 5), n.op("Tanh", h), equation="ab,bc,ad->dca")
)


def product(turned: int) -> Make:
    """Gemm with both factors turned, or the first alone."""

    def make(n: Net, h: str) -> Any:
        weight = n.weight(3, 5, name="w") if turned else n.weight(5, 3, name="w")
        row, attrs = n.weight(3, name="v"), {"alpha": 0.7, "beta": 0.3, "transA": 1}
        a = n.op("Reshape", h, ints(n, 5, 4))
        return n.op("Gemm", a, weight, row, transB=turned, **attrs)

    return make


for turned in (0, 1):
    case(f"Gemm turned {turned}", (5, 4), 20, "w", "v")(product(turned))
case("FusedMatMul", ROWS, 20, "w")(
    lambda n, h: n.op(
        "FusedMatMul", h, n.weight(3, 6, 5, name="w"), transA=1, transB=1, alpha=1.5, domain=MS
    )
)
case("TransposeMatMul", ROWS, 20, "w")(
    lambda n, h: n.op("TransposeMatMul", h, n.weight(6, 8, name="w"), transB=1, domain=MS)
)


def fused_conv(kind: str, *params: float) -> Make:
    """A tensor is added before the activation."""

    def make(n: Net, h: str) -> Any:
        weights = (
            n.weight(4, 3, 3, 3, name="w"),
            n.weight(4, name="v"),
            n.weight(2, 4, 2, 2, name="z"),
        )
        more = {"activation_params": params} if params else {}
        return n.op("FusedConv", h, *weights, activation=kind, domain=MS, **more)

    return make


for kind, params in {
    **dict.fromkeys(("Relu", "Tanh", "Sigmoid"), ()),
    "LeakyRelu": (0.2,),
    "Clip": (-0.3, 0.6),
}.items():
    case(f"FusedConv {kind}", (2, 3, 4, 4), 20, "w", "v", "z")(fused_conv(kind, *params))
case("FusedGemm", (5, 8), 20, "w")(
    lambda n, h: n.op(
        "FusedGemm",
        h,
        n.weight(8, 3, name="w"),
        n.weight(3),
        activation="LeakyRelu",
        activation_alpha=0.3,
        domain=MS,
    )
)
for kind in ("BiasGelu", "FastGelu"):
    case(f"{kind} with a bias", ROWS, 20, "v")(biased(kind))


# recurrent layers


def run(kind: str, dirs: int = 1, **attrs: Any) -> Any:
    """All results of a recurrent layer, from given states and weights."""

    def make(n: Net, h: str) -> str:
        rows = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind] * 3
        states = [n.weight(dirs, 3, 3, name="first"), *([n.weight(dirs, 3, 3)] * (kind == "LSTM"))]
        names = n.op(
            kind, h, n.weight(dirs, rows, 5, name="w"), n.weight(dirs, rows, 3, name="r"),
            n.weight(dirs, 2 * rows, name="v"), "", *states, hidden_size=3,
            outputs=3 if kind == "LSTM" else 2, **attrs,
        )  # fmt: skip
        flat = [n.op("Reshape", name, ints(n, 1, -1)) for name in names]
        return str(n.op("Concat", *flat, axis=1))

    return make


for name, make in {
    "LSTM": run("LSTM"),
    "LSTM both ways": run("LSTM", 2, direction="bidirectional"),
    "GRU": run("GRU"),
    "GRU backwards": run("GRU", direction="reverse", linear_before_reset=1),
    "RNN": run("RNN", 2, direction="bidirectional"),
}.items():
    case(name, STEPS, 20, "w", "r", "v", "first")(make)
case("GRU without states", STEPS)(
    lambda n, h: n.op("GRU", h, n.weight(1, 9, 5), n.weight(1, 9, 3), hidden_size=3, outputs=2)[1]
)


# attention


def mixed(n: Net, h: str, *sizes: int) -> list[str]:
    """Queries, keys and values of h."""
    return [n.op("MatMul", h, n.weight(8, size)) for size in sizes]


case("Attention", ROWS, 23)(
    lambda n, h: n.op(
        "Attention", *mixed(n, h, 12, 6, 8), q_num_heads=4, kv_num_heads=2, is_causal=1
    )
)


@case("Attention with a mask", (2, 2, 4, 3), 23, "mask")
def masked(n: Net, h: str) -> Any:
    """Heads apart, and numbers that are added to scores."""
    return n.op("Attention", h, n.op("Tanh", h), n.op("Exp", h), n.weight(4, 4, name="mask"))


@case("MultiHeadAttention", ROWS, 20, "v")
def multi_head(n: Net, h: str) -> Any:
    """onnxruntime's, with a bias of queries, keys and values, and one of scores."""
    return n.op(
        "MultiHeadAttention", *mixed(n, h, 4, 4, 6), n.weight(14, name="v"), "",
        n.weight(1, 2, 5, 5), num_heads=2, unidirectional=1, domain=MS,
    )  # fmt: skip


def fused(*mask: Any) -> Make:
    """onnxruntime's with its projection inside."""

    def make(n: Net, h: str) -> Any:
        given = (
            h,
            n.weight(8, 12, name="w"),
            n.weight(12, name="v"),
            n.const(np.array(mask, np.int32)),
        )
        return n.op("Attention", *given, num_heads=2, domain=MS)

    return make


case("Attention with its projection", ROWS, 20, "w", "v")(
    fused([1] * 5, [1, 1, 1, 0, 0], [1, 1, 1, 1, 0])
)
case("Attention with lengths", ROWS, 20, "w", "v")(fused(5, 3, 4))


@case("RotaryEmbedding", (2, 3, 4, 6), 23)
def rotary(n: Net, h: str) -> Any:
    """ONNX's, by positions."""
    caches = [n.weight(4, 3) for _ in range(2)]
    return n.op("RotaryEmbedding", h, *caches, n.const(np.array([[0, 1, 2, 3]] * 2)))


@case("RotaryEmbedding of onnxruntime", (2, 4, 12), 20)
def contributed(n: Net, h: str) -> Any:
    """onnxruntime's, whose pairs stand side by side."""
    places, caches = n.const(np.array([[0, 1, 2, 3]] * 2)), [n.weight(4, 3) for _ in range(2)]
    return n.op("RotaryEmbedding", h, places, *caches, num_heads=2, interleaved=1, domain=MS)
