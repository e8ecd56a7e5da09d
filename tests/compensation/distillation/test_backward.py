"""Gradients against central differences, one case per rule and form."""

import numpy as np
import onnx
import pytest
from networks import Net

from onnxprune.compensation.distillation.backward import TARGET, differentiated
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime

#: What runs on h, with the shape of h.
IMAGE, ROWS = (3, 4, 6, 6), (3, 5, 8)
CASES = {
    "Relu": (ROWS, lambda n, h: n.op("Relu", h)),
    "LeakyRelu": (ROWS, lambda n, h: n.op("LeakyRelu", h, alpha=0.2)),
    "Abs": (ROWS, lambda n, h: n.op("Abs", h)),
    "Neg": (ROWS, lambda n, h: n.op("Neg", h)),
    "Sqrt": (ROWS, lambda n, h: n.op("Sqrt", n.op("Softplus", h))),
    "Log": (ROWS, lambda n, h: n.op("Log", n.op("Exp", h))),
    "Reciprocal": (ROWS, lambda n, h: n.op("Reciprocal", n.op("Exp", h))),
    "Sigmoid": (ROWS, lambda n, h: n.op("Sigmoid", h)),
    "Tanh": (ROWS, lambda n, h: n.op("Tanh", h)),
    "Erf": (ROWS, lambda n, h: n.op("Erf", h)),
    "HardSigmoid": (ROWS, lambda n, h: n.op("HardSigmoid", h)),
    "HardSwish": (ROWS, lambda n, h: n.op("HardSwish", h)),
    "Gelu": (ROWS, lambda n, h: n.op("Gelu", h)),
    "Pow": (ROWS, lambda n, h: n.op("Pow", h, n.const(np.float32(2)))),
    "Clip": (ROWS, lambda n, h: n.op("Clip", h, n.const(np.float32(-0.5)), n.const(np.float32(1)))),
    "Add": (ROWS, lambda n, h: n.op("Add", h, n.op("ReduceMean", h, n.const(np.array([1]))))),
    "Sub": (ROWS, lambda n, h: n.op("Sub", n.weight(8), h)),
    "Mul": (ROWS, lambda n, h: n.op("Mul", h, n.op("Sigmoid", h))),
    "Div": (ROWS, lambda n, h: n.op("Div", h, n.op("Exp", h))),
    "Where": (ROWS, lambda n, h: n.op("Where", n.const(np.arange(8) % 3 > 0), h, n.weight(8))),
    "Softmax": (ROWS, lambda n, h: n.op("Softmax", h, axis=1)),
    "LayerNormalization": (
        ROWS,
        lambda n, h: n.op("LayerNormalization", h, n.weight(8), n.weight(8)),
    ),
    "BatchNormalization": (
        IMAGE,
        lambda n, h: n.op(
            "BatchNormalization", h, n.weight(4), n.weight(4), n.weight(4), n.const(_ones(4) * 2)
        ),
    ),
    "MatMul": (ROWS, lambda n, h: n.op("MatMul", h, n.op("Transpose", h, perm=[0, 2, 1]))),
    "MatMul rows": (ROWS, lambda n, h: n.op("MatMul", n.weight(4, 5), h)),
    "Gemm": ((5, 8), lambda n, h: n.op("Gemm", h, n.weight(3, 8), n.weight(3), transB=1)),
    "Reshape": (ROWS, lambda n, h: n.op("Flatten", n.op("Transpose", h, perm=[2, 0, 1]))),
    "Squeeze": (ROWS, lambda n, h: n.op("Unsqueeze", h, n.const(np.array([1])))),
    "ReduceMean": (ROWS, lambda n, h: n.op("ReduceMean", h, n.const(np.array([2])), keepdims=0)),
    "ReduceSum": (ROWS, lambda n, h: n.op("ReduceSum", h, n.const(np.array([0, 2])))),
    "GlobalAveragePool": (IMAGE, lambda n, h: n.op("GlobalAveragePool", h)),
    "Expand": ((3, 1, 8), lambda n, h: n.op("Expand", h, n.const(np.array([3, 5, 8])))),
    "Conv": (IMAGE, lambda n, h: n.op("Conv", h, n.weight(5, 4, 3, 3), pads=[1] * 4)),
    "Conv stride": (
        IMAGE,
        lambda n, h: n.op("Conv", h, n.weight(5, 4, 3, 3), strides=[2, 2], pads=[1] * 4),
    ),
    "Conv same": (
        IMAGE,
        lambda n, h: n.op("Conv", h, n.weight(5, 4, 2, 3), strides=[2, 3], auto_pad="SAME_UPPER"),
    ),
    "Conv dilated": (
        IMAGE,
        lambda n, h: n.op("Conv", h, n.weight(5, 4, 2, 2), dilations=[2, 3], group=1),
    ),
    "Conv grouped": (IMAGE, lambda n, h: n.op("Conv", h, n.weight(6, 2, 3, 3), group=2)),
    "AveragePool": (
        IMAGE,
        lambda n, h: n.op("AveragePool", h, kernel_shape=[3, 2], strides=[2, 2]),
    ),
    "MaxPool": (
        IMAGE,
        lambda n, h: n.op("MaxPool", h, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    ),
    "Slice": (
        IMAGE,
        lambda n, h: n.op(
            "Slice", h, *(n.const(np.array(v)) for v in ([0, 5], [6, -9], [2, 3], [2, -2]))
        ),
    ),
    "Pad": (IMAGE, lambda n, h: n.op("Pad", h, n.const(np.array([0, 2, 0, 0, 0, 1, 1, 0])))),
    "Concat": (IMAGE, lambda n, h: n.op("Concat", h, n.op("Relu", h), axis=1)),
    "Gather": (ROWS, lambda n, h: n.op("Gather", h, n.const(np.array(2)), axis=1)),
    "Cast": (ROWS, lambda n, h: n.op("Cast", h, to=1)),
    "Identity": (ROWS, lambda n, h: n.op("Identity", h)),
}
LAYERS = {
    "Conv": (IMAGE, {}, (5, 4, 3, 3)),
    "Conv padded": (IMAGE, {"pads": [1, 0, 2, 1], "strides": [2, 1]}, (5, 4, 3, 2)),
    "Conv beyond": (IMAGE, {"strides": [4, 4]}, (5, 4, 3, 3)),
    "Conv dilated": (IMAGE, {"dilations": [2, 2]}, (5, 4, 2, 2)),
    "Conv depthwise": (IMAGE, {"group": 4, "strides": [2, 2], "pads": [1] * 4}, (4, 1, 3, 3)),
}


def _ones(n: int):
    return np.ones(n, np.float32)


def _check(model: onnx.ModelProto, names: list[str], x: np.ndarray) -> None:
    """The slope of ½‖y - t‖² along a random direction."""
    analysis, rng = analyze(model), np.random.default_rng(0)
    made = differentiated(
        analysis, names, {"y": lambda t, y, target: t.emit("Sub", y, target)}, np.dtype(np.float32)
    )
    assert made is not None and set(made.gives) == set(names)
    weights = {name: analysis.read(name) for name in names}
    session = runtime.open_session(graph.model_bytes(model))
    target = rng.standard_normal(runtime.run(session, {"x": x})["y"].shape).astype(np.float32)
    fed = {**weights, "x": x, TARGET + "y": target}
    grads = made.run(fed)
    for name in names:
        grad, step = grads[name].astype(np.float64), 1e-3
        assert grad.shape == weights[name].shape
        way = grad / max(np.linalg.norm(grad), 1e-9) + rng.standard_normal(grad.shape) / grad.size
        losses = []
        for sign in (1, -1):
            moved = onnx.ModelProto.FromString(model.SerializeToString())
            for t in moved.graph.initializer:
                if t.name == name:
                    value = (weights[name] + sign * step * way).astype(np.float32)
                    t.CopyFrom(onnx.numpy_helper.from_array(value, name))
            got = runtime.run(runtime.open_session(graph.model_bytes(moved)), {"x": x})["y"]
            losses.append(((got.astype(np.float64) - target) ** 2).sum() / 2)
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx((grad * way).sum(), rel=0.03), name


@pytest.mark.parametrize("name", CASES)
def test_gradient_passes_an_operator(name: str):
    shape, op = CASES[name]
    net = Net(20, x=("b", *shape[1:]))
    h = net.op("Mul", "x", net.weight(*shape[1:], name="s"))
    net.op("Identity", op(net, h))
    net.nodes[-1].output[0] = "y"
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    _check(net.model("y"), ["s"], x)


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_of_a_convolution_s_weight(name: str):
    shape, attrs, weight = LAYERS[name]
    net = Net(20, x=("b", *shape[1:]))
    net.op("Conv", "x", net.weight(*weight, name="w"), net.weight(weight[0], name="v"), **attrs)
    net.nodes[-1].output[0] = "y"
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    _check(net.model("y"), ["w", "v"], x)


def test_what_lies_before_an_unknown_operator_gets_no_gradient():
    net = Net(17, x=("b", 8))
    early = net.op("MatMul", "x", net.weight(8, 6, name="early"))
    odd = net.op("CumSum", early, net.const(np.array(1)))
    both = net.op("Add", odd, early)  # the way around it would be only a part of the gradient
    net.op("MatMul", both, net.weight(6, 4, name="late"))
    net.nodes[-1].output[0] = "y"
    analysis = analyze(net.model("y"))
    made = differentiated(
        analysis,
        ["early", "late"],
        {"y": lambda t, y, z: t.emit("Sub", y, z)},
        np.dtype(np.float32),
    )
    assert made is not None and set(made.gives) == {"late"}
