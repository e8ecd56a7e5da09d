"""Mirror and shift samples: further inputs for which the teacher gives the targets as well.

Which augmentations are natural for a model is measured on it: one is used if it changes the
original's outputs by little of what exchanging samples does. A network for photographs hardly tells
left from right; one for digits or for words does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import divergence

__all__ = ["Augmentation", "augmented", "natural_augmentations"]

#: Shortest axis along which samples are mirrored and shifted.
SHORTEST = 8
#: Largest shift, in parts of the axis: one eighth.
PARTS = 8
#: Divergence that an augmentation may cause, in shares of that of exchanged samples.
NOTICEABLE = 0.05

Array = NDArray[Any]
Feeds = Mapping[str, Array]


class Augmentation(NamedTuple):
    """An axis along which samples are mirrored or, with `shift` > 0, shifted that far at most."""

    axis: int
    shift: int = 0

    def apply(self, x: Array, rng: np.random.Generator) -> Array:
        """Mirror about half of the samples (n, …), or shift each by a random distance.

        The gap that a shift leaves is filled with the position at the edge.
        """
        n, size = len(x), x.shape[self.axis]
        positions = np.tile(np.arange(size), (n, 1))
        if self.shift:
            distance = rng.integers(-self.shift, self.shift + 1, n)
            positions = np.clip(positions + distance[:, None], 0, size - 1)
        else:
            positions[rng.random(n) < 0.5] = np.arange(size)[::-1]
        shape = [n if k == 0 else size if k == self.axis else 1 for k in range(x.ndim)]
        return np.take_along_axis(x, positions.reshape(shape), self.axis)


def natural_augmentations(
    batches: Sequence[Feeds], outputs_of: Callable[[Feeds], Mapping[str, Array]]
) -> tuple[Augmentation, ...]:
    """Find the augmentations that hardly change the original's outputs.

    Args:
        batches: samples, as they are fed.
        outputs_of: runs the original.

    Returns:
        None of them for models with several inputs, or with one that has no spatial axes or holds
        integers.
    """
    batches = [feeds for feeds in batches if _augmentable(feeds)]
    if not batches:
        return ()
    original = [outputs_of(feeds) for feeds in batches]
    exchanged = sum(
        divergence(outputs, {name: np.roll(v, 1, 0) for name, v in outputs.items()})
        for outputs in original
    )
    rng = np.random.default_rng(0)

    def caused(augmentation: Augmentation) -> float:
        seen = (outputs_of(augmented(feeds, (augmentation,), rng)) for feeds in batches)
        total = sum(divergence(a, b) for a, b in zip(original, seen, strict=True))
        return total if augmentation.shift else 2 * total  # half of the samples are mirrored

    (x,) = batches[0].values()
    axes = [axis for axis in range(1, x.ndim) if x.shape[axis] >= SHORTEST]
    options = [Augmentation(axis, shift) for axis in axes for shift in (0, x.shape[axis] // PARTS)]
    return tuple(option for option in options if caused(option) <= NOTICEABLE * exchanged)


def _augmentable(feeds: Feeds) -> bool:
    """Whether a batch is one input of real numbers with spatial axes, of more than one sample."""
    arrays = list(feeds.values())
    return (
        len(arrays) == 1
        and arrays[0].ndim > 2
        and len(arrays[0]) > 1
        and arrays[0].dtype.kind == "f"
    )


def augmented(
    feeds: Feeds, augmentations: Sequence[Augmentation], rng: np.random.Generator
) -> dict[str, Array]:
    """Apply augmentations to all inputs, one after the other."""
    found = dict(feeds)
    for augmentation in augmentations:
        found = {name: augmentation.apply(array, rng) for name, array in found.items()}
    return found
