"""Structured pruning of exported ONNX models, on the graph itself, proved with onnxruntime."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from onnxprune.pipeline.diff import diff
    from onnxprune.pipeline.finetune import Finetuned, finetune
    from onnxprune.pipeline.prune import prune
    from onnxprune.pipeline.recipe import Recipe
    from onnxprune.pipeline.recipe import parsed as recipe
    from onnxprune.pipeline.recipe_result import RecipeResult
    from onnxprune.pipeline.result import Result
    from onnxprune.pipeline.run_recipe import run
    from onnxprune.pipeline.sensitivity_table import SensitivityTable, sensitivity_table
    from onnxprune.pipeline.sparsify import Sparsified, sparsify
    from onnxprune.pipeline.sweep import sweep
    from onnxprune.report.difference import Difference
    from onnxprune.report.sweep import Sweep
    from onnxprune.settings import Settings
    from onnxprune.sparsity.options import Sparsity
    from onnxprune.types import (
        Choice,
        Coupling,
        Edit,
        Free,
        Frozen,
        Kernel,
        Node,
        Option,
        Tensor,
        Work,
    )
    from onnxprune.version import __version__

__all__ = [
    "CRITERIA",
    "Benchmark",
    "Choice",
    "Coupling",
    "Device",
    "Difference",
    "Edit",
    "Finetuned",
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
    "Sweep",
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
    "diff",
    "finetune",
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
    "sweep",
]

#: The public names that each module defines; those with another name there as `here=there`. They
#: are imported when they are first asked for: onnx and onnxruntime alone take longer than printing
#: what a command does.
_DEFINED = {
    "errors": "GateError InputError OnnxpruneError OperatorError ProofError TargetError",
    "importance.criteria": "CRITERIA criterion",
    "ir.runtime": "Device custom_ops",
    "ops": "couples kernel macs shrinks",
    "ops.registry": "same same_but",
    "pipeline.apply": "apply",
    "pipeline.bench": "Benchmark bench",
    "pipeline.check": "check",
    "pipeline.diff": "diff",
    "pipeline.finetune": "Finetuned finetune",
    "pipeline.prune": "prune",
    "pipeline.recipe": "Recipe recipe=parsed",
    "pipeline.recipe_result": "RecipeResult",
    "pipeline.result": "Result",
    "pipeline.run_recipe": "run",
    "pipeline.sensitivity_table": "SensitivityTable sensitivity_table",
    "pipeline.sparsify": "Sparsified sparsify",
    "pipeline.sweep": "sweep",
    "report.sweep": "Sweep",
    "report.difference": "Difference",
    "settings": "Settings",
    "sparsity.options": "Sparsity",
    "types": "Choice Coupling Edit Free Frozen Kernel Node Option Tensor Work",
    "version": "__version__",
}
_HOMES = {
    name.partition("=")[0]: (module, name.partition("=")[2] or name)
    for module, names in _DEFINED.items()
    for name in names.split()
}
#: Old public names that can be used in this version, and what they are called now.
_RENAMED = {"Cooked": "RecipeResult"}


def __getattr__(name: str) -> Any:
    """Import a public name; give what a renamed one stands for, with a warning."""
    if name in _HOMES:
        module, own = _HOMES[name]
        found = getattr(import_module(f"onnxprune.{module}"), own)
        globals()[name] = found
        return found
    if name not in _RENAMED:
        raise AttributeError(f"module 'onnxprune' has no attribute '{name}'")
    new = _RENAMED[name]
    text = f"onnxprune.{name} is called onnxprune.{new}; the old name goes in version 0.2"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return __getattr__(new)


def __dir__() -> list[str]:
    """List the public names, those not imported yet among them."""
    return sorted({*globals(), *__all__})
