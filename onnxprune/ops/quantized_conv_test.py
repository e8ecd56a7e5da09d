import pytest
from integers import BIAS, U8, X, Y, each, one, q
from oracle import Case, case, check_rule

MS = "com.microsoft."
CONV = "y = QLinearConv{}(byte, s, z, k, t, u, r, o{})"
LAST = f"y = {MS}QLinearConv<channels_last=1{{}}>(byte, s, z, k, t, u, r, o, b)"
INTEGER = "y = ConvInteger{}(byte, k, z, u)"
CASES = [
    case(CONV.format("<pads=[1,1,1,1]>", ", b"), 2 + 3 + 4,
         byte=(2, 3, 5, 5), k=q(4, 3, 3, 3), b=BIAS[:4], **X, **one(), **Y),
    case(CONV.format("", ", b"), 2 + 3 + 4,
         byte=(2, 3, 5, 5), k=q(4, 3, 3, 3), b=BIAS[:4], **X, **each(4), **Y),
    case(CONV.format("", ""), 2 + 3 + 4,
         byte=(2, 3, 5, 5), k=q(4, 3, 1, 1, dtype=U8), **X, **one(U8), **Y),
    case(CONV.format("<group=6>", ", b"), 2 + 6,
         byte=(2, 6, 5, 5), k=q(6, 1, 3, 3), b=BIAS[:6], **X, **each(6), **Y),
    case(CONV.format("<group=2>", ", b"), 2 + 5 + 4,
         byte=(2, 10, 5, 5), k=q(8, 5, 1, 1), b=BIAS[:8], **X, **each(8), **Y),
    case(LAST.format(""), 2 + 3 + 4,
         byte=(2, 5, 5, 3), k=q(4, 3, 3, 3), b=BIAS[:4], **X, **each(4), **Y),
    case(LAST.format(", group=6"), 2 + 6,
         byte=(2, 5, 5, 6), k=q(6, 1, 3, 3), b=BIAS[:6], **X, **one(), **Y),
    case(INTEGER.format("<pads=[1,1,1,1]>"), 2 + 3 + 4,
         byte=(2, 3, 5, 5), k=q(4, 3, 3, 3, dtype=U8), z=U8(7), u=U8(5)),
    case("y = ConvInteger<group=6>(byte, k)", 2 + 6,
         byte=(2, 6, 5, 5), k=q(6, 1, 3, 3, dtype=U8)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
