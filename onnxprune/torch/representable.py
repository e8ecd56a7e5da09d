"""Keep channels of zeros where a module has one width for what a plan cuts to several.

An attention module of transformers views queries, keys and values with one width of a head; a
stacked LSTM has one hidden size for all layers; a block that goes whole needs a channel to be a
module. There the narrower part keeps channels that the plan removes, as zeros, which changes no
result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.surgery.plan import plan_of
from onnxprune.torch.origins import Match
from onnxprune.torch.planned import Planned
from onnxprune.types import Axis, Ints, Plan

__all__ = ["Representable", "Rows", "heads_of", "representable", "with_least"]


@dataclass(frozen=True)
class Rows:
    """Positions `start` … `stop` - 1 of an entry's axis: `heads` equal blocks."""

    entry: str
    axis: int
    start: int
    stop: int
    heads: int = 1

    @property
    def width(self) -> int:
        """Positions of a block."""
        return (self.stop - self.start) // self.heads


@dataclass(frozen=True)
class Representable:
    """A plan that a module can follow: `plan` keeps more, `silent` of it as zeros, by axis."""

    plan: Plan
    silent: Mapping[Axis, Ints]


def with_least(done: Planned) -> list[NDArray[np.bool_]]:
    """Which channels stay if groups that go whole keep one."""
    kept = [mask.copy() for mask in done.kept]
    for mask in kept:
        if not mask.any():
            mask[0] = True
    return kept


def representable(
    done: Planned, matches: Mapping[str, Match], equal: Iterable[Sequence[Rows]]
) -> Representable:
    """Keep channels as zeros so that all rows of a sequence keep as many in a block.

    Args:
        done: the plan and its groups.
        matches: what stored tensors are made of.
        equal: of each module, the rows of entries that must come out equally wide.
    """
    kept = with_least(done)
    for rows in equal:
        plan = plan_of(done.groups, kept)
        widths = [heads_of(part, _kept_of(part, plan, matches))[1] for part in rows]
        missing = dict[int, int]()  # queries and keys are of one group
        for part, width in zip(rows, widths, strict=True):
            for g, each in _groups_inside(done, part, matches).items():
                missing[g] = -(-(max(widths) - width) // each)
        for g, count in missing.items():
            kept[g][np.flatnonzero(~kept[g])[:count]] = True
    plan = plan_of(done.groups, kept)
    silent = {
        axis: np.setdiff1d(keep, done.plan.keep[axis])
        for axis, keep in _full(plan, done.plan).items()
        if axis in done.plan.keep
    }
    return Representable(plan, {axis: at for axis, at in silent.items() if len(at)})


def heads_of(rows: Rows, keep: Ints) -> tuple[Ints, int]:
    """The blocks that stay, and how many positions stay in each of them; 0 where that differs."""
    inside = keep[(keep >= rows.start) & (keep < rows.stop)] - rows.start
    counts = np.bincount(inside // rows.width, minlength=rows.heads)
    heads = np.flatnonzero(counts)
    widths = set(counts[heads].tolist())
    return heads, widths.pop() if len(widths) == 1 else 0


def _full(plan: Plan, before: Plan) -> dict[Axis, Ints]:
    """Kept positions of every axis of the plan before, whole ones spelt out."""
    return {axis: plan.keep.get(axis, np.arange(before.size[axis])) for axis in before.keep}


def _tensors(part: Rows, matches: Mapping[str, Match]) -> Iterable[tuple[Axis, Ints]]:
    """The axes of stored tensors that hold rows of an entry, and which rows (-1: others)."""
    for name, match in matches.items():
        for axis, origins in enumerate(match.axes):
            for origin in origins:
                if (origin.entry, origin.axis) == (part.entry, part.axis):
                    yield Axis(name, axis), origin.at


def _kept_of(part: Rows, plan: Plan, matches: Mapping[str, Match]) -> Ints:
    """Positions of the entry's axis that stay."""
    for axis, at in _tensors(part, matches):
        keep = plan.keep.get(axis, np.arange(len(at)))
        return np.unique(at[keep][at[keep] >= 0])
    return np.arange(part.start, part.stop)


def _groups_inside(done: Planned, part: Rows, matches: Mapping[str, Match]) -> dict[int, int]:
    """The groups that choose positions inside the blocks, and how many a channel has in each."""
    found = dict[int, int]()
    for axis, at in _tensors(part, matches):
        for g, group in enumerate(done.groups):
            own = next((p for a, p in group.axes() if a == axis), None)
            rows = np.zeros(0, np.int64) if own is None else at[own][0]
            rows = rows[(rows >= part.start) & (rows < part.stop)] - part.start
            counts = np.bincount(rows // part.width, minlength=1)
            if part.heads == 1 or 0 < counts.max() < part.width:  # else whole blocks
                found |= {g: int(counts.max())} if counts.max() else {}
    return found
