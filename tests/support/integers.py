"""Integers that stand for reals, with their scales and zero points, for cases of rules."""

from typing import Any

import numpy as np
from oracle import w

U8, I8 = np.uint8, np.int8
X = {"s": np.float32(0.05), "z": U8(7)}
Y = {"r": np.float32(3), "o": U8(90)}


def q(*shape: int, dtype: type = I8) -> np.ndarray:
    """Seeded integers."""
    return np.random.default_rng(sum(shape)).integers(1, 100, shape).astype(dtype)


def zeros(n: int, dtype: type = I8) -> np.ndarray:
    """A zero point for every channel."""
    return np.arange(2, 2 + n).astype(dtype)


def one(dtype: type = I8) -> dict[str, Any]:
    """A weight with one scale and zero point."""
    return {"t": np.float32(0.02), "u": dtype(5)}


def each(n: int, dtype: type = I8) -> dict[str, Any]:
    """A weight with a scale and zero point for each channel."""
    return {"t": w(n) / 50, "u": zeros(n, dtype)}


#: Of up to 40 channels.
BIAS = np.arange(40, dtype=np.int32) * 100
