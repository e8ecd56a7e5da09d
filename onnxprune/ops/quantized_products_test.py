import numpy as np
import pytest
from oracle import Case, case, check_rule, w

U8, I8 = np.uint8, np.int8
MS = "com.microsoft."
X = {"s": np.float32(0.05), "z": U8(7)}
Y = {"r": np.float32(3), "o": U8(90)}


def q(*shape: int, dtype: type = I8) -> np.ndarray:
    """Seeded integers."""
    return np.random.default_rng(sum(shape)).integers(1, 100, shape).astype(dtype)


def zeros(n: int, dtype: type = I8) -> np.ndarray:
    """A zero point for every channel."""
    return np.arange(2, 2 + n).astype(dtype)


def one(dtype: type = I8) -> dict:
    """A weight with one scale and zero point."""
    return {"t": np.float32(0.02), "u": dtype(5)}


def each(n: int, dtype: type = I8) -> dict:
    """A weight with a scale and zero point for each channel."""
    return {"t": w(n) / 50, "u": zeros(n, dtype)}


BIAS = np.arange(40, dtype=np.int32) * 100
CONV = "y = QLinearConv{}(byte, s, z, k, t, u, r, o{})"
LAST = f"y = {MS}QLinearConv<channels_last=1{{}}>(byte, s, z, k, t, u, r, o, b)"
INTEGER = "y = ConvInteger{}(byte, k, z, u)"
MATMUL = "y = QLinearMatMul(byte, s, z, k, t, u, r, o)"
GEMM = f"y = {MS}QGemm{{}}(byte, s, z, k, t, u, b{{}})"
FLOAT = f"y = {MS}MatMulIntegerToFloat(byte, k, s, t, z, u, b)"
DYNAMIC = f"y = {MS}DynamicQuantizeMatMul(x, k, t, u, b)"
NBITS = f"y = {MS}MatMulNBits<K={{}}, N={{}}, bits={{}}, block_size={{}}>({{}})"


def n_bits(k: int, n: int, bits: int = 4, size: int = 16, inputs: str = "x, q, s") -> str:
    """A product with packed weights."""
    return NBITS.format(k, n, bits, size, inputs)


def packed(n: int, k: int, bits: int = 4, size: int = 16) -> dict:
    """Packed rows and their scales."""
    blocks = -(-k // size)
    return {"q": q(n, blocks, size * bits // 8, dtype=U8), "s": w(n, blocks)}


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
