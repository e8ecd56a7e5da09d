import numpy as np
import pytest
from oracle import Case, case, check_rule, ints, w

CASES = [
    case("y = Concat<axis=1>(a, b)", 1 + 3 + 4 + 2, a=(1, 3, 2), b=(1, 4, 2)),
    case("y = Concat<axis=-1>(x, x)", 2 + 3, x=(2, 3)),
    case("a, b = Split<axis=1>(x, s); y = Relu(a)", 2 + 3 + 4, x=(2, 7), s=ints(3, 4)),
    case("a, b = Split<axis=1>(x)", 2 + 3 + 3, x=(2, 6)),
    case("a, b = Split<axis=1, split=[2,4]>(x)", 2 + 6, opset=11, x=(2, 6)),
    case("a, b = Split<axis=1, num_outputs=2>(x)", 2 + 5, opset=18, x=(2, 5)),
    # chunks that are added must lose the same channels
    case("a, b = Split<axis=1>(x); y = Mul(a, b)", 2 + 3, x=(2, 6)),
    case("y = Slice(x, s, e, a)", 2 + 7, x=(2, 7), s=ints(1), e=ints(5), a=ints(1)),
    case("y = Slice(x, s, e)", 2 + 7, x=(2, 7), s=ints(0, -3), e=ints(2, 2**40)),
    case(
        "y = Slice(x, s, e, a, t)",
        2 + 7, x=(2, 7), s=ints(-1), e=ints(-(2**60)), a=ints(1), t=ints(-1),
    ),
    case(
        "y = Slice(x, s, e, a, t)",
        2 + 7, x=(2, 7), s=ints(5), e=ints(1), a=ints(1), t=ints(-1),
    ),
    # one of every two neighbours: both live and die together, also behind the last full pair
    *(
        case(
            "y = Slice(x, s, e, a, t)",
            2 + blocks, x=(2, 7), s=ints(start), e=ints(end), a=ints(-1), t=ints(step),
        )
        for start, end, step, blocks in (
            (0, 7, 2, 4), (1, 7, 2, 4), (3, 6, 2, 4), (-1, -8, -2, 4), (5, 0, -2, 4), (2, 7, 4, 2),
            (0, 1, 2, 7),
        )
    ),
    # both halves of interleaved pairs, as rotary embeddings take them
    case(
        "a = Slice(x, s0, e, k, t); b = Slice(x, s1, e, k, t); y = Concat<axis=-1>(b, a)",
        2 + 4, x=(2, 8), s0=ints(0), s1=ints(1), e=ints(99), k=ints(-1), t=ints(2),
    ),
    case(
        "y = Slice(x, s, e, a, t)",
        2 + 7, x=(2, 7), s=ints(3), e=ints(2), a=ints(1), t=ints(-1),
    ),
    case("y = Slice<starts=[1], ends=[5], axes=[1]>(x)", 2 + 7, opset=9, x=(2, 7)),
    case("y = Gather<axis=1>(x, i)", 2 + 5, x=(2, 5), i=ints(4, 0, 2)),
    case("y = Gather<axis=1>(x, i)", 2 + 5, x=(2, 5), i=ints(-1, 0, 0, 2)),
    case("y = Gather<axis=1>(x, i)", 2 + 4, x=(2, 5, 4), i=np.array(3)),
    case("y = Gather<axis=-1>(x, i)", 2 + 5, x=(2, 5), i=ints(-1, -5, 2)),
    case("y = Gather<axis=1>(x, i)", 2 + 4, x=(2, 5, 4), i=np.array(-1)),
    # the indices are cut themselves
    case("y = Gather(x, i)", 4 + 2 + 3, x=(5, 4), i=np.array([[0, 1, 1], [2, -3, 0]])),
    case("y = Gather<axis=1>(x, i)", 2 + 1 + 3, x=(2, 5), i=np.array([[0, 1, 4]])),
    # a table whose rows are looked up
    case("y = Gather(k, whole)", 4 + 3, k=w(9, 4), whole=(3,)),
    case("y = Gather(k, whole)", 4 + 3 + 2, k=w(9, 4), whole=(3, 2)),
    case("y = Gather<axis=1>(k, whole)", 4 + 3, k=w(4, 9), whole=(3,)),
    case(
        "e = Gather(k, whole); t = Transpose(k); y = MatMul(e, t)",
        3 + 4 + 2, k=w(9, 4), whole=(3, 2),
    ),
    case("y = Concat<axis=-2>(a, b)", 1 + 3 + 4 + 2, opset=11, a=(1, 3, 2), b=(1, 4, 2)),
    case("a, b, c = Split<axis=-1, num_outputs=3>(x)", 2 + 8, opset=18, x=(2, 8)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
