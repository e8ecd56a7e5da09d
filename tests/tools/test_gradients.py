"""Which numbers no gradient reaches, and the operators that are named for it."""

import sys

from networks import Net
from paths import TOOLS

from onnxprune.groups.analysis import analyze

sys.path.insert(0, str(TOOLS))

import gradients


def test_numbers_before_an_operator_without_a_rule_are_counted() -> None:
    net = Net(x=("N", 8))
    early = net.gemm("x", 8, 6)
    late = net.gemm(net.op("Mul", early, net.op("ReduceProd", early, axes=[1])), 6, 4)
    net.op("MatMul", late, net.weight(4, 3))  # its result is no output
    found = gradients.reached(analyze(net.model(late)))
    assert found.numbers == (8 + 1) * 6 + (6 + 1) * 4 + 4 * 3
    stopped, unused = (
        "no gradient goes through ReduceProd",
        "nothing that is compared depends on it",
    )
    assert found.left == {stopped: (8 + 1) * 6, unused: 4 * 3}
    results = {"a": found, "b": found}
    assert f"| {stopped} | 108 | 2 | a, b |" in gradients.table(results)
    assert "2 models, 0 of them reached" in gradients.summary(results)
