"""Find the normalisations that an exporter multiplied into the layer before them.

A BatchNormalization behind a layer multiplies its output channels with γ / sqrt(variance + ε). Of
a layer whose stored weight is that multiple of the checkpoint's, the normalisation is the one for
which (γ / multiple)² - variance is the same number, ε, for all channels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from onnxprune.torch.origins import Array
from onnxprune.types import Floats

__all__ = ["STATISTICS", "normalisations", "siblings", "taken_in"]

STATISTICS = ("weight", "bias", "running_mean", "running_var")
#: Largest deviation of the multiple that a normalisation explains, and the largest ε.
DEVIATION, LARGEST = 1e-3, 0.02


def normalisations(arrays: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """What each normalisation with running statistics holds, by the name of its module."""
    found = {}
    for name in arrays:
        prefix, _, last = name.rpartition(".")
        if last == "running_var":
            found[prefix] = {
                key: arrays[full] for key in STATISTICS if (full := f"{prefix}.{key}") in arrays
            }
    return found


def taken_in(
    scale: Floats, weight: str, arrays: Mapping[str, Array], used: Collection[str]
) -> str | None:
    """Name the normalisation whose multiple a layer took; None where none explains it.

    Args:
        scale: (n_channels,) what the layer's output channels were multiplied with.
        weight: name of the layer's weight.
        arrays: the checkpoint, in the order of its modules.
        used: normalisations that other layers took.

    Of several that explain it, all of which hold the same numbers, it is the first behind the
    layer.
    """
    names, known = list(arrays), normalisations(arrays)
    start = names.index(weight)
    order = sorted(known, key=lambda p: names.index(f"{p}.running_var") < start)
    for prefix in order:
        if prefix not in used and _explains(known[prefix], scale):
            return prefix
    return None


def _explains(own: Mapping[str, Array], scale: Floats) -> bool:
    variance = own["running_var"].astype(np.float64)
    if variance.shape != scale.shape:
        return False
    gamma = own["weight"].astype(np.float64) if "weight" in own else np.ones(len(scale))
    seen = np.abs(scale) > 1e-6 * np.abs(scale).max(initial=1e-30)
    if not seen.any():
        return False
    epsilon = np.median((gamma[seen] / scale[seen]) ** 2 - variance[seen])
    if not -1e-4 * variance.max() <= epsilon <= LARGEST:
        return False
    expected = gamma / np.sqrt(np.maximum(variance + epsilon, 1e-30))
    return bool((np.abs(expected - scale) <= DEVIATION * np.abs(scale).max()).all())


def siblings(name: str, arrays: Mapping[str, Array]) -> list[str]:
    """Other entries of a module: those with the name before the last dot."""
    prefix = name.rpartition(".")[0]
    return [other for other in arrays if other != name and other.rpartition(".")[0] == prefix]
