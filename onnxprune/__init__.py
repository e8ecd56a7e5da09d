"""Structured pruning of exported ONNX models, on the graph itself, proved with onnxruntime."""

from __future__ import annotations

from onnxprune.errors import GateError, InputError, OnnxpruneError, ProofError, TargetError
from onnxprune.importance import CRITERIA, criterion
from onnxprune.ops import couples, kernel, macs, shrinks
from onnxprune.pipeline import Result, apply, prune
from onnxprune.runtime import Device
from onnxprune.settings import Settings
from onnxprune.version import __version__

__all__ = [
    "CRITERIA",
    "Device",
    "GateError",
    "InputError",
    "OnnxpruneError",
    "ProofError",
    "Result",
    "Settings",
    "TargetError",
    "__version__",
    "apply",
    "couples",
    "criterion",
    "kernel",
    "macs",
    "prune",
    "shrinks",
]
