"""What onnxprune knows about ONNX operators: one file per family, one small function per rule."""

from __future__ import annotations

from onnxprune.ops import (
    attention,
    contrib,
    control,
    conv,
    einsum,
    elementwise,
    frozen,
    indexing,
    matmul,
    ml,
    norm,
    pooling,
    quantized,
    quantized_products,
    recurrent,
    relatives,
    rotary,
    slicing,
    space,
    view,
)
from onnxprune.ops.control import undecided
from onnxprune.ops.registry import (
    BARRIERS,
    COUPLINGS,
    DIVISORS,
    JUMPS,
    KERNELS,
    MACS,
    QUANTIZED,
    SCALES,
    SHRINKS,
    SUMS,
    barrier,
    couples,
    kernel,
    kernels_of,
    macs,
    shrinks,
    works_of,
)

__all__ = [
    "BARRIERS",
    "COUPLINGS",
    "DIVISORS",
    "FAMILIES",
    "JUMPS",
    "KERNELS",
    "MACS",
    "QUANTIZED",
    "SCALES",
    "SHRINKS",
    "SUMS",
    "couples",
    "kernel",
    "kernels_of",
    "macs",
    "shrinks",
    "undecided",
    "works_of",
]

#: The modules that register rules, in the order of the table in the README.
FAMILIES = (
    conv,
    relatives,
    matmul,
    einsum,
    attention,
    rotary,
    recurrent,
    norm,
    elementwise,
    pooling,
    space,
    view,
    slicing,
    control,
    quantized,
    quantized_products,
    contrib,
    indexing,
    ml,
)

for _reason, _names in frozen.FROZEN.items():
    barrier(_reason, *_names.split())
