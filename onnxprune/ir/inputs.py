"""Inputs for a model: seeded ones, and the user's data with or without labels."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError, one_line
from onnxprune.ir import graph
from onnxprune.ir.graph import ModelProto

__all__ = [
    "UNREADABLE",
    "Data",
    "Feeds",
    "batched",
    "batches",
    "check",
    "fixed_sizes",
    "load_data",
    "seeded",
]

Feeds: TypeAlias = dict[str, NDArray[Any]]
#: Samples run at once where the model takes any batch.
BATCH = 100
#: What numpy raises on files that hold no arrays, or promise more than they hold.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Data:
    """Samples by input name, rows are samples; `labels` (n,) are class numbers."""

    inputs: Feeds
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def seeded(
    model: ModelProto,
    bounds: Callable[[str], int],
    shapes: Mapping[str, Sequence[int]],
    seed: int,
) -> Feeds:
    """Draw reproducible inputs: normal floats, coin flips, integers.

    Args:
        model: whose inputs are drawn.
        bounds: gives one more than the largest integer that an input may hold, by its name.
        shapes: of the inputs by name.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in graph.graph_inputs(model):
        shape, kind = tuple(shapes[value.name]), graph.input_dtype(value)
        if kind == np.bool_:
            feeds[value.name] = np.asarray(rng.random(shape) < 0.5)
        elif np.issubdtype(kind, np.integer):
            integers = rng.integers(0, bounds(value.name), shape)
            feeds[value.name] = np.asarray(integers, kind)
        else:
            feeds[value.name] = np.asarray(rng.standard_normal(shape), kind)
    return feeds


def batched(model: ModelProto, inputs: Feeds, batch: int) -> Feeds:
    """Inputs with `batch` samples, where the first axis may vary."""
    feeds = {}
    for value in graph.graph_inputs(model):
        dims, array = value.type.tensor_type.shape.dim, inputs[value.name]
        varies = len(dims) > 0 and not dims[0].dim_value
        feeds[value.name] = np.resize(array, (batch, *array.shape[1:])) if varies else array
    return feeds


def load_data(source: str | Path | Mapping[str, NDArray[Any]], model: ModelProto) -> Data:
    """Samples from an .npz keyed by input name (and `labels`), or from a mapping of arrays.

    Raises:
        InputError: no such file, an input missing or unknown, a wrong shape or type.
    """
    arrays = dict(source) if isinstance(source, Mapping) else _read(Path(source))
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    labels = arrays.pop("labels", None)
    if labels is not None and (labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer)):
        raise InputError(
            f"data 'labels' is {labels.dtype} of shape {list(labels.shape)}; give class numbers as "
            "integers, one per sample"
        )
    check(arrays, model)
    if single := sorted(name for name, array in arrays.items() if array.ndim == 0):
        raise InputError(
            f"data '{single[0]}' is a single number, as the model takes it, and cannot hold one "
            "for each sample. Leave out the data, or export the model without this input."
        )
    counts = {name: len(array) for name, array in arrays.items()}
    if labels is not None:
        counts["labels"] = len(labels)
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise InputError(
            f"data arrays differ in length, or are empty: {counts}. Give the same samples of each."
        )
    return Data(arrays, None if labels is None else np.asarray(labels, np.int64))


def _read(path: Path) -> Feeds:
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InputError(f"{path}: is a single array. Give an .npz keyed by input name.")
        with file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. Give an .npz keyed by input name.") from error
    except UNREADABLE as error:
        raise InputError(
            f"{path}: not a readable .npz file ({one_line(error)}). Write it again."
        ) from error


def check(
    arrays: Mapping[str, Any], model: ModelProto, where: str = "data", samples: bool = True
) -> None:
    """Refuse arrays (all that has a dtype and a shape) whose names, types or shapes do not fit.

    With `samples` the first axis counts samples, whatever number of them the model takes at once.
    """
    inputs = {value.name: value for value in graph.graph_inputs(model)}
    if len(inputs) == len(arrays) == 1 and not inputs.keys() & arrays.keys():
        raise InputError(
            f"{where} holds '{next(iter(arrays))}', but the model's input is "
            f"'{next(iter(inputs))}'. Name the arrays after the inputs."
        )
    if missing := inputs.keys() - arrays.keys():
        raise InputError(f"{where} lacks input '{min(missing)}'. It holds: {', '.join(arrays)}")
    if unknown := arrays.keys() - inputs.keys():
        raise InputError(
            f"{where} holds '{min(unknown)}', which is no input of the model. Inputs: "
            f"{', '.join(inputs)} (and labels)"
        )
    for name, value in inputs.items():
        _fits(f"{where} '{name}'", arrays[name], value, samples)


def _fits(what: str, array: Any, value: Any, samples: bool) -> None:
    kind = graph.input_dtype(value)
    if array.dtype != kind:
        raise InputError(f"{what} is {array.dtype}, but the model takes {kind}: convert it")
    dims = value.type.tensor_type.shape.dim
    fixed = fixed_sizes(value)
    first = 1 if samples else 0
    wrong = len(array.shape) != len(fixed) or any(
        want not in (None, got)
        for want, got in zip(fixed[first:], array.shape[first:], strict=True)
    )
    if wrong:
        shown = [d.dim_param or d.dim_value or "?" for d in dims]
        rule = ": the first axis counts samples, all others must match" if samples else ""
        raise InputError(f"{what} has shape {list(array.shape)}, but the model takes {shown}{rule}")


def fixed_sizes(value: Any) -> tuple[int | None, ...]:
    """Declared sizes of an input, None where one may vary."""
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)


def batches(data: Data, model: ModelProto) -> Iterator[tuple[Feeds, NDArray[np.int64] | None]]:
    """The data in pieces that the model takes, with their labels.

    Where the batch is fixed, a rest that is too small for one is left out.
    """
    first = graph.graph_inputs(model)[0].type.tensor_type.shape.dim[0]
    fixed = first.dim_value if first.HasField("dim_value") else 0
    step = fixed or BATCH
    if len(data) < step and fixed:
        raise InputError(f"the model takes {fixed} samples at once, but the data holds {len(data)}")
    for start in range(0, len(data) - (step - 1 if fixed else 0), step):
        piece = slice(start, start + step)
        labels = None if data.labels is None else data.labels[piece]
        yield {name: array[piece] for name, array in data.inputs.items()}, labels
