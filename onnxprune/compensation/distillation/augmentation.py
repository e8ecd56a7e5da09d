"""Mirrored and shifted samples: more inputs for which the original has an answer.

Which of them are natural is not assumed but asked: a view is used if it moves the original's
outputs by little of what another sample in its place does. A network for photographs hardly tells
left from right, one for digits or for words does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import divergence

__all__ = ["Augmentation", "augmented", "natural_augmentations"]

#: Sizes of axes from which on positions are taken for places, and by what part samples are shifted.
LEAST, PART = 8, 8
#: Share of the divergence of another sample that a view may make.
NOTICED = 0.05

Array = NDArray[Any]
Feeds = Mapping[str, Array]


class Augmentation(NamedTuple):
    """An axis along which samples are mirrored, or shifted by up to `most` places."""

    axis: int
    most: int = 0

    def of(self, x: Array, rng: np.random.Generator) -> Array:
        """Half of the samples mirrored, or each shifted, the last place before a gap repeated."""
        n, size = len(x), x.shape[self.axis]
        places = np.tile(np.arange(size), (n, 1))
        if self.most:
            by = rng.integers(-self.most, self.most + 1, n)
            places = np.clip(places + by[:, None], 0, size - 1)
        else:
            places[rng.random(n) < 0.5] = np.arange(size)[::-1]
        shape = [n if k == 0 else size if k == self.axis else 1 for k in range(x.ndim)]
        return np.take_along_axis(x, places.reshape(shape), self.axis)


def natural_augmentations(
    pieces: Sequence[Feeds], ask: Callable[[Feeds], Mapping[str, Array]]
) -> tuple[Augmentation, ...]:
    """The views of the input that the original hardly notices.

    Args:
        pieces: samples, as they are fed.
        ask: what the original gives.

    Returns:
        None of models with several inputs, or with one that is no array of real numbers.
    """
    feeds = [piece for piece in pieces if _single(piece)]
    if not feeds:
        return ()
    right = [ask(piece) for piece in feeds]
    other = sum(divergence(a, {name: np.roll(v, 1, 0) for name, v in a.items()}) for a in right)
    rng = np.random.default_rng(0)

    def noticed(view: Augmentation) -> float:
        seen = (ask(augmented(piece, (view,), rng)) for piece in feeds)
        moved = sum(divergence(a, b) for a, b in zip(right, seen, strict=True))
        return moved if view.most else 2 * moved  # half of the samples are not mirrored

    (x,) = feeds[0].values()
    axes = [axis for axis in range(1, x.ndim) if x.shape[axis] >= LEAST]
    options = [Augmentation(axis, most) for axis in axes for most in (0, x.shape[axis] // PART)]
    return tuple(view for view in options if noticed(view) <= NOTICED * other)


def _single(feeds: Feeds) -> bool:
    """Whether samples of one input of real numbers with places are fed, more than one of them."""
    arrays = list(feeds.values())
    return (
        len(arrays) == 1
        and arrays[0].ndim > 2
        and len(arrays[0]) > 1
        and arrays[0].dtype.kind == "f"
    )


def augmented(
    feeds: Feeds, views: Sequence[Augmentation], rng: np.random.Generator
) -> dict[str, Array]:
    """Samples as seen through all views, in turn."""
    found = dict(feeds)
    for view in views:
        found = {name: view.of(array, rng) for name, array in found.items()}
    return found
