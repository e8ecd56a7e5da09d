import numpy as np
import pytest
from oracle import Case, case, check_rule, ints

CASES = [
    case("y = Pad(x, p)", 2 + 3 + 4, x=(2, 3, 4), p=ints(0, 0, 0, 0, 0, 0)),
    case("y = Pad(x, p)", 2 + 8 + 4, x=(2, 3, 4), p=ints(0, 2, 0, 0, 3, 0)),
    case("y = Pad(x, p, v)", 3 + 9, x=(3, 4), p=ints(0, 2, 0, 3), v=np.float32(1.5)),
    case("y = Pad(x, p)", 3 + 6, x=(3, 6), p=ints(0, -2, 0, -1)),
    case('y = Pad<mode="reflect">(x, p)', 3, x=(3, 6), p=ints(0, 2, 0, 1)),
    case("y = Pad<pads=[0,1,0,2]>(x)", 3 + 7, opset=9, x=(3, 4)),
    case("y = Pad(x, p, , a)", 3 + 7, opset=18, x=(3, 4), p=ints(1, 2), a=ints(1)),
    case("y = Tile(x, r)", 2 + 3, x=(2, 3), r=ints(1, 2)),
    case("y = Tile(x, r)", 2 + 3 + 5, x=(2, 1, 3), r=ints(1, 5, 2)),
    case('y = Pad<mode="edge">(x, p, , a)', 3 + 4, opset=18, x=(3, 4, 2), p=ints(2, 1), a=ints(-1)),
    case("y = Pad(x, p, , a)", 3 + 4 + 4, opset=18, x=(3, 4, 2), p=ints(1, 1), a=ints(-1)),
    case("y = DepthToSpace<blocksize=2>(x)", 2 + 3, x=(2, 12, 2, 2)),
    case('y = DepthToSpace<blocksize=2, mode="CRD">(x)', 2 + 3, x=(2, 12, 2, 2)),
    case("y = SpaceToDepth<blocksize=2>(x)", 2 + 3, x=(2, 3, 4, 4)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
