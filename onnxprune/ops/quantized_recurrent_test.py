from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from oracle import Case, build, case, check_rule, w

from onnxprune import ops
from onnxprune.ir.shape_inference import describe

LSTM = "com.microsoft.DynamicQuantizeLSTM"
TWO = 'direction="bidirectional"'
X: dict[str, Any] = {"x": (5, 2, 3)}
RNG = np.random.default_rng(0)


def integers(*shape: int, kind: type[np.generic] = np.int8) -> NDArray[Any]:
    """Seeded weights; adjacent pairs cannot saturate sixteen bits on any processor."""
    low, high = (-60, 60) if kind == np.int8 else (68, 188)
    return RNG.integers(low, high, shape).astype(kind)


def layer(
    n: int, h: int, dirs: int = 1, per_channel: bool = False, kind: type[np.generic] = np.int8
) -> dict[str, Any]:
    """W, R, B of n features and h units, with scales and zero points."""
    sizes = (dirs, 4 * h) if per_channel else (dirs,)
    zeros = np.full(sizes, 0 if kind == np.int8 else 128, kind)
    scale = w(*sizes) * np.float32(0.02)
    return {
        "w": integers(dirs, n, 4 * h, kind=kind),
        "r": integers(dirs, h, 4 * h, kind=kind),
        "b": w(dirs, 8 * h) - np.float32(1),
        "s": scale, "z": zeros, "t": scale * np.float32(0.7), "u": zeros,
    }  # fmt: skip


H: dict[str, Any] = {"h": (1, 2, 4)}
CASES = [
    case(f"y = {LSTM}<hidden_size=4>(x, w, r, b, , , , , s, z, t, u)", 3 + 4, **X, **layer(3, 4)),
    case(f"y, h1, c1 = {LSTM}<hidden_size=4, {TWO}>(x, w, r, b, , , , , s, z, t, u)", 3 + 4,
         **X, **layer(3, 4, 2)),
    case(f"y, h1, c1 = {LSTM}<hidden_size=4, {TWO}>(x, w, r, b, , , , , s, z, t, u)", 3 + 4,
         **X, **layer(3, 4, 2, per_channel=True)),
    case(f"y = {LSTM}<hidden_size=4>(x, w, r, b, , , , , s, z, t, u)", 3 + 4,
         **X, **layer(3, 4, kind=np.uint8)),
    case(f"y = {LSTM}<hidden_size=4>(x, w, r, , , , , , s, z, t, u)", 3 + 4,
         **X, **{k: v for k, v in layer(3, 4, per_channel=True).items() if k != "b"}),
    case(f"y = {LSTM}<hidden_size=4>(x, w, r, b, , h, c, p, s, z, t, u)", 3 + 4,
         **X, **layer(3, 4), **H, c=(1, 2, 4), p=w(1, 12)),
    case(f'y = {LSTM}<hidden_size=4, direction="reverse">(x, w, r, b, n, , , , s, z, t, u)', 3 + 4,
         **X, **layer(3, 4), n=np.array([5, 3], np.int32)),
    # a unit that does not stay at zero moves the range of its layer's state
    case(f'y = {LSTM}<hidden_size=4, activations=["Sigmoid","Sigmoid","Tanh"]>'
         "(x, w, r, b, , , , , s, z, t, u)", 3, **X, **layer(3, 4)),
    # as the quantiser leaves two layers
    case(f"y = {LSTM}<hidden_size=4, {TWO}>(x, w, r, b, , , , , s, z, t, u);"
         " f = Transpose<perm=[0,2,1,3]>(y); g = Reshape(f, k);"
         f" q = {LSTM}<hidden_size=5, {TWO}>(g, w2, r2, b2, , , , , s, z, t, u)", 3 + 4 + 5,
         **X, **layer(3, 4, 2), k=np.array([0, 0, -1]),
         **{f"{k}2": v for k, v in layer(8, 5, 2).items() if k in "wrb"}),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)


def test_a_computed_weight_is_left_alone() -> None:
    check_rule(
        case(
            f"y = {LSTM}<hidden_size=4>(x, signed, r, b, , , , , s, z, t, u)",
            0,
            **{**X, **layer(3, 4), "signed": (1, 3, 16)},
        )
    )


def test_macs_are_those_of_both_products() -> None:
    text = f"y = {LSTM}<hidden_size=4>(x, w, r, b, , , , , s, z, t, u)"
    (node,) = describe(build(case(text, 7, **X, **layer(3, 4))), ops.traits())
    assert [work.amount for work in ops.works_of(node)] == [5 * 2 * 16 * 3, 5 * 2 * 16 * 4]
