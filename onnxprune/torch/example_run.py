"""Run a module and an exported model on the same example, and compare what they return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from onnxprune.errors import InputError, one_line
from onnxprune.ir import graph, runtime
from onnxprune.ir.graph import ModelProto
from onnxprune.surgery.proof import Proof, compare

__all__ = ["Example", "arguments", "difference", "evaluating", "model_outputs", "module_outputs"]

#: What a module is called with: positional arguments, then those by name.
Example = tuple[tuple[Any, ...], Mapping[str, Any]]


def arguments(example: Any) -> Example:
    """What to call a module with: a tensor, a tuple of arguments, or a mapping of them by name."""
    if isinstance(example, Mapping):
        return (), example
    return (tuple(example), {}) if isinstance(example, tuple | list) else ((example,), {})


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Let a module, and all in it, be in evaluation mode for a while, without gradients."""
    training = [(part, part.training) for part in module.modules()]
    module.train(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for part, before in training:
            part.training = before


def module_outputs(module: nn.Module, example: Example) -> list[NDArray[Any]]:
    """The tensors that a module in evaluation mode returns, in order.

    Raises:
        InputError: it cannot be run; the innermost module that was entered is named.
    """
    entered: list[str] = []
    hooks = []

    def leave(*_: Any) -> None:
        entered.pop()

    for name, part in module.named_modules():
        hooks.append(part.register_forward_pre_hook(lambda *_, n=name: entered.append(n)))
        hooks.append(part.register_forward_hook(leave))
    try:
        with evaluating(module):
            result = module(*example[0], **example[1])
    except Exception as error:  # whatever the module's code raises where widths do not fit
        raise _stuck(module, entered, error) from error
    finally:
        for hook in hooks:
            hook.remove()
    return [as_array(tensor) for tensor in tensors_of(result)]


def _stuck(module: nn.Module, entered: Sequence[str], error: Exception) -> InputError:
    """Name the module whose own code does not fit: the innermost that is not PyTorch's."""
    modules = dict(module.named_modules())
    own = [name for name in entered if not type(modules[name]).__module__.startswith("torch.nn")]
    name = (own or ["", *entered])[-1]
    where = f"--exclude '{name}'" if name else "--exclude"
    return InputError(
        f"module '{name}' ({type(modules[name]).__name__}) does not run with what the plan leaves: "
        f"{one_line(error)}. Exclude its layers when pruning ({where})."
    )


def tensors_of(value: Any) -> Iterator[Any]:
    """Every tensor in nested tuples, lists, mappings and results of transformers, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from tensors_of(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from tensors_of(inner)


def as_array(tensor: Any) -> NDArray[Any]:
    """A tensor's numbers; those of types that numpy lacks as single floats."""
    values = tensor.detach().cpu()
    return np.asarray(values.float() if values.dtype == torch.bfloat16 else values)


def model_outputs(model: ModelProto, example: Example) -> list[NDArray[Any]]:
    """What an exported model returns for a module's arguments.

    Raises:
        InputError: it takes other inputs, or cannot be run.
    """
    given = [as_array(tensor) for tensor in tensors_of([*example[0], *example[1].values()])]
    inputs = graph.graph_inputs(model)
    if len(given) != len(inputs):
        raise InputError(
            f"the example holds {len(given)} tensors, the exported model takes {len(inputs)} "
            f"({', '.join(value.name for value in inputs)}): give what the module was exported with"
        )
    by_name = {name: as_array(v) for name, v in example[1].items() if isinstance(v, torch.Tensor)}
    feeds = {
        value.name: by_name.get(value.name, one) for value, one in zip(inputs, given, strict=True)
    }
    session = runtime.open_session(graph.model_bytes(model))
    return list(runtime.run(session, feeds).values())


def difference(ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> Proof:
    """How far a module's outputs are from a model's, as the proof of a cut has it."""
    if len(ours) != len(theirs):
        return Proof(float("inf"), False)
    named = [{str(k): values for k, values in enumerate(some)} for some in (theirs, ours)]
    return compare(named[0], named[1])
