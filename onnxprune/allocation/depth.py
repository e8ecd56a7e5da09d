"""Whole residual blocks removed on their own account, those first that the outputs miss least.

How much they miss a block is measured: the divergence of the outputs when what is left of it is
its shortcut and a bias (block influence, as in Men et al., ShortGPT, 2024, but at the outputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxprune.errors import InputError, TargetError
from onnxprune.groups.analysis import Analysis
from onnxprune.types import Floats, Ints

__all__ = ["depth_of", "shallow"]


def depth_of(target: Mapping[str, str | float]) -> int:
    """How many blocks a target such as `blocks=3` asks for; 0 if it speaks of something else.

    Raises:
        InputError: it is no number of blocks, or stands beside another target.
    """
    if not isinstance(target, Mapping) or "blocks" not in target:
        return 0
    text = str(target["blocks"])
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"target blocks={text}: give how many blocks go, such as blocks=3")
    if len(target) > 1:
        raise InputError("target blocks stands alone: a recipe can prune widths in a next stage")
    return int(text)


def shallow(
    analysis: Analysis, errors: Sequence[Floats], blocks: Mapping[int, tuple[int, ...]], count: int
) -> Ints:
    """(n_groups,) widths without the `count` blocks that are missed least.

    Args:
        analysis: the model.
        errors: (n_channels + 1,) of every group the divergence at each width.
        blocks: by their root the groups that go with a block.
        count: how many go.

    Raises:
        TargetError: there are not so many.
    """
    widths = np.array([group.channels for group in analysis.groups], np.int64)
    gone = 0
    for root in sorted(blocks, key=lambda g: float(errors[g][0])):
        inside = list(blocks[root])
        if gone < count and widths[inside].all():
            widths[inside] = 0
            gone += 1
    if gone < count:
        raise TargetError(f"blocks={count} is out of reach: only {gone} residual blocks can go")
    return widths
