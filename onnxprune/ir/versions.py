"""Name the versions of what models are read and run with."""

from __future__ import annotations

import platform

import numpy as np
import onnx

from onnxprune.ir import runtime
from onnxprune.version import __version__

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Versions that results depend on, by name."""
    return {
        "onnxprune": __version__,
        "onnxruntime": runtime.version(),
        "onnx": str(onnx.__version__),
        "numpy": np.__version__,
        "Python": platform.python_version(),
    }
