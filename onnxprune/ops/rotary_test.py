import numpy as np
import pytest
from oracle import Case, case, check_rule, ints, w

MS = "com.microsoft"
CASES = [
    # pairs of columns that turn together, in halves or side by side; or whole heads
    case("y = RotaryEmbedding(x, c, s)", 3 + 2, 23, x=(2, 3, 5, 4), c=w(2, 5, 2), s=w(2, 5, 2)),
    case("y = RotaryEmbedding<num_heads=2, interleaved=1>(x, c, s)", 3, 23,
         x=(2, 5, 12), c=w(2, 5, 3), s=w(2, 5, 3)),
    case("y = RotaryEmbedding<num_heads=3>(x, c, s)", 3, 23,
         x=(2, 5, 12), c=w(2, 5, 2), s=w(2, 5, 2)),
    case("y = RotaryEmbedding<num_heads=2, rotary_embedding_dim=4>(x, c, s, p)", 2 + 3, 23,
         x=(2, 5, 14), c=w(9, 2), s=w(9, 2), p=np.arange(10).reshape(2, 5) % 7),
    case(f"y = {MS}.RotaryEmbedding(x, p, c, s)", 3, x=(2, 5, 12), p=ints(0), c=w(9, 3),
         s=w(9, 3)),
    case(f"y = {MS}.RotaryEmbedding<interleaved=1>(x, p, c, s)", 3 + 2,
         x=(2, 3, 5, 4), p=ints(0), c=w(9, 2), s=w(9, 2)),
    case(f"y = {MS}.RotaryEmbedding<num_heads=3, rotary_embedding_dim=2>(x, p, c, s)", 3,
         x=(2, 5, 12), p=ints(0), c=w(9, 1), s=w(9, 1)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
