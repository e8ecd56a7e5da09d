import numpy as np
import pytest
from oracle import Case, build, case, check_rule, ints

from onnxprune import ops
from onnxprune.ir.shape_inference import describe

SHUFFLE = "s = Reshape(x, a); t = Transpose<perm=[0,2,1,3]>(s); y = Reshape(t, b)"
CASES = [
    case("y = Transpose<perm=[0,2,3,1]>(x)", 2 + 3 + 4 + 5, x=(2, 3, 4, 5)),
    case("y = Transpose(x)", 2 + 3, x=(2, 3)),
    # Flatten of C×H×W: the widest axis carries, here the channels
    case("y = Flatten(x)", 2 + 7, x=(2, 7, 2, 3)),
    case("p = MaxPool<kernel_shape=[2,2]>(x); y = Flatten(p)", 2 + 3, x=(2, 3, 8, 8)),
    case("y = Flatten<axis=0>(x)", 5, x=(2, 5)),
    case("y = Reshape(x, s)", 2 + 7, x=(2, 7, 2, 3), s=ints(0, -1)),
    case("y = Reshape(x, s)", 2 + 3 + 4, x=(2, 3, 4), s=ints(2, 1, 3, 4)),
    case("y = Reshape(x, s)", 3 + 6, x=(2, 3, 6), s=ints(-1, 6)),
    # heads and groups: the wider factor carries
    case("y = Reshape(x, s)", 2 + 5, x=(2, 15), s=ints(2, 3, 5)),
    case("y = Reshape(x, s)", 2 + 5, x=(2, 15), s=ints(2, 5, 3)),
    # axes that share only part of their factors
    case("y = Reshape(x, s)", 4 + 5, x=(8, 5), s=ints(4, 10)),
    case("y = Reshape(x, s)", 6, x=(6,), s=ints(1, 1, 6, 1)),
    case("y = Reshape(x, s)", 0, x=(4, 9), s=ints(6, 6)),
    # channel shuffle: interleaved
    case(SHUFFLE, 4 + 2 + 5, x=(2, 8, 5), a=ints(2, 2, 4, 5), b=ints(2, 8, 5)),
    case(SHUFFLE, 3 + 2 + 5, x=(2, 9, 5), a=ints(2, 3, 3, 5), b=ints(2, 9, 5)),
    case("y = Reshape<allowzero=1>(x, s)", 2 + 7, x=(2, 7, 2, 3), s=ints(2, -1)),
    # pruned to one position, an axis must still not be squeezed
    case("y = Squeeze(x)", 2 + 3, x=(2, 1, 3, 1)),
    case("y = Squeeze(x)", 2 + 3, opset=11, x=(2, 1, 3, 1)),
    case("y = Unsqueeze<axes=[-1, 0]>(x)", 2 + 3, opset=11, x=(2, 3)),
    case("y = Squeeze(x, a)", 2 + 3, x=(2, 1, 3, 1), a=ints(1, 3)),
    case("y = Squeeze<axes=[1]>(x)", 2 + 3, opset=11, x=(2, 1, 3)),
    case("y = Unsqueeze(x, a)", 2 + 3, x=(2, 3), a=ints(0, 2)),
    # the width that a graph computes shapes with: still the original one
    case("s = Shape(x); y = Reshape(x, s)", 2 + 3, x=(2, 3)),
    case("s = Shape(x); y = Expand(k, s)", 2 + 3 + 2 + 3, x=(2, 3), k=(1, 1)),
    case("n = Size(x); f = Cast<to=1>(n); y = Mul(x, f)", 2 + 3, x=(2, 3)),
    case("k = Constant<value_floats=[1.0, 2.0, 3.0]>(); y = Mul(x, k)", 2 + 3, x=(2, 3)),
    case("y = OptionalHasElement(x)", 2 + 3, opset=18, x=(2, 3)),
    case("y = ConstantOfShape(s)", 2 + 3, s=ints(2, 3)),
    case("y = Expand(x, s)", 2 + 3 + 4, x=(3, 1), s=ints(2, 3, 4)),
    case("y = Expand(x, s)", 3 + 4, x=(3, 4), s=ints(1, 4)),
]


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)


def test_a_copied_size_is_written_where_only_the_data_is_pruned() -> None:
    c = case("y = Reshape(x, s)", 0, x=(4, 6, 3), s=ints(2, 0, 6))
    node = describe(build(c), ops.traits())[0]
    half = {("x", 1): 3, ("y", 2): 3}
    left = lambda tensor, axis: np.arange(half.get((tensor.name, axis), tensor.size(axis)))  # noqa: E731
    assert ops.SHRINKS["Reshape"](node, left).inputs == {1: (2, 6, 3)}
