"""Where two models are compared inside."""

import pytest
from networks import Net

from onnxprune import ops
from onnxprune.compensation.distillation.losses import inside
from onnxprune.groups.analysis import analyze


@pytest.mark.parametrize("op", ["Mish", "Swish", "Elu", "Relu", "Sin"])
def test_a_layer_is_compared_behind_its_activation(op: str):
    net = Net(24 if op == "Swish" else 20, x=("N", 3, 6, 6))
    made = net.conv("x", 3, 4)
    behind = net.op(op, made)
    last = net.conv(behind, 4, 2)
    assert inside(analyze(net.model(last))) == [behind if ops.is_activation(op) else made, last]
