import pytest
from oracle import Case, case, check_rule, w


def deform(free: int, x: int, k: tuple[int, ...], offsets: int = 1, **attrs: int) -> Case:
    """2 × 2 kernels over 5 × 5 positions."""
    text = ", ".join(f"{name}={value}" for name, value in attrs.items())
    return case(
        f"y = DeformConv<kernel_shape=[2, 2], offset_group={offsets}, {text or 'group=1'}>"
        "(x, k, o, b, m)",
        free,
        opset=22,
        x=(2, x, 5, 5), k=w(*k, 2, 2), o=w(2, 8 * offsets, 4, 4), b=w(k[0]),
        m=w(2, 4 * offsets, 4, 4),
    )  # fmt: skip


CASES = [
    deform(2 + 3 + 4, 3, (4, 3)),
    deform(2 + 3 + 4, 6, (4, 6), offsets=2),
    deform(2 + 4 + 2, 8, (4, 4), offsets=2, group=2),
    case(
        "y, s = CausalConvWithState(x, k, b, p)",
        2 + 3, opset=27, x=(2, 3, 5), k=w(3, 1, 4), b=w(3), p=(2, 3, 3),
    ),
    case(
        'y, s = CausalConvWithState<activation="silu">(x, k)',
        2 + 3, opset=27, x=(2, 3, 5), k=w(3, 1, 2),
    ),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
