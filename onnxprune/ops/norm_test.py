import numpy as np
import pytest
from oracle import Case, case, check_rule, ints, w

CASES = [
    case(
        "y = BatchNormalization(x, s, b, m, v)",
        2 + 3 + 4 + 5,
        x=(2, 3, 4, 5), s=w(3), b=w(3), m=w(3), v=w(3),
    ),
    case("y = InstanceNormalization(x, s, b)", 2 + 3, x=(2, 3, 4, 5), s=w(3), b=w(3)),
    case("y = InstanceNormalization<epsilon=0.1>(x, s, b)", 2 + 3 + 9, x=(2, 3, 9),
         s=w(3), b=w(3)),
    case("y = InstanceNormalization(x, s, b)", 2 + 3, opset=8, x=(2, 3, 9), s=w(3), b=w(3)),
    # groups of channels as exporters normalise them: whole ones, or as many channels of each
    case("r = Reshape(x, k); n = InstanceNormalization<epsilon=0.1>(r, s, b);"
         "t = Reshape(n, l); y = Mul(t, g)", 6,
         x=(1, 24, 2, 2), k=ints(0, 4, 24), l=ints(1, 24, 2, 2), s=w(4), b=w(4), g=w(24, 1, 1)),
    case("y = Softmax(x)", 2 + 3, inexact=2 + 3 + 4, x=(2, 3, 4)),
    case("y = Softmax<axis=1>(x)", 2 + 4, inexact=2 + 3 + 4, x=(2, 3, 4)),
    case("y = Softmax(x)", 2, inexact=2, opset=11, x=(2, 3, 4)),
    case("y = Softmax<axis=2>(x)", 2 + 3, inexact=2 + 3 + 4, opset=11, x=(2, 3, 4)),
    case("y = LogSoftmax(x)", 2 + 3, x=(2, 3, 4)),
    case("y = Hardmax(x)", 2 + 3, x=(2, 3, 4)),
    case("y = LayerNormalization(x, s)", 2 + 3 + 4, x=(2, 3, 4), s=w(4)),
    case("y = LayerNormalization<axis=1>(x, s)", 2, inexact=2, x=(2, 3, 4), s=w(3, 4)),
    case("y = LayerNormalization<epsilon=0.1>(x, s, b)", 2 + 3 + 9, x=(2, 3, 9), s=w(9), b=w(9)),
    case("y = RMSNormalization(x, s)", 2 + 3 + 4, opset=23, x=(2, 3, 4), s=w(4)),
    case("y = RMSNormalization<epsilon=0.1>(x, s)", 2 + 3 + 9, opset=23, x=(2, 3, 9), s=w(9)),
    case("t = Identity(s); y = LayerNormalization(x, t)", 2 + 3 + 9, x=(2, 3, 9), s=w(9)),
    case("y = LayerNormalization(x, s); z = Mul(x, s)", 2 + 3 + 9, x=(2, 3, 9), s=w(9)),
    case(
        "y, m, d = LayerNormalization(x, s, b)",
        2 + 3, inexact=2 + 3 + 4, x=(2, 3, 4), s=w(4), b=w(4),
    ),
    *(
        case(
            "y = GroupNormalization<num_groups=4>(x, s, b)", 2 + 4,
            opset=opset, x=(2, 12, 3, 3), s=w(n), b=w(n),
        )
        for opset, n in ((18, 4), (21, 12))
    ),
    case("y = MeanVarianceNormalization(x)", 3, x=(2, 3, 4, 4)),
    case("y = MeanVarianceNormalization<axes=[2]>(x)", 2 + 3, x=(2, 3, 4)),
    *(case(f"y = LpNormalization<p={p}>(x)", 2 + 3 + 4, x=(2, 3, 4)) for p in (1, 2)),
    *(
        case(f"y = CumSum<exclusive={e}, reverse={r}>(x, k)", 2 + 3 + 4, x=(2, 3, 4), k=ints(1))
        for e, r in ((0, 0), (0, 1), (1, 0))
    ),
    case("y = CumSum(x, whole)", 0, x=(2, 3), whole=()),
    case("y = CumProd(x, k)", 2 + 4, opset=26, x=(2, 3, 4), k=np.array(1)),
    case("y = LRN<size=3>(x)", 2, inexact=2 + 4, x=(2, 4, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
