"""Shorten the names of layers and weights for people: what all of them share is left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["short_names", "together"]

#: What separates the parts of a name.
_MARKS = "./_:"


def together(names: Sequence[str]) -> str:
    """Names in one text, with what they begin with written once: `bn.{weight,bias}`."""
    low, high = min(names), max(names)
    same = next((k for k in range(len(low)) if low[k] != high[k : k + 1]), len(low))
    begin = max(low[:same].rfind(mark) for mark in _MARKS) + 1
    if len(names) == 1 or not begin:
        return ", ".join(names)
    return f"{low[:begin]}{{{','.join(name[begin:] for name in names)}}}"


def short_names(names: Sequence[str]) -> list[str]:
    """Shorten names without what all of them begin and end with; names that differ stay different.

    Parts stand between `/` and `.`. Exporters write modules with what they lie in,
    `/layer1/layer1.0/conv1/Conv`: what the next part repeats is left out, `layer1.0.conv1`.
    """
    parts = [_parts(name) for name in names]
    begin = _shared(parts)
    end = _shared([part[begin:][::-1] for part in parts])
    short = [".".join(part[begin : len(part) - end]) for part in parts]
    full: dict[str, set[str]] = {}
    for name, made in zip(names, short, strict=True):
        full.setdefault(made, set()).add(name)
    return [made if len(full[made]) == 1 else name for name, made in zip(names, short, strict=True)]


def _parts(name: str) -> list[str]:
    """The parts of a name, or the name itself where it has none."""
    steps = [step for step in name.split("/") if step]
    kept = [
        step
        for step, then in zip(steps, [*steps[1:], ""], strict=False)
        if not then.startswith(f"{step}.")
    ]
    return [part for step in kept for part in re.split(r"\.", step) if part] or [name]


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """With how many equal parts names begin that differ; each keeps one of its own."""
    if len({tuple(part) for part in parts}) == 1:
        return 0
    count = min(map(len, parts), default=1) - 1
    for k in range(count):
        if Counter(part[k] for part in parts).most_common(1)[0][1] < len(parts):
            return k
    return max(count, 0)
