import numpy as np
import pytest
from oracle import Case, case, check_rule, w

from onnxprune import ops

U8, I8 = np.uint8, np.int8
S, Z = np.float32(0.05), U8(7)
ONE = {"s": S, "z": Z}
TWO = {"t": np.float32(0.04), "u": U8(11)}
OUT = {"r": np.float32(0.2), "o": U8(90)}
MS = "com.microsoft."


def zero_points(n: int, dtype: type = U8) -> np.ndarray:
    """Different ones for every channel."""
    return np.arange(3, 3 + n).astype(dtype)


CASES = [
    case("y = QuantizeLinear(x, s, z)", 2 + 3 + 4, x=(2, 3, 4), **ONE),
    case("y = QuantizeLinear(x, s)", 2 + 3 + 4, x=(2, 3, 4), s=S),
    case("y = QuantizeLinear(x, s, z)", 2 + 3 + 4, x=(2, 3, 4), s=w(3), z=zero_points(3)),
    case("y = QuantizeLinear<axis=-1>(x, s, z)", 2 + 4, x=(2, 4), s=w(4), z=zero_points(4, I8)),
    case("y = QuantizeLinear<axis=0>(x, s, z)", 4, x=(4,), s=w(4), z=zero_points(4)),
    case("y = QuantizeLinear(x, s, z)", 2 + 3, opset=10, x=(2, 3), **ONE),
    case("y = QuantizeLinear<axis=1, block_size=3>(x, s, z)", 2 + 2 + 4, opset=21,
         x=(2, 6, 4), s=w(2, 2, 4), z=zero_points(16).reshape(2, 2, 4)),
    case("y = DequantizeLinear(byte, s, z)", 2 + 3 + 4, byte=(2, 3, 4), **ONE),
    case("y = DequantizeLinear(signed, s)", 2 + 3, signed=(2, 3), s=S),
    case("y = DequantizeLinear<axis=2>(byte, s, z)", 2 + 3 + 4,
         byte=(2, 3, 4), s=w(4), z=zero_points(4)),
    case("y = DequantizeLinear<axis=0>(k, s, z)", 4 + 3,
         k=np.arange(12, dtype=I8).reshape(4, 3), s=w(4), z=zero_points(4, I8)),
    # the last block is shorter
    case("y = DequantizeLinear<axis=0, block_size=4>(byte, s, z)", 3 + 2, opset=21,
         byte=(10, 2), s=w(3, 2), z=zero_points(6).reshape(3, 2)),
    case("q = QuantizeLinear(x, s, z); y = DequantizeLinear(q, s, z)", 2 + 3, x=(2, 3), **ONE),
    # a transposed weight: the zero point lies along another axis of what is stored
    case("t = Transpose(k); y = DequantizeLinear<axis=1>(t, s, z)", 4 + 3,
         k=np.arange(12, dtype=U8).reshape(4, 3), s=w(4), z=zero_points(4)),
    case(f"y = {MS}QuantizeLinear<axis=1>(x, s, z)", 2 + 3, x=(2, 3), s=w(3), z=zero_points(3)),
    case(f"y = {MS}DequantizeLinear<axis=0>(byte, s, z)", 2 + 3,
         byte=(2, 3), s=w(2), z=zero_points(2)),
    case("q, s, z = DynamicQuantizeLinear(x); y = DequantizeLinear(q, s, z)", 2 + 3, x=(2, 3)),
    case("y, s, z = DynamicQuantizeLinear(x)", 2 + 3 + 4, opset=11, x=(2, 3, 4)),
    case(f"y = {MS}QLinearAdd(byte, s, z, byte2, t, u, r, o)", 2 + 3 + 4,
         byte=(2, 3, 4), byte2=(3, 4), **ONE, **TWO, **OUT),
    case(f"y = {MS}QLinearAdd(byte, s, z, k, t, u, r, o)", 2 + 3,
         byte=(2, 3), k=np.arange(3, dtype=U8), **ONE, **TWO, **OUT),
    case(f"y = {MS}QLinearMul(byte, s, z, byte2, t, u, r, o)", 2 + 3 + 4,
         byte=(2, 3, 4), byte2=(2, 3, 1), **ONE, **TWO, **OUT),
    case(f"y = {MS}QLinearWhere(flag, byte, s, z, byte2, t, u, r, o)", 2 + 3,
         flag=(2, 3), byte=(2, 3), byte2=(2, 3), **ONE, **TWO, **OUT),
    case(f"y = {MS}QLinearLeakyRelu<alpha=0.1>(byte, s, z, r, o)", 2 + 3, byte=(2, 3),
         **ONE, **OUT),
    case(f"y = {MS}QLinearSigmoid(byte, s, z, r, o)", 2 + 3, byte=(2, 3), **ONE, **OUT),
    case(f"y = {MS}QLinearSoftmax<axis=1, opset=13>(byte, s, z, r, o)", 2 + 4,
         byte=(2, 3, 4), s=S, z=Z, r=np.float32(1 / 256), o=U8(0)),
    case(f"y = {MS}QLinearSoftmax<axis=1, opset=11>(byte, s, z, r, o)", 2,
         byte=(2, 3, 4), s=S, z=Z, r=np.float32(1 / 256), o=U8(0)),
    case(f"y = {MS}QLinearAveragePool<kernel_shape=[2,2]>(byte, s, z, r, o)", 2 + 3,
         byte=(2, 3, 5, 5), **ONE, **OUT),
    case(f"y = {MS}QLinearAveragePool<kernel_shape=[2,2], channels_last=1>(byte, s, z, r, o)",
         2 + 3, byte=(2, 5, 5, 3), **ONE, **OUT),
    case(f"y = {MS}QLinearGlobalAveragePool(byte, s, z, r, o)", 2 + 3,
         byte=(2, 3, 5, 5), **ONE, **OUT),
    case(f"y = {MS}QLinearGlobalAveragePool<channels_last=1>(byte, s, z, r, o)", 2 + 3,
         byte=(2, 5, 5, 3), **ONE, **OUT),
    case(f"y = {MS}QLinearConcat<axis=1>(r, o, byte, s, z, byte2, t, u)", 2 + 3 + 4 + 5,
         byte=(2, 3, 5), byte2=(2, 4, 5), **ONE, **TWO, **OUT),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)


REFUSED = [
    case(
        "y = DequantizeLinear<axis=0, block_size=2>(byte, s, z)",
        0,
        opset=21,
        byte=(4,),
        s=w(2),
        z=zero_points(2),
    ),
    # one scale for every second position says nothing that could be cut
    case("y = DequantizeLinear<axis=1>(byte, s, z)", 0, byte=(2, 4), s=w(2), z=zero_points(2)),
    case("y = DequantizeLinear<axis=1>(byte, s, z)", 0, byte=(2, 4), s=w(3, 2), z=S),
]


@pytest.mark.parametrize("c", REFUSED, ids=str)
def test_scales_of_another_shape_freeze_everything(c: Case) -> None:
    from oracle import build

    # gone
    from onnxprune.ir.shape_inference import describe

    (node,) = describe(build(c), ops.traits())
    assert list(ops.COUPLINGS[node.op](node)) == []
