import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import Case, case, check_rule, ints, w


def floats(*values: float) -> NDArray[np.float32]:
    """A constant list of numbers."""
    return np.array(values, np.float32)


REDUCE = """
    ReduceLogSumExp ReduceMax ReduceMin ReduceProd
""".split()
SUMMING = "ReduceL1 ReduceL2 ReduceLogSum ReduceMean ReduceSumSquare".split()
CASES = [
    case("y = MaxPool<kernel_shape=[2,2]>(x)", 2 + 3, x=(2, 3, 4, 4)),
    case("y, at = MaxPool<kernel_shape=[2]>(x)", 0, x=(2, 3, 4)),
    case("y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", 2 + 3, x=(2, 3, 4, 4)),
    case("y = LpPool<kernel_shape=[2,2]>(x)", 2 + 3, x=(2, 3, 4, 4)),
    *(case(f"y = {op}(x)", 2 + 3, x=(2, 3, 4, 4)) for op in ("GlobalAveragePool", "GlobalMaxPool")),
    case("y = GlobalLpPool(x)", 2 + 3, x=(2, 3, 4, 4)),
    *(case(f"y = {op}<axes=[2,3], keepdims=0>(x)", 2 + 3, x=(2, 3, 4, 4)) for op in REDUCE),
    # zeros may leave a sum
    *(case(f"y = {op}<axes=[-1]>(x)", 2 + 3 + 4, x=(2, 3, 4)) for op in SUMMING),
    *(case(f"y = {op}(x, k)", 2 + 3 + 4, opset=18, x=(2, 3, 4), k=ints(1)) for op in SUMMING),
    case("y = ReduceLogSumExp<axes=[-1]>(x)", 2 + 3, inexact=2 + 3 + 4, x=(2, 3, 4)),
    case("y = ReduceMean<axes=[1, 2], keepdims=0>(x)", 2 + 3 + 4, x=(2, 3, 4)),
    case("y = ReduceMean<axes=[2]>(x)", 2 + 3, opset=8, x=(2, 3, 4)),  # no Where for a reference
    case("y = ReduceMax(x)", 0, x=(2, 3, 4)),
    case("y = ReduceSum<keepdims=0>(x, k)", 2 + 3 + 4, x=(2, 3, 4), k=ints(1)),
    case("y = ReduceSum<axes=[1, 2]>(x)", 2 + 3 + 4, opset=11, x=(2, 3, 4)),
    case("y = ReduceSum(x)", 2 + 3, x=(2, 3)),
    case("y = ReduceSum<noop_with_empty_axes=1>(x)", 2 + 3, x=(2, 3)),
    case("y = ArgMax<axis=1, keepdims=0>(x)", 2 + 4, x=(2, 3, 4)),
    case("y = ArgMin<axis=1>(x)", 2 + 4, x=(2, 3, 4)),
    case("y, at = TopK<axis=1, k=2>(x)", 2 + 4, opset=9, x=(2, 3, 4)),
    case("y, at = TopK<axis=1>(x, k)", 2 + 4, x=(2, 3, 4), k=ints(2)),
    case(
        'y = Resize<mode="nearest">(x, , s)', 2 + 3, x=(2, 3, 4, 4), s=floats(1, 1, 2, 2)
    ),
    case('y = Resize<mode="linear">(x, , , s)', 2 + 3, x=(2, 3, 4, 4), s=ints(2, 3, 8, 6)),
    case('y = Resize<mode="linear">(x, , , s)', 2 + 3 + 4, x=(2, 3, 4, 4), s=ints(2, 3, 4, 6)),
    case(
        'y = Resize<mode="nearest", axes=[2,3]>(x, , , s)',
        2 + 3, opset=18, x=(2, 3, 4, 4), s=ints(8, 6),
    ),
    case(
        'y = Resize<coordinate_transformation_mode="tf_crop_and_resize", mode="linear">(x, r, s)',
        0, x=(2, 3, 4, 4), r=floats(0, 0, 0, 0, 1, 1, 1, 1), s=floats(1, 1, 2, 2),
    ),
    case(
        'y = Resize<coordinate_transformation_mode="tf_crop_and_resize", mode="linear", axes=[2,3]>'
        "(x, r, s)",
        2 + 3, opset=18, x=(2, 3, 4, 4), r=floats(0, 0, 1, 1), s=floats(2, 2),
    ),
    # the size stays, but the positions move
    case('y = Resize<mode="linear">(x, , s)', 2, x=(2, 5, 4), s=floats(1, 1.1, 2)),
    case('y = Resize<mode="nearest">(x, s)', 2 + 3, opset=10, x=(2, 3, 4), s=floats(1, 1, 2)),
    case("y = Upsample<scales=[1.0, 1.0, 2.0, 2.0]>(x)", 2 + 3, opset=7, x=(2, 3, 4, 4)),
    case('y = Upsample(x, s)', 2 + 3, opset=9, x=(2, 3, 4, 4), s=floats(1, 1, 2, 2)),
    case(
        "y = RoiAlign<output_height=2, output_width=2>(x, r, i)",
        3, x=(2, 3, 4, 4), r=w(2, 4), i=ints(0, 1),
    ),
    case(
        "y = MaxRoiPool<pooled_shape=[2,2]>(x, r)",
        3, x=(2, 3, 4, 4), r=np.array([[0, 0, 0, 3, 3], [1, 0, 0, 2, 2]], np.float32),
    ),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
