import pytest
from integers import BIAS, U8, X, Y, each, one, q, zeros
from oracle import Case, case, check_rule, w

MS = "com.microsoft."
MATMUL = "y = QLinearMatMul(byte, s, z, k, t, u, r, o)"
GEMM = f"y = {MS}QGemm{{}}(byte, s, z, k, t, u, b{{}})"
FLOAT = f"y = {MS}MatMulIntegerToFloat(byte, k, s, t, z, u, b)"
DYNAMIC = f"y = {MS}DynamicQuantizeMatMul(x, k, t, u, b)"
CASES = [
    case(MATMUL, 2 + 5 + 3 + 4, byte=(2, 5, 3), k=q(3, 4), **X, **one(), **Y),
    case(MATMUL, 5 + 3 + 4, byte=(5, 3), k=q(3, 4), **X, **each(4), **Y),
    # the summed axis of two activations stays
    case("y = QLinearMatMul(byte, s, z, byte2, t, u, r, o)", 5 + 4,
         byte=(5, 3), byte2=(3, 4), **X, **one(U8), **Y),
    case("y = MatMulInteger(byte, k, z, u)", 5 + 3 + 4,
         byte=(5, 3), k=q(3, 4), z=U8(7), u=zeros(4)),
    case("y = MatMulInteger(byte, k)", 2 + 5 + 3 + 4, byte=(2, 5, 3), k=q(3, 4)),
    case(FLOAT, 5 + 3 + 4, byte=(5, 3), k=q(3, 4), b=w(4), **X, **each(4)),
    case(FLOAT, 5 + 3 + 4, byte=(5, 3), k=q(3, 4), b=w(4), **X, **one()),
    case(DYNAMIC, 2 + 5 + 3 + 4, x=(2, 5, 3), k=q(3, 4), b=w(4), **each(4)),
    case(DYNAMIC, 5 + 3 + 4, x=(5, 3), k=q(3, 4, dtype=U8), b=w(4), **one(U8)),
    case(GEMM.format("<transB=1>", ", r, o"), 5 + 3 + 4,
         byte=(5, 3), k=q(4, 3), b=BIAS[:4], **X, **each(4), **Y),
    case(GEMM.format("", ""), 5 + 3 + 4, byte=(5, 3), k=q(3, 4), b=BIAS[:4], **X, **one()),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
