"""Measure how far the outputs of a pruned model drift from the original."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from onnxprune.report.values import Fidelity
from onnxprune.surgery.proof import Outputs

__all__ = ["fidelity"]


def fidelity(
    pairs: Iterable[tuple[Outputs, Outputs, NDArray[np.int64] | None]], data: str
) -> Fidelity:
    """Drift over batches of (original's outputs, pruned model's outputs, labels)."""
    dot = norm_a = norm_b = noise = 0.0
    same = right_a = right_b = samples = judged = labelled = 0
    for a, b, labels in pairs:
        samples += max((len(v) for v in a.values() if np.ndim(v)), default=0)
        for name, value in a.items():
            if not np.issubdtype(value.dtype, np.floating):
                continue
            x, y = value.astype(np.float64), b[name].astype(np.float64)
            dot, noise = dot + float((x * y).sum()), noise + float(((x - y) ** 2).sum())
            norm_a, norm_b = norm_a + float((x * x).sum()), norm_b + float((y * y).sum())
        logits = next((n for n, v in a.items() if v.ndim == 2 and v.shape[1] > 1), None)
        if logits is not None:
            top_a, top_b = a[logits].argmax(1), b[logits].argmax(1)
            same, judged = same + int((top_a == top_b).sum()), judged + len(top_a)
            if labels is not None:
                right_a += int((top_a == labels).sum())
                right_b += int((top_b == labels).sum())
                labelled += len(labels)
    return Fidelity(
        cosine=dot / max((norm_a * norm_b) ** 0.5, 1e-30) if noise else 1.0,
        sqnr_db=float(10 * np.log10(max(norm_a, 1e-30) / max(noise, 1e-30))) if noise else None,
        agreement=same / judged if judged else None,
        samples=samples,
        data=data,
        accuracy=(right_a / labelled, right_b / labelled) if labelled else None,
    )
