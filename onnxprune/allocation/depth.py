"""Remove a number of whole residual blocks, those first that the outputs miss least.

How much they miss a block is measured: the divergence of the outputs when what is left of it is
its shortcut and a bias (block influence, as in Men et al., ShortGPT, 2024, but at the outputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxprune.allocation.allocate import allocate
from onnxprune.allocation.problem import BLOCKS, problem_of
from onnxprune.errors import InputError, TargetError
from onnxprune.groups.cost import CostModel
from onnxprune.groups.units import Row
from onnxprune.types import Ints

__all__ = ["depth_of", "remove_blocks"]


def depth_of(target: Mapping[str, str | float]) -> int:
    """Read how many blocks a target such as `blocks=3` asks for; 0 if it speaks of something else.

    Raises:
        InputError: it is no number of blocks, or stands beside another target.
    """
    if not isinstance(target, Mapping) or BLOCKS not in target:
        return 0
    text = str(target[BLOCKS])
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"target blocks={text}: give how many blocks go, such as blocks=3")
    if len(target) > 1:
        raise InputError(
            "target blocks stands alone: write a recipe that prunes widths in a next stage"
        )
    return int(text)


def remove_blocks(cost: CostModel, rows: Sequence[Row], count: int) -> Ints:
    """Choose the blocks that go, all others whole: (n_groups,) widths.

    Args:
        cost: what widths cost.
        rows: one for each group; those that take others along stand for a block.
        count: how many go.

    Raises:
        TargetError: there are not so many.
    """
    whole = [row.offering(row.unit.levels[-1:]) for row in rows]
    blocks = sum(bool(row.unit.along) for row in rows)
    problem = problem_of(cost, {BLOCKS: blocks - count}, whole)
    chosen = allocate(problem)
    if not chosen.met:
        gone = blocks - round(float(problem.count(chosen.widths)[-1]))
        raise TargetError(f"blocks={count} is out of reach: only {gone} residual blocks can go")
    return chosen.widths
