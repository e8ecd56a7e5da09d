"""How sparse a model's weights are, which patterns they hold, and what hardware makes of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.sparsity.patterns import NofM
from onnxprune.sparsity.weights import Weight
from onnxprune.types import Read

__all__ = ["LayerDensity", "Sizes", "densities", "nonzero", "packed_sizes"]

Array: TypeAlias = NDArray[Any]
#: Patterns that are looked for.
PATTERNS = (NofM(1, 4), NofM(2, 4), NofM(4, 8))
#: What TensorRT's sparse kernels read, and channels from which on they are usually chosen.
STRUCTURED, CHANNELS = NofM(2, 4), 256
#: Bytes that are compressed at most, spread over larger files.
MOST, PIECE = 2**25, 2**18


@dataclass(frozen=True)
class LayerDensity:
    """One weight: the share of its numbers that are not zero, patterns, and TensorRT's answer.

    `tensorrt` is empty where its 2:4 kernels can take the layer, else says why not; `unlikely`
    says why they may not be chosen all the same.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    nonzeros: int
    density: float
    patterns: tuple[str, ...]
    tensorrt: str
    unlikely: str = ""

    def values(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def nonzero(stored: Array, zero: Array | None) -> NDArray[np.bool_]:
    """Where a stored tensor is not zero; quantised ones are zero at their zero point."""
    return np.asarray(stored != (0 if zero is None else zero), bool)


def densities(weights: Iterable[Weight], read: Read, zeros: Read) -> list[LayerDensity]:
    """One row for each weight; those of packed bytes are left out."""
    return [
        _density(weight, nonzero(stored, zeros(weight.name)), stored.dtype)
        for weight in weights
        if not weight.packed and (stored := read(weight.name)) is not None
    ]


def _density(weight: Weight, there: NDArray[np.bool_], dtype: np.dtype[Any]) -> LayerDensity:
    laid = weight.laid(there)
    held = tuple(str(p) for p in PATTERNS if not p.misfit(weight.form) and _holds(laid, p))
    count = int(there.sum())
    why, unlikely = _tensorrt(weight, laid, dtype)
    return LayerDensity(
        weight.name,
        weight.node.op,
        weight.shape,
        count,
        count / max(there.size, 1),
        held,
        why,
        unlikely,
    )


def _holds(laid: NDArray[np.bool_], pattern: NofM) -> bool:
    few = bool(np.count_nonzero(laid) <= laid.size * pattern.kept // pattern.of)
    return few and bool((_counts(laid, pattern) <= pattern.kept).all())


def _counts(laid: NDArray[np.bool_], pattern: NofM) -> NDArray[np.uint16]:
    """(rows, taps, groups) how many numbers of each group are not zero, without a copy of all."""
    counts = laid[..., :: pattern.of].astype(np.uint16)
    for k in range(1, pattern.of):
        counts += laid[..., k :: pattern.of]
    return counts


def _tensorrt(weight: Weight, laid: NDArray[np.bool_], dtype: np.dtype[Any]) -> tuple[str, str]:
    """Why TensorRT's sparse kernels cannot take a layer, or may not be chosen."""
    misfit = "" if weight.lookup else STRUCTURED.misfit(weight.form)
    group, form = int(weight.node.attrs.get("group", 1)), ops.LAYERS.get(weight.node.op)
    bound = (
        (weight.lookup, "a lookup is no product"),
        (
            form is None or form.kind == "transposed",
            f"no sparse kernel for {weight.node.op}",
        ),
        (group > 1, f"a convolution of {group} groups"),
        (bool(misfit), misfit),
        (dtype.kind in "iu", "its weight is quantised in the graph (explicit QDQ)"),
    )
    reason = next((text for holds, text in bound if holds), "")
    if not reason and not _holds(laid, STRUCTURED):
        groups = _counts(laid, STRUCTURED) > STRUCTURED.kept
        reason = f"{int(groups.sum())} of {groups.size} groups of four hold more than two numbers"
    rows, _, channels = weight.form
    small = min(rows, channels) < CHANNELS
    unlikely = (
        f"{channels} to {rows} channels, below {CHANNELS}, are rarely chosen" if small else ""
    )
    return reason, "" if reason else unlikely


@dataclass(frozen=True)
class Sizes:
    """Bytes of a file, and after compression; `zstd` is None where no library is installed.

    `estimated`: a part of the file was compressed in place of all of it.
    """

    file: int
    zip: int
    zstd: int | None
    estimated: bool = False


def packed_sizes(pieces: Callable[[], Iterable[bytes | memoryview]], total: int) -> Sizes:
    """Sizes of content that comes in pieces, `total` bytes in all."""
    every = max(1, -(-total // MOST))
    squeezers: list[Any] = [zlib.compressobj(6)]
    other = _zstd()
    if other is not None:
        squeezers.append(other)
    sizes, seen = [0] * len(squeezers), 0
    for k, piece in enumerate(_cut(pieces())):
        if k % every:
            continue
        seen += len(piece)
        for at, squeezer in enumerate(squeezers):
            sizes[at] += len(squeezer.compress(piece))
    for at, squeezer in enumerate(squeezers):
        sizes[at] += len(squeezer.flush())
    scaled = [round(size * total / max(seen, 1)) for size in sizes]
    return Sizes(total, scaled[0], scaled[1] if len(scaled) > 1 else None, every > 1)


def _cut(pieces: Iterable[bytes | memoryview]) -> Iterable[memoryview]:
    for piece in pieces:
        view = memoryview(piece).cast("B")
        for at in range(0, len(view), PIECE):
            yield view[at : at + PIECE]


def _zstd() -> Any:
    """A compressor of Python 3.14's library or of the package zstandard, None without either."""
    for module, name in (("compression.zstd", "ZstdCompressor"), ("zstandard", "ZstdCompressor")):
        try:
            made = getattr(import_module(module), name)()
        except ImportError:
            continue
        return made.compressobj() if hasattr(made, "compressobj") else made
    return None


def overall(rows: Sequence[LayerDensity]) -> Mapping[str, float]:
    """Density of all weights together."""
    total = sum(int(np.prod(row.shape)) for row in rows)
    return {"numbers": total, "density": sum(row.nonzeros for row in rows) / max(total, 1)}
