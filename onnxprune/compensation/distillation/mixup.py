"""Mix pairs of samples into further inputs, for which the teacher gives the targets as well.

Mixup (Zhang et al., 2018) without labels: x = λ a + (1 - λ) b with λ uniform in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mixup"]

Array = NDArray[Any]


def mixup(feeds: Mapping[str, Array], samples: int, rng: np.random.Generator) -> dict[str, Array]:
    """Mix every sample of a batch with another one, all inputs alike.

    Args:
        feeds: arrays by input name. They stay as they are where one holds integers, or does not
            have one row for each sample.
        samples: in the batch.
        rng: draws the pairs and λ, which is the same for all.
    """
    mixable = all(
        np.issubdtype(v.dtype, np.floating) and v.shape[:1] == (samples,) for v in feeds.values()
    )
    if samples < 2 or not mixable:
        return dict(feeds)
    other, share = rng.permutation(samples), rng.random()
    return {
        name: (share * array + (1 - share) * array[other]).astype(array.dtype)
        for name, array in feeds.items()
    }
