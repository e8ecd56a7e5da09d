"""Export a module as PyTorch does by default, where the user gives no file."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from onnxprune.errors import InputError
from onnxprune.ir import graph
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import load
from onnxprune.surgery.plan_file import PlanFile
from onnxprune.torch.example_run import Example, evaluating

__all__ = ["fitting"]


def fitting(module: nn.Module, saved: PlanFile, example: Example) -> ModelProto:
    """The export of a module that a plan was made for.

    Raises:
        InputError: the plan names tensors that have names of the exporter's own, which say nothing
            without the file, or none of the exporters gives a model that it fits.
    """
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    strange = sorted({axis.tensor for axis in saved.plan.keep} - own.keys())
    if strange:
        raise InputError(
            f"the plan cuts '{strange[0]}', a name of the exporter's: give the exported file "
            "(model=) so that it can be found by its values"
        )
    for write in (_by_tracing, _by_script):
        with contextlib.suppress(Exception):  # what one exporter cannot do, the other may
            model = write(module, example)
            if _fits(saved, {n: tuple(t.dims) for n, t in graph.constants(model).items()}):
                return model
    raise InputError(
        "no export of this module has the tensors that the plan cuts: give the exported file "
        "(model=)"
    )


def _fits(saved: PlanFile, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(
        axis.axis < len(shapes.get(axis.tensor, ())) and shapes[axis.tensor][axis.axis] == size
        for axis, size in saved.plan.size.items()
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _by_tracing(module: nn.Module, example: Example) -> ModelProto:
    with evaluating(module), _quiet():
        program = torch.onnx.export(
            module, example[0], kwargs=dict(example[1]), dynamo=True, external_data=False
        )
    model: ModelProto = program.model_proto
    return model


def _by_script(module: nn.Module, example: Example) -> ModelProto:
    with evaluating(module), _quiet(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        given = (*example[0], dict(example[1])) if example[1] else example[0]
        torch.onnx.export(module, given, str(file), dynamo=False)
        return load(str(file))
