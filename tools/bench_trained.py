"""Trained models and their data for benchmarks, and what those share.

Models and data lie beside the repository, in ../shared; calibration samples come from training
splits and nothing is chosen on test data.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import onnxruntime as ort
from numpy.typing import NDArray

__all__ = ["batches", "first", "load_cases", "missing", "percent", "session_of", "write_section"]

CASES = Path(__file__).resolve().parents[2] / "shared/cases.py"
#: Samples of one calibration batch of a peer.
BATCH = 64
Feeds = dict[str, NDArray[Any]]


def missing() -> str:
    """Why there is nothing to measure; empty if there is."""
    if not CASES.exists():
        return f"{CASES.parent} is not there: it holds the trained models and their data"
    if importlib.util.find_spec("PIL") is None:
        return "Pillow is not installed: pip install -e '.[bench]'"
    return ""


def load_cases() -> ModuleType:
    """The trained models and their data."""
    spec = importlib.util.spec_from_file_location("cases", CASES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cases"] = module
    spec.loader.exec_module(module)
    return module


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    """The model on the processor."""
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def batches(case: Any) -> list[Feeds]:
    """Calibration samples as peers take them."""
    count = len(next(iter(case.calib.values())))
    return [
        {name: rows[k : k + BATCH] for name, rows in case.calib.items()}
        for k in range(0, count, BATCH)
    ]


def first(case: Any) -> Feeds:
    """One calibration sample."""
    return {name: rows[:1] for name, rows in case.calib.items()}


def percent(share: float) -> str:
    """A share as a number of percent."""
    return f"{100 * share:.2f}"


def write_section(path: Path, text: str, heading: str) -> None:
    """Put `text` under `heading` in a Markdown file, in place of what is there."""
    old = path.read_text() if path.exists() else ""
    before, found, rest = old.partition(f"{heading}\n")
    after = ""
    if found:
        following = re.search(r"^## ", rest, re.MULTILINE)
        after = rest[following.start() :] if following else ""
    gap = "" if not before or before.endswith("\n\n") else "\n"
    path.write_text(f"{before}{gap}{heading}\n\n{text.strip()}\n" + (f"\n{after}" if after else ""))
