"""What a plan for stored tensors means for the entries of a checkpoint: which positions stay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxprune.errors import InputError
from onnxprune.torch.folded import STATISTICS, siblings, taken_in
from onnxprune.torch.origins import Array, Match, Origin
from onnxprune.types import Axis, Floats, Ints, Plan

__all__ = ["Cut", "Cuts", "cuts_of", "sliced"]


@dataclass(frozen=True)
class Cut:
    """What happens to one entry.

    Attributes:
        keep: (n_kept,) positions that stay, by axis; those from the size on are zeros.
        silent: positions among them that are set to zero, by axis.
        times: what all numbers are multiplied with, for a norm that goes on dividing by the
            width before.
        rows: (n,) what the positions of the first axis are multiplied with, for queries.
    """

    keep: Mapping[int, Ints] = field(default_factory=dict)
    silent: Mapping[int, Ints] = field(default_factory=dict)
    times: float = 1.0
    rows: Floats | None = None


@dataclass(frozen=True)
class Cuts:
    """What happens to a checkpoint.

    Attributes:
        entries: the cut of every entry that changes.
        folded: the normalisation that was multiplied into the layer of a weight, by its name.
        unknown: stored tensors of the plan that no entry explains, as text.
    """

    entries: Mapping[str, Cut]
    folded: Mapping[str, str]
    unknown: tuple[str, ...]


def cuts_of(
    plan: Plan,
    matches: Mapping[str, Match],
    arrays: Mapping[str, Array],
    silent: Mapping[Axis, Ints] | None = None,
    shown: Collection[str] = (),
) -> Cuts:
    """Say what happens to every entry of a checkpoint.

    Args:
        plan: what stays of the stored tensors.
        matches: what stored tensors are made of.
        arrays: the checkpoint.
        silent: positions of stored tensors that stay as zeros.
        shown: names of stored matrices, which entries should explain.

    Raises:
        InputError: two tensors need an entry in two forms.
    """
    found = _Found({}, {}, {})
    for axis in sorted({*plan.keep, *(silent or {})}):
        match = matches.get(axis.tensor)
        quiet = (silent or {}).get(axis, np.zeros(0, np.int64))
        for origin in match.axes[axis.axis] if match else ():
            keep = plan.keep.get(axis, np.arange(len(origin.at)))
            found.add(axis, origin, keep, quiet)
    folded = dict(_folded(matches, arrays))
    for weight, prefix in folded.items():
        along = next(m.along for m in matches.values() if m.scale is not None
                     and m.parts[0].entry == weight)  # fmt: skip
        beside = [f"{prefix}.{key}" for key in STATISTICS]
        bias = [n for n in siblings(weight, arrays) if arrays[n].ndim == 1]
        for name in (*beside, *bias):
            if name in arrays and len(arrays[name]) == arrays[weight].shape[along]:
                found.copy((weight, along), (name, 0))
    stored = {axis.tensor: axis for axis in plan.keep}
    unknown = tuple(
        str(axis) for name, axis in stored.items() if name not in matches and name in shown
    )
    return Cuts(_by_entry(found, arrays), folded, unknown)


def _folded(matches: Mapping[str, Match], arrays: Mapping[str, Array]) -> Iterable[tuple[str, str]]:
    """Weights that took a normalisation in, and its module."""
    used = set[str]()
    for match in matches.values():
        if match.scale is not None:
            weight = match.parts[0].entry
            prefix = taken_in(match.scale, weight, arrays, used)
            if prefix is not None:
                used.add(prefix)
                yield weight, prefix


@dataclass(frozen=True)
class _Found:
    """Positions of entries' axes by what happens to them, and who says so."""

    dead: dict[tuple[str, int], set[int]]
    alive: dict[tuple[str, int], set[int]]
    quiet: dict[tuple[str, int], set[int]]

    def add(self, axis: Axis, origin: Origin, keep: Ints, quiet: Ints) -> None:
        """Note what one axis of a stored tensor says of its origin."""
        key, size = (origin.entry, origin.axis), len(origin.at)
        within, beyond = keep[keep < size], keep[keep >= size]
        gone = np.ones(size, bool)
        gone[within] = False
        alive = set(origin.at[within].tolist()) | set(beyond.tolist())
        dead = self.dead.setdefault(key, set())
        dead |= set(origin.at[gone].tolist()) - {-1}
        self.alive.setdefault(key, set()).update(alive - {-1})
        self.quiet.setdefault(key, set()).update(set(origin.at[quiet].tolist()) - {-1})
        both = dead & self.alive[key]
        if both:
            raise InputError(
                f"'{origin.entry}' axis {origin.axis} position {min(both)} goes in one place and "
                f"stays for '{axis.tensor}' axis {axis.axis}: the module uses it twice. "
                "Exclude one of them when pruning (--exclude)."
            )

    def copy(self, source: tuple[str, int], target: tuple[str, int]) -> None:
        """Let an axis share what happens to another one."""
        for table in (self.dead, self.alive, self.quiet):
            if source in table:
                table.setdefault(target, set()).update(table[source])


def _by_entry(found: _Found, arrays: Mapping[str, Array]) -> dict[str, Cut]:
    cuts: dict[str, Cut] = {}
    for (name, axis), dead in found.dead.items():
        size = arrays[name].shape[axis]
        beyond = {k for k in found.alive[name, axis] if k >= size}
        quiet = found.quiet.get((name, axis), set())
        if not dead and not beyond and not quiet:
            continue
        keep = np.array(sorted(set(range(size)) - dead | beyond), np.int64)
        old = cuts.get(name, Cut())
        still = {**old.silent, axis: np.array(sorted(quiet), np.int64)} if quiet else old.silent
        cuts[name] = replace(old, keep={**old.keep, axis: keep}, silent=still)
    return cuts


def sliced(values: Any, cut: Cut, divides: bool = False) -> Any:
    """The positions of an array, or of a torch tensor, that stay; the argument is not changed.

    Args:
        values: with `shape`, indexing and multiplication as numpy has them.
        cut: what stays.
        divides: whether something is divided by the numbers, so that none may become zero.
    """
    if cut.rows is not None:
        values = _times_rows(values, cut.rows)
    for axis, keep in cut.keep.items():
        size = values.shape[axis]
        silent = np.union1d(cut.silent.get(axis, np.zeros(0, np.int64)), keep[keep >= size])
        values = values[_at(axis, np.where(keep < size, keep, size - 1))]
        where = np.flatnonzero(np.isin(keep, silent))
        if len(where) and not divides:
            values[_at(axis, where)] = 0
    return values * cut.times if cut.times != 1.0 else values


def _times_rows(values: Any, rows: Floats) -> Any:
    """Values with each position of their first axis multiplied, of the same type."""
    result = values * 1
    for factor in np.unique(rows[rows != 1]):
        result[_listed(np.flatnonzero(rows == factor))] *= float(factor)
    return result


def _at(axis: int, positions: Ints) -> tuple[Any, ...]:
    """The index of some positions of an axis, as numpy and torch take it."""
    return (*[slice(None)] * axis, _listed(positions))


def _listed(positions: Sequence[int] | Ints) -> list[int]:
    return [int(k) for k in positions]
