"""Numbers that channels always carry, behind functions and arithmetic."""

import numpy as np
import pytest
from networks import Net

from onnxprune import ops
from onnxprune.groups.analysis import analyze
from onnxprune.ir.constant_folding import run_alone
from onnxprune.ops.constants import Numbers
from onnxprune.surgery.constant_propagation import constants

#: What three channels always carry; a fourth one varies.
CARRIED = np.array([0.0, 0.4, 1.6], np.float32)
NEWER = {"Swish": 24}


def _behind(op: str, *more: float, opset: int = 20):
    """The node, and what is known of its channels."""
    net = Net(NEWER.get(op, opset), x=("N", 3, 6, 6))
    weight = net.rng.standard_normal((4, 3, 1, 1)).astype(np.float32)
    weight[:3] = 0
    y = net.op("Conv", "x", net.const(weight), net.const(np.append(CARRIED, np.float32(1))))
    domain, _, kind = op.rpartition(":")
    given = [net.const(np.float32(number)) for number in more]
    analysis = analyze(net.model(net.op(kind, y, *given, domain=domain)))
    node = analysis.nodes[-1]
    return node, constants(analysis.nodes, analysis.read).get(node.outputs[0].at(1))


@pytest.mark.parametrize("op", sorted(ops.FUNCTIONS))
def test_functions_are_computed_where_they_are_finite(op: str):
    node, found = _behind(op, *((-0.5, 0.3) if op == "Clip" else ()))
    values = [None if t is None else t.value for t in node.inputs[1:]]
    expected = run_alone(node, [CARRIED, *values])
    assert expected is not None and found is not None and np.isnan(found[3])
    finite = np.where(np.isfinite(expected), expected, np.nan)
    np.testing.assert_allclose(found[:3], finite, rtol=1e-6)  # kernels round by their width


@pytest.mark.parametrize("op", [op for op, fact in ops.FUNCTIONS.items() if fact.zero])
def test_zero_stays_zero_where_that_is_said(op: str):
    found = _behind(op)[1]
    assert found is not None and found[0] == 0


@pytest.mark.parametrize("op", [op for op, fact in ops.FUNCTIONS.items() if fact.rectifies])
def test_a_rectifier_makes_zero_of_what_is_below(op: str):
    net = Net(20, x=("N", 4))
    node = analyze(net.model(net.op(op, "x"))).nodes[0]
    found = run_alone(node, [np.linspace(-9, 0, 50, dtype=np.float32)])
    assert found is not None and not found.any()


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("Add", [2, 2.4, 3.6]),
        ("Mul", [0, 0.8, 3.2]),
        ("Sub", [-2, -1.6, -0.4]),
        ("Max", [2, 2, 2]),
        ("Pow", [0, 0.16, 2.56]),
    ],
)
def test_arithmetic_with_a_number(op: str, expected: list[float]):
    found = _behind(op, 2)[1]
    assert found is not None and np.isnan(found[3])
    np.testing.assert_allclose(found[:3], expected, rtol=1e-6)


@pytest.mark.parametrize("rows", [2, 3])
def test_an_operand_that_is_transposed_first_is_not_read_along_its_channels(rows: int):
    """Column 0 is zero; the product runs over the rows, which may be as many as columns."""
    net = Net(17, x=(1, 5))
    weight = net.rng.standard_normal((5, 2 * rows)).astype(np.float32)
    weight[:, ::2] = 0
    y = net.op("Reshape", net.op("MatMul", "x", net.const(weight)), net.const(np.array([rows, 2])))
    given = {"domain": "com.microsoft", "activation": "Relu", "transA": 1, "transB": 1}
    kernel = np.ones((4, rows), np.float32)
    kernel[:2, 1:] = 0  # two outputs read nothing but row 0
    analysis = analyze(net.model(net.op("FusedGemm", y, net.const(kernel), **given)))
    found = constants(analysis.nodes, analysis.read)
    assert analysis.nodes[-1].outputs[0].at(1) not in found


@pytest.mark.parametrize("groups", [-2, 3, -(2**63)])
def test_a_number_of_groups_that_does_not_divide_tells_nothing(groups: int):
    net = Net(21, x=("N", 4, 6, 6))
    ones = np.ones(4, np.float32)
    y = net.op("GroupNormalization", "x", net.const(ones), net.const(ones), num_groups=groups)
    node = analyze(net.model(y)).nodes[-1]
    numbers = Numbers(lambda _t, _a: np.zeros(4), lambda _t: ones, lambda _n, _r: None)
    assert list(ops.CONSTANTS[node.op](node, numbers)) == []
