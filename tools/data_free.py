"""How far models pruned without data agree with the original, on data that nothing was fitted on.

`python tools/data_free.py [REGEX]` prunes every trained model in ../shared whose name matches, and
the one in models/, dropping and folding; calibration samples only measure.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
from bench_trained import load_cases

import onnxprune

ROOT = Path(__file__).resolve().parents[1]
SHARES = (0.8, 0.667, 0.5)
SAMPLES = 768
WAYS: tuple[dict[str, Any], ...] = (
    {"compensate": False},
    {"compensate": False, "importance": "reading"},
    {"importance": "l2"},
    {"importance": "reading"},
    {},
)


def answers(model: Any, feeds: dict[str, np.ndarray], batch: int = 64) -> np.ndarray:
    """(n,) the largest output of every sample."""
    session = ort.InferenceSession(model)
    n = len(next(iter(feeds.values())))
    cuts = [{k: v[i : i + batch] for k, v in feeds.items()} for i in range(0, n, batch)]
    return np.concatenate([session.run(None, feed)[0].argmax(-1) for feed in cuts])


def sources(cases: ModuleType) -> dict[str, tuple[str, dict[str, np.ndarray]]]:
    """Path and samples of every model."""
    found = {}
    for name in cases.CASES:
        case = cases.load(name, n_test=1, n_calib=SAMPLES // 2 if "resnet56" in name else SAMPLES)
        found[name] = str(case.model), case.calib
    data = dict(np.load(ROOT / "models/digits_calib.npz"))
    data.pop("labels", None)
    return {**found, "digits": (str(ROOT / "models/digits.onnx"), data)}


def main(only: str = "") -> None:
    """Print one row of a table for every model and target."""
    for name, (path, feeds) in sources(load_cases()).items():
        if not re.search(only, name):
            continue
        expected = answers(path, feeds)
        for share in SHARES:
            row = []
            for way in WAYS:
                small = onnxprune.prune(path, {"macs": share}, latency=False, **way).model
                same = answers(small.SerializeToString(), feeds) == expected
                row.append(f"{100 * same.mean():.1f}")
            print("|", " | ".join([name, str(share), *row]), "|", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
