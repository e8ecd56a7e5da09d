from typing import Any

import pytest
from integers import U8, q
from oracle import Case, case, check_rule, w

NBITS = "y = com.microsoft.MatMulNBits<K={}, N={}, bits={}, block_size={}>({})"


def n_bits(k: int, n: int, bits: int = 4, size: int = 16, inputs: str = "x, q, s") -> str:
    """A product with packed weights."""
    return NBITS.format(k, n, bits, size, inputs)


def packed(n: int, k: int, bits: int = 4, size: int = 16) -> dict[str, Any]:
    """Packed rows and their scales."""
    blocks = -(-k // size)
    return {"q": q(n, blocks, size * bits // 8, dtype=U8), "s": w(n, blocks)}


CASES = [
    # rows one by one, the summed axis in whole blocks
    case(n_bits(64, 10), 3 + 10 + 4, x=(3, 64), **packed(10, 64)),
    case(n_bits(64, 10, inputs="x, q, s, , , b"), 2 + 3 + 10 + 4,
         x=(2, 3, 64), b=w(10), **packed(10, 64)),
    case(n_bits(64, 10, 8), 3 + 10 + 4, x=(3, 64), **packed(10, 64, 8)),
    case(n_bits(64, 10, inputs="x, q, s, z"), 3 + 10 + 2,
         x=(3, 64), z=q(10, 2, dtype=U8), **packed(10, 64)),
    case(n_bits(64, 10, inputs="x, q, f, z"), 3 + 10,
         x=(3, 64), z=q(20, dtype=U8), f=w(40), **packed(10, 64)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
