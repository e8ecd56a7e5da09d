import numpy as np
import pytest
from oracle import Case, case, check_rule, ints, w

PICKS = np.array([[0, 1, 2], [3, 1, 0]])
CASES = [
    case("y = GatherElements<axis=1>(x, i)", 2 + 3, x=(2, 5), i=np.array([[0, 4, 4], [1, -1, 2]])),
    case("y = GatherElements<axis=-1>(x, i)", 3, x=(2, 5), i=np.array([[0, 4, 4]])),
    case("y = GatherElements(x, whole)", 4 + 3, x=(9, 3), whole=(4, 3)),
    case("y = GatherND(x, i)", 4 + 3, x=(2, 3, 4), i=np.array([[0, 1], [1, 2], [1, 0]])),
    case("y = GatherND(x, i)", 3 + 4 + 3, x=(2, 3, 4), i=np.array([[0], [1], [0]])),
    case("y = GatherND<batch_dims=1>(x, i)", 2 + 4, x=(2, 3, 4), i=np.array([[0], [2]])),
    *(
        case(f"y = {op}<axis=1>(x, i, u)", 2, opset=opset, x=(2, 5), i=PICKS, u=(2, 3))
        for op, opset in (("Scatter", 10), ("ScatterElements", 17), ("ScatterElements", 18))
    ),
    case("y = ScatterElements(x, i, u)", 0, x=(4, 5), i=np.array([[0, 3]]), u=(1, 2)),
    case("y = ScatterND(x, i, u)", 3, x=(4, 3), i=ints(0, 2).reshape(2, 1), u=(2, 3)),
    case("y = ScatterND(x, i, u)", 5, x=(4, 3, 5), i=np.array([[0, 1], [2, 2]]), u=(2, 5)),
    case(
        "y = TensorScatter(c, u, i)",
        2 + 3 + 5, opset=24, c=(2, 3, 4, 5), u=(2, 3, 1, 5), i=ints(1, 3),
    ),
    case("y = OneHot(i, d, v)", 2 + 3, i=PICKS, d=np.array(4), v=w(2)),
    case("y = OneHot<axis=0>(i, d, v)", 2 + 3, i=PICKS, d=np.array(4), v=w(2)),
    case("y = Compress<axis=1>(x, c)", 2, x=(2, 3), c=np.array([True, False, True])),
    case("y = Compress(x, c)", 0, x=(2, 3), c=np.array([True, False, True])),
    case("y = ReverseSequence(x, n)", 3 + 4, x=(5, 3, 4), n=ints(2, 5, 1)),
    case(
        "y = ReverseSequence<batch_axis=0, time_axis=1>(x, n)", 3 + 4, x=(3, 5, 4), n=ints(2, 5, 1)
    ),
    case("y = Trilu(x)", 2 + 3, x=(2, 3, 4, 4)),
    case("y = CenterCropPad(x, s)", 2 + 3, opset=18, x=(2, 3, 4), s=ints(2, 3, 6)),
    case("y = CenterCropPad<axes=[-2, -1]>(x, s)", 2 + 3, opset=18, x=(2, 3, 4), s=ints(3, 2)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
