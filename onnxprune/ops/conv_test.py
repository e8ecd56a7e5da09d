import pytest
from oracle import Case, case, check_rule, w

CASES = [
    case("y = Conv<pads=[1,1,1,1]>(x, k, b)", 2 + 3 + 4, x=(2, 3, 5, 5), k=w(4, 3, 3, 3), b=w(4)),
    case("y = Conv<strides=[2]>(x, k)", 2 + 3 + 4, x=(2, 3, 7), k=w(4, 3, 3)),
    case("y = Conv(x, k)", 2 + 3 + 4, x=(2, 3, 4, 4, 4), k=w(4, 3, 2, 2, 2)),
    case("y = Conv<group=6>(x, k, b)", 2 + 6, x=(2, 6, 5, 5), k=w(6, 1, 3, 3), b=w(6)),
    case("y = Conv<group=3>(x, k)", 2 + 3, x=(2, 3, 5, 5), k=w(6, 1, 3, 3)),
    case("y = Conv<group=4>(x, k)", 2 + 4, x=(2, 8, 5, 5), k=w(8, 2, 3, 3)),
    case("y = Conv<group=2>(x, k, b)", 2 + 5 + 4, x=(2, 10, 5, 5), k=w(8, 5, 1, 1), b=w(8)),
    case("y = Conv(x, k)", 2 + 4, x=(2, 3, 5, 5), k=(4, 3, 3, 3)),
    case("y = ConvTranspose(x, k, b)", 2 + 3 + 4, x=(2, 3, 5, 5), k=w(3, 4, 3, 3), b=w(4)),
    case("y = ConvTranspose<strides=[2,2]>(x, k)", 2 + 3 + 4, x=(2, 3, 4, 4), k=w(3, 4, 2, 2)),
    case("y = ConvTranspose<group=4>(x, k, b)", 2 + 4, x=(2, 4, 5, 5), k=w(4, 1, 3, 3), b=w(4)),
    case("y = ConvTranspose<group=3>(x, k)", 2 + 3, x=(2, 3, 5, 5), k=w(3, 2, 3, 3)),
    case("y = ConvTranspose<group=2>(x, k)", 2 + 3 + 4, x=(2, 6, 5, 5), k=w(6, 4, 2, 2)),
    case(
        'y = com.microsoft.FusedConv<activation="Relu", pads=[1,1,1,1]>(x, k, b, z)',
        2 + 3 + 4,
        x=(2, 3, 5, 5), k=w(4, 3, 3, 3), b=w(4), z=(2, 4, 5, 5),
    ),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
