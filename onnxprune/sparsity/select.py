"""Masks of all weights from their scores alone: streamed, one weight in memory at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.sparsity.masks import (
    block_scores,
    by_limit,
    erk,
    expanded,
    keep_largest,
    keep_largest_of_rows,
    limit_of,
    n_of_m,
)
from onnxprune.sparsity.options import Sparsity
from onnxprune.sparsity.patterns import Blocks, NofM
from onnxprune.sparsity.weights import Weight

__all__ = ["Scored", "fitting", "masks_of", "shares_of"]

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """Scores of a weight (rows, taps, channels), non-negative; `by_row`: compared in their row."""

    of: Callable[[Weight], Array]
    by_row: bool = False


def fitting(weights: Sequence[Weight], what: Sparsity) -> tuple[list[Weight], dict[str, str]]:
    """The weights that the pattern fits, and why others do not have it.

    Raises:
        InputError: one does not fit and `misfit` is `error`, or none does.
    """
    form, fit, misfits = what.form, list[Weight](), dict[str, str]()
    for weight in weights:
        reason = ""
        if form is not None:
            reason = form.misfit(weight.form)
            if weight.lookup and isinstance(form, NofM):
                reason = "a lookup takes whole rows, which no sparse kernel reads"
        if reason:
            misfits[weight.name] = reason
        else:
            fit.append(weight)
    if misfits and what.misfit == "error":
        name, reason = next(iter(misfits.items()))
        raise InputError(
            f"pattern {form} does not fit '{name}' of {len(misfits)} such weights: {reason}. "
            "Exclude them, or skip what does not fit"
        )
    if not fit:
        fitting = "" if form is None else f" in pattern {form}"
        raise InputError(
            f"no weight to make sparse{fitting}: run `onnxprune inspect --sparsity` to see why"
        )
    return fit, misfits


def shares_of(weights: Sequence[Weight], what: Sparsity) -> dict[str, float | None]:
    """The share of each weight that goes; None where it competes with others.

    Raises:
        InputError: an expression of `layer_sparsity` matches nothing.
    """
    own = _table(weights, what.layer_sparsity or {})
    rest = [weight for weight in weights if weight.name not in own]
    if what.sparsity is None:
        return {weight.name: own.get(weight.name, 0.0) for weight in weights}
    found: dict[str, float | None] = dict(own)
    if what.scope == "layer":
        found |= {weight.name: what.sparsity for weight in rest}
    elif what.scope == "erk":
        shares = erk([weight.form for weight in rest], what.sparsity) if rest else []
        found |= {weight.name: share for weight, share in zip(rest, shares, strict=True)}
    else:
        found |= {weight.name: None for weight in rest}
    return {weight.name: found[weight.name] for weight in weights}


def _table(weights: Sequence[Weight], table: Mapping[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for pattern, share in table.items():
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise InputError(
                f"layer sparsity '{pattern}': not a regular expression: {error}. Correct it."
            ) from error
        hits = [
            w.name for w in weights if expression.search(w.name) or expression.search(w.node.name)
        ]
        if not hits:
            raise InputError(
                f"layer sparsity '{pattern}': matches no node and no weight. Give names as inspect "
                "has them."
            )
        for name in hits:
            found.setdefault(name, share)
    return found


def masks_of(
    weights: Sequence[Weight], what: Sparsity, scored: Scored
) -> Iterator[tuple[Weight, Mask]]:
    """The mask of each weight, in order, laid out as the weight that comes with it."""
    form = what.form
    shares = {} if isinstance(form, NofM) else shares_of(weights, what)
    if form is None and not scored.by_row:  # no layout to be minded
        weights = [weight.plain for weight in weights]
    if what.threshold is not None:
        for weight in weights:
            yield weight, scored.of(weight) >= what.threshold
        return
    if isinstance(form, NofM):
        for weight in weights:
            yield weight, n_of_m(scored.of(weight), form)
        return
    compete = [weight for weight in weights if shares[weight.name] is None]
    units = _Units(scored, form, relative=what.scope != "global")
    total = sum(weight.size for weight in compete) // units.size
    limit = limit_of(lambda: map(units.of, compete), round((what.sparsity or 0) * total))
    for weight in weights:
        scores, share = units.of(weight), shares[weight.name]
        if share is None:
            kept, limit = by_limit(scores, limit)
        elif scored.by_row and form is None:
            rows = scores.reshape(len(scores), -1)
            kept = keep_largest_of_rows(rows, round(share * rows.shape[1])).reshape(scores.shape)
        else:
            kept = keep_largest(scores, round(share * scores.size))
        yield weight, expanded(kept, form) if form is not None else kept


@dataclass(frozen=True)
class _Units:
    """Scores of what goes together; `relative` ones are shares of the root energy of their layer.

    So that what goes of each layer costs the same share of its energy at the margin.
    """

    scored: Scored
    form: Blocks | None
    relative: bool

    @property
    def size(self) -> int:
        """Numbers that go together."""
        return 1 if self.form is None else self.form.rows * self.form.columns

    def of(self, weight: Weight) -> Array:
        """(rows, taps, channels) of units."""
        scores = self.scored.of(weight)
        if self.form is not None:
            scores = block_scores(scores, self.form)
        if self.relative:
            energy = float(np.einsum("rtc,rtc->", scores, scores, dtype=np.float64))
            scores = scores / np.float32(max(energy, 1e-30) ** 0.5)
        return scores.astype(np.float32, copy=False)
