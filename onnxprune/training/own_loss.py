"""Losses of the user's own: functions that write ONNX operators behind a model.

    def focal(op, outputs, labels):
        p = op.Softmax(outputs["logits"], axis=1)
        ...
        return op.mean(loss)

`op` writes an operator by its name in ONNX, with attributes as keywords, and returns the name of
its result; `op.constant(2.0)` stores numbers. `outputs` and `labels` hold names of tensors by the
output that they belong to; labels keep their type. What is returned is the mean loss of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.ir.appended import NewInput, appended, builder_for
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.graph_builder import GraphBuilder
from onnxprune.ops.builder import Builder
from onnxprune.training.samples import Batch, SampleSet
from onnxprune.user_code import function_of

__all__ = ["LABEL", "Operators", "OwnLosses", "with_label_inputs", "with_own_losses"]

#: What the names of inputs that take labels begin with.
LABEL = "onnxprune/label/"


class Operators:
    """Writes operators: `op.Add(a, b)`."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder

    def __getattr__(self, name: str) -> Callable[..., str]:
        """A function that writes an operator of this name and returns what its result is called."""
        if name.startswith("_"):
            raise AttributeError(name)

        def write(*inputs: str, **attributes: Any) -> str:
            if strange := [one for one in inputs if not isinstance(one, str)]:
                raise InputError(
                    f"op.{name} takes names of tensors, not {strange[0]!r}: name stored numbers by "
                    "op.constant, give attributes as keywords"
                )
            return self._builder.emit(name, *inputs, **attributes)

        return write

    def mean(self, x: str) -> str:
        """The mean of all numbers, however many a batch has."""
        return Builder(self._builder).mean_of_all(x)

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Store numbers, of float32 where no type is given."""
        return self._builder.constant(value, dtype)


class OwnLosses(NamedTuple):
    """A model with losses behind it, and the names of the tensors that hold them."""

    model: ModelProto
    names: tuple[str, ...]


def with_own_losses(
    model: ModelProto, functions: Sequence[str], labels: Mapping[str, NDArray[Any]]
) -> OwnLosses:
    """Put losses behind a model, which takes labels as `LABEL` + output from then on.

    Args:
        model: it is not changed.
        functions: `file.py:function` of each.
        labels: of one batch, by output.

    Raises:
        InputError: a function fails, or does not return the name of a tensor.
    """
    inputs = {LABEL + name: NewInput(array.dtype, array.ndim) for name, array in labels.items()}
    given = {value.name: value.name for value in model.graph.output}
    wanted = {name: LABEL + name for name in labels}
    names = list[str]()
    for k, text in enumerate(functions):
        builder = builder_for(model, f"onnxprune/loss/{k}")
        name = function_of(text, "loss")(Operators(builder), given, wanted)
        if not isinstance(name, str) or not any(name in node.output for node in builder.nodes):
            raise InputError(f"loss {text} gave {name!r}: return what an operator of `op` gave")
        model = appended(model, builder, {} if names else inputs, name)
        names.append(name)
    return OwnLosses(model, tuple(names))


def with_label_inputs(samples: SampleSet) -> SampleSet:
    """The same samples with labels among the inputs, as losses of the user's own read them."""
    batches = [
        Batch({**b.feeds, **{LABEL + name: v for name, v in b.labels.items()}}, b.labels, b.size)
        for b in samples.batches
    ]
    return replace(samples, batches=batches)
