"""Structured pruning of exported ONNX models, on the graph itself, proved with onnxruntime."""

from __future__ import annotations

import warnings
from typing import Any

from onnxprune.errors import (
    GateError,
    InputError,
    OnnxpruneError,
    OperatorError,
    ProofError,
    TargetError,
)
from onnxprune.importance.criteria import CRITERIA, criterion
from onnxprune.ir.runtime import Device, custom_ops
from onnxprune.ops import couples, kernel, macs, shrinks
from onnxprune.ops.registry import same, same_but
from onnxprune.pipeline.apply import apply
from onnxprune.pipeline.bench import Benchmark, bench
from onnxprune.pipeline.check import check
from onnxprune.pipeline.prune import prune
from onnxprune.pipeline.recipe import Recipe
from onnxprune.pipeline.recipe import parsed as recipe
from onnxprune.pipeline.recipe_result import RecipeResult
from onnxprune.pipeline.result import Result
from onnxprune.pipeline.run_recipe import run
from onnxprune.pipeline.sensitivity_table import SensitivityTable, sensitivity_table
from onnxprune.pipeline.sparsify import Sparsified, sparsify
from onnxprune.settings import Settings
from onnxprune.sparsity.options import Sparsity
from onnxprune.types import Choice, Coupling, Edit, Free, Frozen, Kernel, Node, Option, Tensor, Work
from onnxprune.version import __version__

__all__ = [
    "CRITERIA",
    "Benchmark",
    "Choice",
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
    "RecipeResult",
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

#: Old public names that can be used in this version, and what they are called now.
_RENAMED = {"Cooked": RecipeResult}


def __getattr__(name: str) -> Any:
    """Give what a renamed public name stands for, with a warning."""
    if name not in _RENAMED:
        raise AttributeError(f"module 'onnxprune' has no attribute '{name}'")
    new = _RENAMED[name]
    text = f"onnxprune.{name} is called onnxprune.{new.__name__}; the old name goes in version 0.2"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return new
