"""Statistics over fewer positions that stay those over the old width d.

Removed positions are zero. With |S| of d positions left and r = |S|/d, the mean of squares over d
is r times that over S, and x / sqrt(r·v + ε) · γ = x / sqrt(v + ε/r) · γ/sqrt(r): with another γ
and ε a normalisation by root mean squares stays what it was, and needs no further operator. What
subtracts the mean first does not see what all positions have in common: its zero is the mean, where
the reference therefore puts removed positions. Then the mean over S is that over d, and behind it
the same holds. Mean and deviation, where an operator gives them as further results, do change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

from onnxprune.types import Edit, Kept, Node, Tensor

__all__ = ["keeps", "last_axis", "rescaled", "share"]

#: The first opset with Where, which the reference needs.
MASKABLE = 9


def keeps(node: Node, deviations: Sequence[Tensor] = ()) -> bool:
    """Say whether a normalisation may lose positions of what it normalises.

    Args:
        node: the normalisation.
        deviations: its results that are statistics.
    """
    return node.opset >= MASKABLE and not deviations


def last_axis(
    node: Node, inputs: Sequence[int], deviations: Sequence[Tensor]
) -> Iterator[tuple[int, int]]:
    """The last axis of some inputs, where all of them end in the one that is normalised."""
    x = node.outputs[0]
    if keeps(node, deviations) and node.attrs.get("axis", -1) in (-1, x.rank - 1):
        for index in inputs:
            tensor = node.input(index)
            if tensor is not None and tensor.rank > 0:
                yield index, tensor.rank - 1


def rescaled(
    node: Node,
    kept: Kept,
    gamma: tuple[int, float],
    deviations: Sequence[Tensor] = (),
) -> Edit:
    """Other γ and ε for fewer positions on the last axis.

    Args:
        node: the normalisation.
        kept: the positions that stay.
        gamma: the input that holds γ, and ε where the node does not say it.
        deviations: its results that are statistics.
    """
    left = share(kept, node.outputs[0], -1)
    if left == 1 or not keeps(node, deviations):
        return Edit()
    index, usual = gamma
    epsilon = float(node.attrs.get("epsilon", usual))
    return Edit(attrs={"epsilon": epsilon / left}, times={index: 1 / sqrt(left)})


def share(kept: Kept, tensor: Tensor, axis: int) -> float:
    """The share of an axis that stays; 1 where its size varies."""
    size = tensor.size(axis)
    return len(kept(tensor, axis % tensor.rank)) / size if size else 1.0
