"""What onnxprune knows about ONNX operators: one file per family, one small function per rule."""

from __future__ import annotations

from onnxprune.ops import (
    attention,
    contrib,
    control_flow,
    conv,
    conv_variants,
    einsum,
    elementwise,
    indexing,
    matmul,
    ml,
    norm,
    pooling,
    quantized,
    quantized_products,
    recurrent,
    reshape,
    rotary,
    slicing,
    spatial,
    unsupported,
)
from onnxprune.ops.control_flow import undecided
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

#: The modules that register rules, in the order of the table in docs/operators.md.
FAMILIES = (
    conv,
    conv_variants,
    matmul,
    einsum,
    attention,
    rotary,
    recurrent,
    norm,
    elementwise,
    pooling,
    spatial,
    reshape,
    slicing,
    control_flow,
    quantized,
    quantized_products,
    contrib,
    indexing,
    ml,
)

for _reason, _names in unsupported.FROZEN.items():
    barrier(_reason, *_names.split())
