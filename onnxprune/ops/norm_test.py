import numpy as np
import pytest
from oracle import Case, case, check_rule, w

CASES = [
    case(
        "y = BatchNormalization(x, s, b, m, v)",
        2 + 3 + 4 + 5,
        x=(2, 3, 4, 5), s=w(3), b=w(3), m=w(3), v=w(3),
    ),
    case("y = InstanceNormalization(x, s, b)", 2 + 3, x=(2, 3, 4, 5), s=w(3), b=w(3)),
    case("y = Softmax(x)", 2 + 3, x=(2, 3, 4)),
    case("y = Softmax<axis=1>(x)", 2 + 4, x=(2, 3, 4)),
    case("y = Softmax(x)", 2, opset=11, x=(2, 3, 4)),
    case("y = LogSoftmax(x)", 2 + 3, x=(2, 3, 4)),
    case("y = Hardmax(x)", 2 + 3, x=(2, 3, 4)),
    case("y = LayerNormalization(x, s)", 2 + 3, x=(2, 3, 4), s=w(4)),
    case("y = LayerNormalization<axis=1>(x, s)", 2, x=(2, 3, 4), s=w(3, 4)),
    case("y = RMSNormalization(x, s)", 2 + 3, opset=23, x=(2, 3, 4), s=w(4)),
    case("y = LpNormalization<axis=1>(x)", 2 + 4, x=(2, 3, 4)),
    case("y = CumSum(x, k)", 2 + 4, x=(2, 3, 4), k=np.array(1)),
    case("y = LRN<size=3>(x)", 2, x=(2, 4, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
