"""What to make sparse, and how much: one frozen value with every option."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from onnxprune.errors import InputError, check_kinds
from onnxprune.sparsity.patterns import Blocks, NofM, Pattern, parse_pattern

__all__ = ["CRITERIA", "SCOPES", "Sparsity", "checked"]

#: How numbers are ranked; `auto` takes what suits.
CRITERIA = ("auto", "magnitude", "wanda", "obs", "random")
#: What competes with what.
SCOPES = ("auto", "global", "layer", "erk")


@dataclass(frozen=True)
class Sparsity:
    """What to make sparse; every field is a keyword of `sparsify`.

    Attributes:
        sparsity: share of all numbers that goes.
        scope: `layer` takes the same share of each, `erk` less of narrow layers, `global` lets all
            compete: by score, or on calibration data by a measured table. `auto` is `global` on
            calibration data, else scores in shares of their layer compete.
        layer_sparsity: regular expression for the names of nodes and weights → share that goes.
        threshold: numbers smaller than this go, in place of a share.
        pattern: `2:4` and its like, or blocks such as `4x1`.
        criterion: how numbers are ranked, see `CRITERIA`.
        ops: types of the operators whose weights are taken; all if empty.
        include: regular expressions for nodes and weights, of which alone are taken.
        misfit: `skip` leaves layers whole that a pattern does not fit, `error` refuses.
        storage: `dense`, or `sparse` to store what is smaller so as a sparse initializer.
    """

    sparsity: float | None = None
    scope: str = "auto"
    layer_sparsity: Mapping[str, float] | None = None
    threshold: float | None = None
    pattern: str | None = None
    criterion: str = "auto"
    ops: Sequence[str] = ()
    include: Sequence[str] = ()
    misfit: str = "skip"
    storage: str = "dense"

    @property
    def form(self) -> Pattern | None:
        """The pattern, None where single numbers go."""
        return None if self.pattern is None else parse_pattern(self.pattern)


FIELDS = tuple(f.name for f in fields(Sparsity))


def checked(what: Sparsity, calibrated: bool) -> Sparsity:
    """The same options, with `criterion` settled.

    Raises:
        InputError: a value that cannot be, or values that contradict each other.
    """
    check_kinds(what)
    _one_of("scope", what.scope, SCOPES)
    _one_of("criterion", what.criterion, CRITERIA)
    _one_of("misfit", what.misfit, ("skip", "error"))
    _one_of("storage", what.storage, ("dense", "sparse"))
    for name in ("ops", "include"):
        if isinstance(getattr(what, name), str):
            raise InputError(f"{name} {getattr(what, name)!r}: give a list")
    _amounts(what)
    if what.criterion in ("wanda", "obs") and not calibrated:
        raise InputError(f"criterion {what.criterion} looks at activations: give --calib")
    return what


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"unknown {name} '{value}'. There are: {', '.join(known)}")


def _amounts(what: Sparsity) -> None:
    """How much is asked for, in one way only."""
    form = what.form
    shares = dict(what.layer_sparsity or {})
    if what.sparsity is not None:
        shares["sparsity"] = what.sparsity
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise InputError(f"sparsity {share} of '{name}': the share that goes lies in [0, 1)")
    if what.threshold is not None and not (what.threshold >= 0 and math.isfinite(what.threshold)):
        raise InputError(f"threshold {what.threshold}: give a number of at least 0")
    if what.threshold is not None and (shares or form is not None):
        raise InputError("a threshold says what goes: give no sparsity and no pattern beside it")
    if isinstance(form, NofM) and shares:
        raise InputError(f"pattern {form} makes {form.sparsity:g} sparse: give no sparsity with it")
    if isinstance(form, Blocks) and not shares:
        raise InputError(f"pattern {form}: say how much of it goes, such as --sparsity 0.5")
    if what.threshold is None and form is None and not shares:
        raise InputError("nothing to do: give a sparsity such as 0.5, a threshold, or a pattern")
