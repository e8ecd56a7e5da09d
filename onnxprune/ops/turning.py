"""What operators do to vectors that are turned: x → Q·x along one axis, Q orthogonal.

What treats every position of the axis alike, sums of tensors, products with one number for all
positions, moves, means over other axes, gives the turned result of turned inputs. A sum of squares
along the axis does not change, so that a normalisation by root mean squares does not either, and
its result is turned; one that subtracts the mean first needs Q·1 = 1 besides. γ and β of a
normalisation are numbers of single positions: they belong to what reads the result.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnxprune.ops.facets import ARITHMETIC
from onnxprune.types import Node

__all__ = ["LINEAR", "NORMS", "POWERS", "Norm", "squares"]


class Norm(NamedTuple):
    """A normalisation along the last axis, and where its inputs lie.

    Attributes:
        gamma: the input that multiplies the result.
        beta: the one that is added to it, None if there is none.
        centred: the mean is subtracted first.
        added: inputs that are added up before, and normalised together.
        total: the output that holds this sum; others hold statistics.
    """

    gamma: int
    beta: int | None
    centred: bool
    added: tuple[int, ...] = (0,)
    total: int | None = None


NORMS: dict[str, Norm] = {}
#: Operators that add up along axes: to which power they take what they add up.
POWERS: dict[str, int] = {}
#: Operators that add up what a channel holds at other positions, with the same weights for each
#: channel; True where these add up to one, so that a constant stays what it is.
LINEAR: dict[str, bool] = {}


def squares(node: Node) -> bool:
    """Say whether an operator gives the square of its first input."""
    if node.op == "Pow":
        exponent = node.input(1)
        value = None if exponent is None else exponent.value
        return value is not None and np.size(value) == 1 and float(np.ravel(value)[0]) == 2
    names = [t.name for t in node.inputs if t is not None]
    return ARITHMETIC.get(node.op) == "*" and len(names) == 2 and names[0] == names[1]
