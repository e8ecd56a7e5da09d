import numpy as np
import pytest
from oracle import Case, case, check_rule, w

CHOOSE = "y = If <then_branch = t () => (a) {{{}}}, else_branch = e () => (b) {{{}}}> (flag)"
CARRY = "y = Loop <body = g (int64 i, bool c, h) => (d, o) {{d = Identity(c) {}}}> (n, flag, x)"
COLLECT = (
    "y, z = Loop <body = g (int64 i, bool c, h) => (d, o, r) {{d = Identity(c) {}}}> (n, flag, x)"
)
CELL = """
    h, y = Scan <num_scan_inputs = 1 {}, body = g (s, r) => (t, u) {{
        p = MatMul(r, k) q = MatMul(s, l) t = Add(p, q) u = Relu(t)
    }}> (a, x)
"""
N = np.array(3)
CASES = [
    case(CHOOSE.format("a = Relu(x)", "b = Neg(x)"), 2 + 3, flag=(), x=(2, 3)),
    # both branches have weights of their own
    case(
        CHOOSE.format("a = MatMul(x, k)", "b = MatMul(x, l)"), 2 + 3 + 4,
        flag=(), x=(2, 3), k=w(3, 4), l=w(3, 4),
    ),
    # branches that differ in one size, and in rank
    case(CHOOSE.format("a = Relu(x)", "b = Relu(k)"), 3, flag=(), x=(2, 3), k=w(1, 3)),
    case(CHOOSE.format("a = Relu(x)", "b = Relu(k)"), 0, flag=(), x=(2, 3), k=w(3)),
    # one that always comes
    case(
        CHOOSE.format("a = Relu(x)", "b = Squeeze(x)").replace("(flag)", "(c)"), 2 + 3,
        x=(2, 3), c=np.array(True),
    ),
    case(CARRY.format("o = Relu(h)"), 2 + 3, flag=(), n=N, x=(2, 3)),
    case(CARRY.format("m = MatMul(h, k) o = Add(m, x)"), 2 + 3, flag=(), n=N, x=(2, 3), k=w(3, 3)),
    case(CARRY.format("m = Mul(h, k) o = Add(m, x)"), 2 + 3, flag=(), n=N, x=(2, 3), k=w(3)),
    # what grows has no size
    case(CARRY.format("o = Concat<axis=0>(h, x)"), 3, flag=(), n=N, x=(2, 3)),
    case(COLLECT.format("o = Relu(h) r = Neg(o)"), 2 + 3, flag=(), n=N, x=(2, 3)),
    case(CELL.format(""), 2 + 3 + 4, a=(2, 4), x=(5, 2, 3), k=w(3, 4), l=w(4, 4)),
    case(
        CELL.format(", scan_input_axes = [1], scan_output_axes = [-1]"), 2 + 3 + 4,
        a=(2, 4), x=(2, 5, 3), k=w(3, 4), l=w(4, 4),
    ),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
