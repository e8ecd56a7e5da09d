"""Structured pruning of exported ONNX models, on the graph itself, proved with onnxruntime."""

from __future__ import annotations

from onnxprune.checking import check
from onnxprune.cooking import Cooked, run
from onnxprune.errors import (
    GateError,
    InputError,
    OnnxpruneError,
    OperatorError,
    ProofError,
    TargetError,
)
from onnxprune.importance import CRITERIA, criterion
from onnxprune.latency.benching import Benchmark, bench
from onnxprune.ops import couples, kernel, macs, shrinks
from onnxprune.ops.registry import same, same_but
from onnxprune.outcome import Result
from onnxprune.pipeline import apply, prune
from onnxprune.recipes import Recipe
from onnxprune.recipes import parsed as recipe
from onnxprune.runtime import Device, custom_ops
from onnxprune.settings import Settings
from onnxprune.sparse.sparsify import Sparsified, sparsify
from onnxprune.sparse.sparsity import Sparsity
from onnxprune.tables import SensitivityTable, sensitivity_table
from onnxprune.types import Choice, Coupling, Edit, Free, Frozen, Kernel, Node, Option, Tensor, Work
from onnxprune.version import __version__

__all__ = [
    "CRITERIA",
    "Benchmark",
    "Choice",
    "Cooked",
    "Coupling",
    "Device",
    "Edit",
    "Free",
    "Frozen",
    "GateError",
    "InputError",
    "Kernel",
    "Node",
    "OnnxpruneError",
    "OperatorError",
    "Option",
    "ProofError",
    "Recipe",
    "Result",
    "SensitivityTable",
    "Settings",
    "Sparsified",
    "Sparsity",
    "TargetError",
    "Tensor",
    "Work",
    "__version__",
    "apply",
    "bench",
    "check",
    "couples",
    "criterion",
    "custom_ops",
    "kernel",
    "macs",
    "prune",
    "recipe",
    "run",
    "same",
    "same_but",
    "sensitivity_table",
    "shrinks",
    "sparsify",
]
