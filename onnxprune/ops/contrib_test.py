import numpy as np
import pytest
from oracle import Case, case, check_rule, w

MS = "com.microsoft"
UNARY = "Gelu QuickGelu ScaledSiLU FastGelu".split()
CASES = [
    *(case(f"y = {MS}.{op}(x)", 2 + 3, x=(2, 3)) for op in UNARY),
    case(f"y = {MS}.FastGelu(x, b)", 2 + 3 + 4, x=(2, 3, 4), b=w(4)),
    case(f"y = {MS}.BiasGelu(x, b)", 2 + 3 + 4, x=(2, 3, 4), b=w(4)),
    case(f"y = {MS}.GatedAdd(x, a, g)", 2 + 3 + 4, x=(2, 3, 4), a=(2, 3, 4), g=(2, 3, 1)),
    case(f'y = {MS}.FusedGemm<activation="Relu", alpha=2.0>(x, k, b)', 2 + 3 + 4,
         x=(2, 3), k=w(3, 4), b=w(4)),
    case(f'y = {MS}.FusedGemm<activation="Relu", transA=1, transB=1>(x, k)', 2 + 3 + 4,
         x=(3, 2), k=w(4, 3)),
    case(f'y = {MS}.FusedGemm<activation="Tanh">(a, b)', 2 + 3 + 4, a=(2, 3), b=(3, 4)),
    # axes in another order; a product of two activations sums zeros
    case(f"y = {MS}.FusedMatMul<alpha=0.5>(x, k)", 2 + 5 + 3 + 4, x=(2, 5, 3), k=w(3, 4)),
    case(f"y = {MS}.FusedMatMul<transB=1>(x, k)", 2 + 5 + 3 + 4, x=(2, 5, 3), k=w(4, 3)),
    case(f"y = {MS}.FusedMatMul<transA=1>(x, k)", 2 + 5 + 3 + 4, x=(2, 3, 5), k=w(3, 4)),
    case(f"y = {MS}.FusedMatMul<transB=1, alpha=0.5>(a, b)", 2 + 6 + 5 + 3 + 4,
         a=(2, 6, 5, 3), b=(6, 4, 3)),
    case(f"y = {MS}.FusedMatMul<transA=1, transB=1>(a, b)", 2 + 5 + 3 + 4,
         a=(2, 3, 5), b=(2, 4, 3)),
    case(f"y = {MS}.FusedMatMul<transBatchA=1>(a, b)", 2 + 6 + 5 + 3 + 4,
         a=(5, 2, 6, 3), b=(2, 6, 3, 4)),
    case(f"y = {MS}.FusedMatMul<transBatchA=1, transA=1, transBatchB=1, transB=1>(a, b)",
         2 + 5 + 3 + 4, a=(3, 2, 5), b=(4, 2, 3)),
    case(f"y = {MS}.TransposeMatMul<transA=1>(a, b)", 2 + 5 + 3 + 4, a=(2, 3, 5), b=(2, 3, 4)),
    case("y = SimplifiedLayerNormalization(x, s)", 2 + 3 + 4, x=(2, 3, 4), s=w(4)),
    case(f"y = {MS}.SkipLayerNormalization<epsilon=0.1>(x, k, g, b)", 2 + 3 + 9,
         x=(2, 3, 9), k=(2, 3, 9), g=w(9), b=w(9)),
    case(f"y, m, d, s = {MS}.SkipLayerNormalization(x, k, g, b, c)", 2 + 3, inexact=2 + 3 + 4,
         x=(2, 3, 4), k=(3, 4), g=w(4), b=w(4), c=w(4)),
    case(f"y, , , s = {MS}.SkipSimplifiedLayerNormalization(x, k, g)", 2 + 3 + 4,
         x=(2, 3, 4), k=(2, 3, 4), g=w(4)),
    case(f"y, , , s = {MS}.SkipLayerNormalization<epsilon=0.1>(x, k, g, b, c)", 2 + 3 + 9,
         x=(2, 3, 9), k=(3, 9), g=w(9), b=w(9), c=w(9)),
    case(f"y, , , s = {MS}.SkipSimplifiedLayerNormalization<epsilon=0.1>(x, k, g, c)", 2 + 3 + 9,
         x=(2, 3, 9), k=(2, 3, 9), g=w(9), c=w(9)),
    case(f"y, m, e = {MS}.EmbedLayerNormalization(i, j, a, b, c, g, h)", 2 + 4,
         i=np.array([[1, 2, 0], [2, 1, 0]], np.int32), j=np.array([[1, 0, 0], [1, 1, 0]], np.int32),
         a=w(9, 4), b=w(9, 4), c=w(2, 4), g=w(4), h=w(4)),
    case(f"u = Cast<to=2>(x); y = {MS}.NhwcMaxPool<kernel_shape=[2, 2]>(u)", 2 + 3,
         x=(2, 5, 5, 3)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)
