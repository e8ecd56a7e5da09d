import pytest
from oracle import Case, case, check_rule, w

CASES = [
    case("y = MatMul(x, k)", 2 + 3 + 4, x=(2, 3), k=w(3, 4)),
    case("y = MatMul(x, k)", 2 + 5 + 3 + 4, x=(2, 5, 3), k=w(3, 4)),
    case("y = MatMul(k, x)", 2 + 4 + 3 + 5, x=(2, 3, 5), k=w(4, 3)),
    case("y = MatMul(x, k)", 3 + 4, x=(3,), k=w(3, 4)),
    case("y = MatMul(x, k)", 2 + 3, x=(2, 3), k=w(3)),
    case("y = MatMul(a, b)", 2 + 5 + 3 + 4, a=(2, 5, 3), b=(2, 3, 4)),
    case("y = MatMul(a, b)", 2 + 6 + 5 + 3 + 4, a=(2, 6, 5, 3), b=(6, 3, 4)),
    case("y = Gemm(x, k, b)", 2 + 3 + 4, x=(2, 3), k=w(3, 4), b=w(4)),
    case("y = Gemm<transB=1, alpha=2.0>(x, k)", 2 + 3 + 4, x=(2, 3), k=w(4, 3)),
    case("y = Gemm<transA=1>(x, k, b)", 2 + 3 + 4, x=(3, 2), k=w(3, 4), b=w(2, 4)),
    case("y = Gemm(x, k, b)", 2 + 3 + 4, x=(2, 3), k=w(3, 4), b=w(1)),
    case("y = Gemm(a, b)", 2 + 3 + 4, a=(2, 3), b=(3, 4)),
]


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
