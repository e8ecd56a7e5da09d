"""Gradients against central differences, one case per rule and form."""

from typing import Any

import numpy as np
import onnx
import pytest
from gradient_cases import CASES as MORE
from networks import Net
from present import present

from onnxprune import ops
from onnxprune.compensation.distillation.backward import TARGET, differentiated, unreached
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime, skeleton
from onnxprune.ir.graph_builder import GraphBuilder
from onnxprune.ir.runtime import Device
from onnxprune.ops.builder import Builder

#: Entries of a weight that are moved, and how far.
ENTRIES, STEP = 24, 1e-3
#: What runs on h, with the shape of h.
IMAGE, ROWS = (3, 4, 6, 6), (3, 5, 8)
#: What is done to h first, where a function does not take every number.
BEFORE = {
    **dict.fromkeys(("Sqrt", "Reciprocal", "Log"), ("Exp",)),
    **dict.fromkeys(("Acos", "Asin", "Atanh"), ("Tanh", "Sin")),
    "Acosh": ("Exp", "Cosh"),
    "Tan": ("Sin",),
}
#: Other attributes than the usual ones.
ATTRIBUTES = {
    "LeakyRelu": {"alpha": 0.2},
    "Elu": {"alpha": 0.7},
    "Selu": {"alpha": 1.3, "gamma": 0.8},
    "Celu": {"alpha": 0.6},
    "ThresholdedRelu": {"alpha": 0.3},
    "Swish": {"alpha": 1.4},
    "Shrink": {"lambd": 0.4, "bias": 0.1},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
}


def _function(op: str, **attrs: float):
    """A function of h, and of what h is made into first."""

    def made(n: Net, h: str):
        for first in BEFORE.get(op, ()):
            h = n.op(first, h)
        domain, _, kind = op.rpartition(":")
        bounds = [n.const(np.float32(v)) for v in (-0.5, 1)] if op == "Clip" else []
        return n.op(kind, h, *bounds, domain=domain, **attrs)

    return made


#: The opset that has an operator, if it is later than that of all others here.
NEWER = {"Swish": 24, "RMSNormalization": 23}
FUNCTIONS: dict[str, tuple[Any, Any]] = {
    **{op: (ROWS, _function(op)) for op in sorted(ops.FUNCTIONS)},
    **{f"{op} {attrs}": (ROWS, _function(op, **attrs)) for op, attrs in ATTRIBUTES.items()},
    "Gelu by tanh": (ROWS, lambda n, h: n.op("Gelu", h, approximate="tanh")),
}
CASES: dict[str, tuple[Any, Any]] = {
    "Pow": (ROWS, lambda n, h: n.op("Pow", h, n.const(np.float32(2)))),
    "Add": (ROWS, lambda n, h: n.op("Add", h, n.op("ReduceMean", h, n.const(np.array([1]))))),
    "Sum": (ROWS, lambda n, h: n.op("Sum", h, n.weight(8), h)),
    "Sub": (ROWS, lambda n, h: n.op("Sub", n.weight(8), h)),
    "Mul": (ROWS, lambda n, h: n.op("Mul", h, n.op("Sigmoid", h))),
    "Div": (ROWS, lambda n, h: n.op("Div", h, n.op("Exp", h))),
    "Where": (ROWS, lambda n, h: n.op("Where", n.const(np.arange(8) % 3 > 0), h, n.weight(8))),
    "Max": (ROWS, lambda n, h: n.op("Max", h, n.weight(8), n.op("Neg", h))),
    "Min": (ROWS, lambda n, h: n.op("Min", h, n.weight(8))),
    "Mean": (ROWS, lambda n, h: n.op("Mean", h, n.weight(8))),
    "PRelu": (ROWS, lambda n, h: n.op("PRelu", n.op("Sub", h, n.weight(8)), h)),
    "LogSoftmax": (ROWS, lambda n, h: n.op("LogSoftmax", h, axis=1)),
    "RMSNormalization": (ROWS, lambda n, h: n.op("RMSNormalization", h, n.weight(8))),
    "SimplifiedLayerNormalization": (
        ROWS,
        lambda n, h: n.op("SimplifiedLayerNormalization", h, n.weight(8)),
    ),
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
    "Reshape": (ROWS, lambda n, h: n.op("Reshape", h, n.const(np.array([-1, 4])))),
    "Flatten": (ROWS, lambda n, h: n.op("Flatten", n.op("Transpose", h, perm=[2, 0, 1]))),
    "Unsqueeze": (ROWS, lambda n, h: n.op("Unsqueeze", h, n.const(np.array([1])))),
    "Squeeze": ((3, 1, 8), lambda n, h: n.op("Squeeze", h, n.const(np.array([1])))),
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
    "Dropout": (ROWS, lambda n, h: n.op("Dropout", h)),
}

LAYERS: dict[str, tuple[tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    "Conv": (IMAGE, {}, (5, 4, 3, 3)),
    "Conv padded": (IMAGE, {"pads": [1, 0, 2, 1], "strides": [2, 1]}, (5, 4, 3, 2)),
    "Conv beyond": (IMAGE, {"strides": [4, 4]}, (5, 4, 3, 3)),
    "Conv strided": ((3, 2, 7, 8), {"pads": [1, 1, 1, 1], "strides": [2, 2]}, (5, 2, 3, 3)),
    "Conv strided, wide": ((2, 3, 9), {"pads": [2, 0], "strides": [3]}, (4, 3, 5)),
    "Conv dilated": (IMAGE, {"dilations": [2, 2]}, (5, 4, 2, 2)),
    "Conv depthwise, wide": ((3, 4, 3, 9), {"group": 4, "pads": [1, 2, 0, 1]}, (4, 1, 3, 2)),
    "Conv depthwise": (IMAGE, {"group": 4, "strides": [2, 2], "pads": [1] * 4}, (4, 1, 3, 3)),
}


def _ones(n: int):
    return np.ones(n, np.float32)


def _check(model: onnx.ModelProto, names: list[str], x: np.ndarray) -> None:
    """The slope of ½‖y - t‖² along single entries of each weight."""
    analysis, rng = analyze(model), np.random.default_rng(0)
    made = differentiated(
        analysis, names, {"y": lambda t, y, target: t.emit("Sub", y, target)}, np.dtype(np.float32)
    )
    assert made is not None and set(made.gives) == set(names)
    weights = {name: present(analysis.read(name)) for name in names}
    opened = onnx.ModelProto.FromString(model.SerializeToString())
    skeleton.open_inputs(opened, names)
    session = runtime.open_session(graph.model_bytes(opened), Device(threads=1))
    target = rng.standard_normal(runtime.run(session, {**weights, "x": x})["y"].shape)
    grads = made.run({**weights, "x": x, TARGET + "y": target.astype(np.float32)})

    def loss(name: str, at: int, step: float) -> float:
        moved = weights[name].copy()
        moved.flat[at] += step
        y = runtime.run(session, {**weights, name: moved, "x": x})["y"]
        return float(((y.astype(np.float64) - target) ** 2).sum() / 2)

    for name in names:
        grad, here = grads[name], loss(name, 0, 0.0)
        assert grad.shape == weights[name].shape
        entries = rng.permutation(grad.size)[:ENTRIES]
        up, down = (np.array([loss(name, at, s) for at in entries]) for s in (STEP, -STEP))
        slopes, near = (up - down) / (2 * STEP), max(float(np.abs(grad).max()), 1e-3)
        smooth = np.abs(up + down - 2 * here) / STEP < 0.1 * near  # no kink within a step
        assert smooth.mean() > 0.7
        np.testing.assert_allclose(  # float32 results, and the curvature over a step
            grad.ravel()[entries][smooth], slopes[smooth], rtol=0.02, atol=0.01 * near, err_msg=name
        )


def _net(name: str) -> Net:
    """The case's operator on weights times the input."""
    shape, op = {**FUNCTIONS, **CASES}[name]
    return _behind(shape, op, NEWER.get(name.split()[0], 20))


def _behind(shape: tuple[int, ...], op: Any, opset: int) -> Net:
    net = Net(opset, x=("b", *shape[1:]))
    h = net.op("Mul", "x", net.weight(*shape[1:], name="s"))
    net.op("Identity", op(net, h))
    net.nodes[-1].output[0] = "y"
    return net


def test_every_rule_has_a_case():
    nets = [_net(name) for name in {**FUNCTIONS, **CASES}]
    nets += [_behind(c.shape, c.make, c.opset) for c in MORE.values()]
    shown = {graph.op_key(node) for net in nets for node in net.nodes}
    assert ops.GRADIENTS.keys() - shown == set()


@pytest.mark.parametrize("name", MORE)
def test_gradient_passes_this_form_too(name: str):
    case = MORE[name]
    x = np.random.default_rng(1).standard_normal(case.shape).astype(np.float32)
    net = _behind(case.shape, case.make, case.opset)
    _check(net.model("y"), ["s", *case.others], x)


@pytest.mark.parametrize("name", ["Gather rows", "GatherND"])
def test_rows_that_meet_are_not_added_by_several_threads(name: str):
    """onnxruntime's ScatterND loses some of them."""
    case = MORE[name]
    analysis = analyze(_behind(case.shape, case.make, case.opset).model("y"))
    node = next(node for node in analysis.nodes if node.op in name.split())
    added = GraphBuilder(17, np.dtype(np.float32))
    assert ops.GRADIENTS[node.op](Builder(added), node, ["dy"]) is not None
    kinds = {made.op_type for made in added.nodes}
    assert "ScatterElements" in kinds and "ScatterND" not in kinds


@pytest.mark.parametrize("name", [*FUNCTIONS, *CASES])
def test_gradient_passes_an_operator(name: str):
    shape, net = {**FUNCTIONS, **CASES}[name][0], _net(name)
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
    odd = net.op("ReduceProd", early, axes=[1])
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
    assert "ReduceProd" in made.blocked["early"]
    assert unreached(analysis, ["early", "late"], ["y"]) == made.blocked


def test_what_a_branch_reads_gets_no_gradient():
    """Neither through the branch, nor past it, which would be only a part."""
    net = Net(17, x=("b", 8), flag=(1,))
    early = net.op("MatMul", "x", net.weight(8, 6, name="early"))
    asked = net.op("Squeeze", net.op("Cast", "flag", to=onnx.TensorProto.BOOL))

    def branch(kind: str, name: str) -> onnx.GraphProto:
        made = onnx.helper.make_node(kind, [early], [name])
        return onnx.helper.make_graph([made], name, [], [onnx.ValueInfoProto(name=name)])

    either = net.op("If", asked, then_branch=branch("Relu", "t"), else_branch=branch("Neg", "e"))
    both = net.op("Add", either, early)
    net.op("MatMul", both, net.weight(6, 4, name="late"))
    net.nodes[-1].output[0] = "y"
    analysis = analyze(net.model("y"))
    seeds = {"y": lambda t, y, z: t.emit("Sub", y, z)}
    made = differentiated(analysis, ["early", "late"], seeds, np.dtype(np.float32))
    assert made is not None and set(made.gives) == {"late"} and set(made.blocked) == {"early"}
