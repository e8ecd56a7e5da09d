from dataclasses import replace

import pytest
from oracle import Case, case, check_rule, w

from onnxprune.ops.conv import conv
from onnxprune.types import Node, Tensor

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


def test_channels_that_do_not_fit_the_groups_stay_whole() -> None:
    """A graph that was put together wrongly: five channels come to four groups."""
    x, k, y = Tensor("x", (2, 5, 5, 5)), Tensor("k", (8, 2, 1, 1), constant=True), Tensor("y")
    for groups, out in ((4, 8), (0, 8), (-1, 8), (5, 8)):
        node = Node("n", "Conv", (x, k), (replace(y, shape=(2, out, 5, 5)),), {"group": groups})
        assert list(conv(node)) == []
