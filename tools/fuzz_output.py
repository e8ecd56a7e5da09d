"""Whether what a command wrote can be used: onnxruntime runs it, and it is what it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from fuzz_cases import MODEL, OUTPUT

__all__ = ["torn", "unusable"]

#: Onnxruntime's names of types.
_KINDS = {"float": np.float32, "double": np.float64, "float16": np.float16, "int64": np.int64,
          "int32": np.int32, "bool": np.bool_, "uint8": np.uint8, "int8": np.int8}  # fmt: skip


def torn() -> str:
    """What a command that failed wrote all the same."""
    return "written though it failed" if Path(OUTPUT).exists() else ""


def unusable(args: list[str]) -> str:
    """What is wrong with the model that a command wrote; empty where nothing is."""
    if OUTPUT not in args:
        return ""
    if not Path(OUTPUT).exists():
        return "" if "--dry-run" in args else "no output"
    try:
        made = _session(OUTPUT)
    except Exception as error:
        return f"does not load: {_short(error)}"
    for batch, size in ((2, 1), (2, 16), (2, 32), (2, 4), (1, 1), (1, 16)):
        feeds = _feeds(made, batch, size)
        try:
            new = made.run(None, feeds)
        except Exception as error:
            problem = f"does not run: {_short(error)}"
            continue
        if "--lossless" not in args or "--target" in args:
            return ""
        try:
            old = _session(MODEL).run(None, feeds)
        except Exception:  # sparse, external or unsorted: what is made of it may be better
            return ""
        return _differs(old, new)
    try:  # data that make it run may not be random
        _session(MODEL).run(None, feeds)
    except Exception:
        return "" if _proved_on_data(args) else f"neither it nor the original runs: {problem}"
    return problem


def _proved_on_data(args: list[str]) -> bool:
    return "--calib" in args or "--data" in args


def _session(path: str) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _feeds(session: Any, batch: int, size: int) -> dict[str, Any]:
    rng, feeds = np.random.default_rng(0), {}
    for k, value in enumerate(session.get_inputs()):
        kind = _KINDS[value.type.removeprefix("tensor(").removesuffix(")")]
        shape = [
            d if isinstance(d, int) else (batch if a == 0 else size)
            for a, d in enumerate(value.shape)
        ]
        drawn = rng.standard_normal(shape) if np.issubdtype(kind, np.floating) else k % 2
        feeds[value.name] = np.broadcast_to(np.asarray(drawn), shape).astype(kind)
    return feeds


def _differs(old: list[Any], new: list[Any]) -> str:
    for a, b in zip(old, new, strict=True):
        if not isinstance(a, np.ndarray):
            continue
        if a.shape != b.shape:
            return f"lossless, but of shape {list(b.shape)} for {list(a.shape)}"
        if a.dtype.kind == "f":
            finite = np.isfinite(a)
            if not (np.isfinite(b) == finite).all():
                return "lossless, but other outputs are finite"
            scale = max(float(np.abs(a[finite]).max(initial=0)), 1e-30)
            gap = float(np.abs(a[finite] - b[finite]).max(initial=0)) / scale
            if gap > (1e-2 if a.dtype == np.float16 else 1e-4):
                return f"lossless, but off by {gap:.1e}"
    return ""


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[-160:]
