"""How far a pruned model agrees with the original, in what its outputs mean to a user.

Each measure takes the outputs of both on all samples, and gives a number with its unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "boxes", "characters", "classes", "decisions", "embeddings", "masks", "mean_scores",
    "notes_found", "pitches", "texts",
]  # fmt: skip

Array = NDArray[Any]
Outputs = dict[str, Array]
#: Boxes are the same from this share of their union that both cover on.
SAME = 0.5


def _first(outputs: Sequence[Outputs]) -> list[Array]:
    return [np.asarray(next(iter(found.values()))) for found in outputs]


def classes(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
    """Share of samples with the same largest score."""
    same = [
        (x.argmax(-1) == y.argmax(-1)).mean() for x, y in zip(_first(a), _first(b), strict=True)
    ]
    return f"top-1 agreement {np.mean(same):.1%}"


def characters(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
    """Share of positions with the same largest score, over all outputs of scores."""
    same = [
        (x[name].argmax(-1) == y[name].argmax(-1)).mean()
        for x, y in zip(a, b, strict=True)
        for name in x
        if x[name].ndim == 3
    ]
    return f"same character {np.mean(same):.1%}"


def texts(blank: int, axis: int) -> Any:
    """Equality of texts that scores of characters spell, (…, characters); repeats and blanks go.

    `axis` is that of the places in a text.
    """

    def spelt(scores: Array) -> list[int]:
        best = scores.argmax(-1) if scores.ndim == 3 else scores
        row = np.moveaxis(best, axis, 0).ravel().tolist()
        return [c for c, last in zip(row, [None, *row], strict=False) if c not in (last, blank)]

    def measure(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
        pairs = [(spelt(x), spelt(y)) for x, y in zip(_first(a), _first(b), strict=True)]
        equal = np.mean([x == y for x, y in pairs])
        wrong = sum(_distance(x, y) for x, y in pairs) / max(sum(len(x) for x, _ in pairs), 1)
        return f"same text {equal:.1%}, characters {1 - wrong:.1%}"

    return measure


def _distance(a: Sequence[int], b: Sequence[int]) -> int:
    """Characters to change, insert or leave out."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def embeddings(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
    """Mean cosine of the vectors of the first token."""
    found = []
    for x, y in zip(_first(a), _first(b), strict=True):
        u, v = x[0, 0].astype(np.float64), y[0, 0].astype(np.float64)
        found.append(u @ v / np.sqrt((u @ u) * (v @ v)))
    return f"cosine {np.mean(found):.3f}"


def masks(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
    """Positions above one half in both, in shares of those in either."""
    pairs = [(x > 0.5, y > 0.5) for x, y in zip(_first(a), _first(b), strict=True)]
    both, either = (
        sum(int(f(x, y).sum()) for x, y in pairs) for f in (np.logical_and, np.logical_or)
    )
    return f"IoU of text {both / max(either, 1):.3f}"


def notes_found(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
    """F1 of active notes (frames, 88), the second output."""
    both = only = 0
    for x, y in zip(a, b, strict=True):
        p, q = (np.asarray(list(found.values())[1]) > 0.3 for found in (x, y))
        both, only = both + int((p & q).sum()), only + int((p ^ q).sum())
    return f"F1 of notes {2 * both / max(2 * both + only, 1):.3f}"


def decisions(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
    """Mean difference of the probability of speech, and the share of equal decisions."""
    x, y = (np.array([float(np.ravel(v)[0]) for v in _first(found)]) for found in (a, b))
    return f"same decision {((x > 0.5) == (y > 0.5)).mean():.1%}, off by {abs(x - y).mean():.3f}"


def mean_scores(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
    """Mean difference of scores."""
    gaps = [np.abs(x - y).mean() for x, y in zip(_first(a), _first(b), strict=True)]
    return f"score off by {np.mean(gaps):.3f}"


def pitches(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
    """Median difference in cents where the original is confident, and how often both are."""
    cents, sure, total = list[float](), 0, 0
    for x, y in zip(a, b, strict=True):
        confident = x["confidence"] > 0.9
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.abs(1200 * np.log2(y["pitch"] / x["pitch"]))
        cents += gap[confident & np.isfinite(gap)].tolist()
        sure += int((confident == (y["confidence"] > 0.9)).sum())
        total += confident.size
    off = f"{np.median(cents):.0f} cents" if cents else "no confident frame"
    return f"pitch off by {off}, same confidence {sure / total:.1%}"


def boxes(threshold: float) -> Any:
    """F1 of boxes above `threshold` of YOLO outputs (1, 4 + classes, boxes), of equal class."""

    def measure(a: Sequence[Outputs], b: Sequence[Outputs]) -> str:
        hits = found = 0
        for x, y in zip(_first(a), _first(b), strict=True):
            p, q = _kept(x[0].T, threshold), _kept(y[0].T, threshold)
            hits += _matched(p, q)
            found += len(p) + len(q)
        return f"F1 of boxes {2 * hits / max(found, 1):.3f} ({found // 2} boxes)"

    return measure


def _kept(rows: Array, threshold: float) -> list[tuple[Array, int]]:
    """Corners and class of rows (center, size, scores) after non-maximum suppression."""
    score, kind = rows[:, 4:].max(1), rows[:, 4:].argmax(1)
    half = rows[:, 2:4] / 2
    corners = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], 1)
    taken: list[tuple[Array, int]] = []
    for k in np.argsort(-score):
        if score[k] < threshold:
            break
        if all(c != kind[k] or _overlap(box, corners[k]) < SAME for box, c in taken):
            taken.append((corners[k], int(kind[k])))
    return taken


def _matched(a: Sequence[tuple[Array, int]], b: Sequence[tuple[Array, int]]) -> int:
    left, hits = list(b), 0
    for box, kind in a:
        good = [k for k, (o, c) in enumerate(left) if c == kind and _overlap(box, o) >= SAME]
        if good:
            left.pop(good[0])
            hits += 1
    return hits


def _overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes by their corners."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    areas = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()
    return float(inner / max(areas - inner, 1e-9))
