"""What turning a stream takes of the tensors of a graph: frozen values, see `streams`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import Axis, Floats, Group

__all__ = ["Fold", "Kind", "Rotation", "Stream", "Use", "Value", "same_numbers", "scaled"]

#: What becomes of a stored tensor: it is turned along an axis (behind γ, if there is one), or what
#: it holds is folded elsewhere.
Kind: TypeAlias = Literal["turned", "ones", "zeros"]


class Use(NamedTuple):
    """What becomes of a stored tensor along one axis, (n,) γ before it is turned or None."""

    tensor: str
    axis: int
    kind: Kind
    gamma: Floats | None = None


class Fold(NamedTuple):
    """A reader's weight, whose product with (n,) β along an axis is added to a stored bias."""

    bias: str
    weight: str
    axis: int
    beta: Floats


@dataclass(frozen=True)
class Stream:
    """A group of channels that can be turned.

    Attributes:
        group: the group.
        uses: what becomes of stored tensors.
        folds: what is added to biases first.
        read: axes of the tensors that layers read the normalised stream from.
        centred: a mean along the stream is taken, so that Q·1 = 1 is asked for.
        meanless: nothing sees that mean, as all that reads the stream subtracts it first.
    """

    group: Group
    uses: tuple[Use, ...]
    folds: tuple[Fold, ...]
    read: tuple[Axis, ...]
    centred: bool
    meanless: bool


@dataclass(frozen=True)
class Rotation:
    """The name of the group that a stream is, and the orthogonal (n, n) matrix that turns it."""

    group: str
    matrix: NDArray[np.float32]


@dataclass(frozen=True)
class Value:
    """A tensor of the stream, γ·z + β where z is what turns.

    `roots` are stored tensors that are moved only, which may be anything yet; `squared`: the
    squares of z. `meanless`: the mean along the stream was subtracted from z.
    """

    gamma: Floats | None = None
    beta: Floats | None = None
    squared: bool = False
    meanless: bool = False
    roots: frozenset[str] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether it is z itself."""
        return self.gamma is None and self.beta is None and not self.squared

    @property
    def mere_squares(self) -> bool:
        """Whether it is the squares of z, with no factors."""
        return self.gamma is None and self.beta is None and self.squared


def same_numbers(a: Floats | None, b: Floats | None) -> bool:
    """Whether two vectors, which may both be missing, hold the same."""
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)


def scaled(value: Value, by: Floats, sign: str) -> Value:
    """γ·z + β, multiplied with a vector or divided by it."""
    factor = 1 / by if sign == "/" else by
    gamma = factor if value.gamma is None else value.gamma * factor
    return replace(value, gamma=gamma, beta=None if value.beta is None else value.beta * factor)
