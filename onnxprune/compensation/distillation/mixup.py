"""Sums of two samples each: more inputs for which the original has an answer.

Mixup (Zhang et al., 2018) without its labels: x = λ a + (1 - λ) b with λ uniform in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mixup"]

Array = NDArray[Any]


def mixup(feeds: Mapping[str, Array], samples: int, rng: np.random.Generator) -> dict[str, Array]:
    """As many `samples`; feeds that are integers, or that have no samples, stay as they are."""
    plain = all(np.issubdtype(v.dtype, np.floating) and len(v) == samples for v in feeds.values())
    if samples < 2 or not plain:
        return dict(feeds)
    other, part = rng.permutation(samples), rng.random()
    return {
        name: (part * array + (1 - part) * array[other]).astype(array.dtype)
        for name, array in feeds.items()
    }
