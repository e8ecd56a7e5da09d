import numpy as np
import pytest
from oracle import Case, case, check_rule, ints, w

CASES = [
    case("y = GridSample(x, g)", 2 + 3 + 4 + 5, opset=20, x=(2, 3, 6, 6), g=w(2, 4, 5, 2)),
    case("y = GridSample(x, g)", 2 + 3 + 4 + 5, opset=16, x=(2, 3, 6, 6), g=(2, 4, 5, 2)),
    case(
        "y = GridSample(x, g)", 2 + 3 + 4 + 5 + 6, opset=20, x=(2, 3, 3, 3, 3), g=w(2, 4, 5, 6, 3)
    ),
    case("y = Col2Im(x, i, b)", 2 + 3, opset=18, x=(2, 12, 9), i=ints(4, 4), b=ints(2, 2)),
    case("y = DFT(x, , a)", 2 + 3, opset=20, x=(2, 8, 3, 1), a=np.array(1)),
    case("y = DFT(x, n, a)", 2 + 3, opset=20, x=(2, 3, 8, 2), n=np.array(6), a=np.array(-2)),
    case("y = DFT<axis=2>(x)", 2 + 3, opset=17, x=(2, 3, 8, 1)),
    case("y = STFT(x, s, , f)", 2, x=(2, 16, 1), s=np.array(4), f=np.array(8)),
    case("y = Det(x)", 2 + 3, x=(2, 3, 4, 4)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
