"""Cut a module of PyTorch's by a plan that was made for its export. Start reading here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from onnxprune.errors import InputError, one_line
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import read_model
from onnxprune.torch.attributes import Change
from onnxprune.torch.changes import ModuleChanges, module_changes
from onnxprune.torch.example_run import (
    Example,
    arguments,
    difference,
    evaluating,
    model_outputs,
    module_outputs,
)
from onnxprune.torch.export import fitting
from onnxprune.torch.planned import planned, read_plan

__all__ = ["CutModule", "prune_module"]


@dataclass(frozen=True)
class CutModule:
    """What was done to a module.

    Attributes:
        parameters: how many numbers its parameters held before, and hold now.
        error: largest difference of its outputs to the pruned model's on the example, over the
            largest of them.
        zeros: how many channels parameters keep as zeros, by name and axis, since the module has
            one width for what the plan cuts to several.
    """

    parameters: tuple[int, int]
    error: float
    zeros: Mapping[str, int]


def prune_module(
    module: nn.Module,
    plan: object,
    example: object,
    *,
    model: Source | None = None,
    carry_weights: bool | Source = False,
) -> CutModule:
    """Cut a module in place to what a plan leaves of its export.

    Parameters become new ones: make optimizers behind it. If anything fails the module is as it
    was.

    Args:
        module: that was exported, with the weights that it had then.
        plan: the file of `prune --plan`, or what `onnxprune.prune` returned.
        example: what the module was exported with: a tensor, a tuple of arguments, or a mapping
            of them by name.
        model: the exported file; without it the module is exported again, where the plan names
            parameters only.
        carry_weights: the pruned file, whose weights the module takes: they were refitted or
            tuned. True where `plan` is what `onnxprune.prune` returned.

    Raises:
        InputError: the plan does not fit, or leaves what the module cannot be; it names where.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"module of type {type(module).__name__}: give the torch.nn.Module itself")
    saved, given = read_plan(plan), arguments(example)
    source = _pruned_source(plan, carry_weights)
    smaller = None if source is None else read_model(source).whole
    done = planned(fitting(module, saved, given) if model is None else model, saved)
    expected = model_outputs(done.model if smaller is None else smaller, given)
    before, undo = _count(module), list[Change]()
    try:
        found = module_changes(module, done, smaller)
        _apply(found.changes, undo)
        proof = difference(module_outputs(module, given), expected)
        if not proof.passed:
            raise InputError(_refusal(proof.max_relative_error, found))
    except BaseException as error:
        _apply(undo[::-1], [])
        if isinstance(error, InputError):
            _refuse_other_module(module, done.analysis.model, given)
        raise
    return CutModule((before, _count(module)), proof.max_relative_error, found.zeros)


def _pruned_source(plan: object, carry_weights: bool | Source) -> Source | None:
    """Where the weights lie that go along, if any do."""
    if not isinstance(carry_weights, bool):
        return carry_weights
    model: Source | None = getattr(plan, "model", None)
    if carry_weights and model is None:
        raise InputError(
            "carry_weights=True takes the weights of prune's result: give the pruned file in its "
            'place, carry_weights="small.onnx"'
        )
    return model if carry_weights else None


def _refuse_other_module(module: nn.Module, model: ModelProto, given: Example) -> None:
    """Say so where a module that is whole is not the exported one: no plan is to blame then.

    Raises:
        InputError: it does not run on the example, or gives something else than its export.
    """
    try:
        with evaluating(module):
            module(*given[0], **given[1])
    except Exception as error:  # whatever the module's code raises
        raise InputError(
            f"the module does not run on the example: {one_line(error)}. Give what it was "
            "exported with."
        ) from error
    proof = difference(module_outputs(module, given), model_outputs(model, given))
    if not proof.passed:
        raise InputError(
            f"the module and its export differ by {proof.max_relative_error:.2g} on the example "
            "before anything is cut: give the exported file (model=) with the weights that the "
            "module has"
        )


def _apply(changes: Iterable[Change], undo: list[Change]) -> None:
    """Set attributes; `undo` takes what sets them back, the last one first."""
    for module, name, value in changes:
        undo.append((module, name, getattr(module, name, _MISSING)))
        if value is _MISSING:
            delattr(module, name)
        else:
            setattr(module, name, value)


_MISSING = object()


def _count(module: nn.Module) -> int:
    return sum(values.numel() for values in module.parameters())


def _refusal(error: float, found: ModuleChanges) -> str:
    text = f"the cut module and the pruned model differ by {error:.2g} on the example"
    if found.unknown:
        text += f"; '{found.unknown[0]}' of the model is made of no parameter that is known"
    return (
        f"{text}. The module was left as it was: give the exported file (model=) with the weights "
        "that the module has, or exclude what is not a layer of PyTorch's (--exclude)"
    )
