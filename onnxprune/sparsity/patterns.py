"""Which numbers of a weight may go together: single ones, N of every M, or blocks.

A weight is looked at as (rows, taps, channels): what makes one result, and what it is multiplied
with. N:M lies along the channels of one tap, where TensorRT and cuSPARSELt read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from onnxprune.errors import InputError

__all__ = ["Blocks", "NofM", "Pattern", "parse_pattern"]


@dataclass(frozen=True)
class NofM:
    """Of every `of` neighbouring channels `kept` stay: 2:4 keeps two of four."""

    kept: int
    of: int

    @property
    def sparsity(self) -> float:
        """The share that goes."""
        return 1 - self.kept / self.of

    def misfit(self, shape: tuple[int, int, int]) -> str:
        """Why a weight of (rows, taps, channels) cannot have it; empty if it can."""
        if shape[2] == 1:
            return "every result reads one channel only"
        if shape[2] % self.of:
            return f"{shape[2]} input channels are no multiple of {self.of}"
        return ""

    def __str__(self) -> str:
        return f"{self.kept}:{self.of}"


@dataclass(frozen=True)
class Blocks:
    """Blocks of `rows` results by `columns` channels stay or go as a whole."""

    rows: int
    columns: int

    def misfit(self, shape: tuple[int, int, int]) -> str:
        """Why a weight of (rows, taps, channels) cannot have it; empty if it can."""
        if shape[0] % self.rows:
            return f"{shape[0]} results are no multiple of {self.rows}"
        if shape[2] % self.columns:
            return f"{shape[2]} input channels are no multiple of {self.columns}"
        return ""

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


Pattern = NofM | Blocks


def parse_pattern(text: str) -> Pattern:
    """`2:4` (two of four stay) or `4x1` (blocks of four results by one channel).

    Raises:
        InputError: it is neither.
    """
    found = re.fullmatch(r"(\d{1,4})(:|x)(\d{1,4})", text.strip())
    if found is None:
        raise InputError(f"pattern {text!r}: give N:M such as 2:4, or blocks such as 4x1")
    a, b = int(found[1]), int(found[3])
    if found[2] == "x":
        if a < 1 or b < 1:
            raise InputError(f"pattern {text!r}: give at least one row and one column")
        return Blocks(a, b)
    if not 0 < a < b:
        raise InputError(f"pattern {text!r}: N of M stay: give an N between 1 and M - 1")
    return NofM(a, b)
