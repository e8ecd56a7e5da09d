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
    "apart",
    "batched",
    "batches",
    "check",
    "count",
    "load_data",
    "rows",
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
    """Samples by input name, rows are samples; `labels` (n,) are class numbers.

    An input without axes has one number for all samples, or one for each (n,).
    """

    inputs: Feeds
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return count(self.inputs)


def count(feeds: Feeds) -> int:
    """The number of samples: how long arrays with axes are; 1 where there are none."""
    return next((len(array) for array in feeds.values() if array.ndim), 1)


def rows(feeds: Feeds, at: slice | NDArray[np.int64]) -> Feeds:
    """Some samples of a batch; what has no axes belongs to all of them."""
    return {name: array[at] if array.ndim else array for name, array in feeds.items()}


def apart(feeds: Feeds, model: ModelProto) -> Iterator[tuple[NDArray[np.int64], Feeds]]:
    """Divide samples so that each input without axes gets a single number.

    Args:
        feeds: (n, …) by input name; (n,) or () for an input without axes.
        model: whose inputs they are.

    Yields:
        Numbers of rows (k,), and the feeds that belong to them.
    """
    single = [value.name for value in graph.graph_inputs(model) if graph.is_single(value)]
    listed = [name for name in single if feeds[name].ndim]
    together: dict[tuple[Any, ...], list[int]] = {}
    for row in range(count(feeds)):
        together.setdefault(tuple(feeds[name][row].item() for name in listed), []).append(row)
    for members in together.values():
        at = np.array(members, np.int64)
        part = feeds if len(together) == 1 else rows(feeds, at)
        yield at, {**part, **{name: part[name][0, ...] for name in listed}}


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
        sizes, array = graph.declared_sizes(value), inputs[value.name]
        varies = len(sizes) > 0 and sizes[0] is None
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
    counts = {name: len(array) for name, array in arrays.items() if array.ndim}
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
            f"{where} holds '{min(unknown)}', which is no input of the model: drop it. Inputs: "
            f"{', '.join(inputs)} (and labels)"
        )
    for name, value in inputs.items():
        _fits(f"{where} '{name}'", arrays[name], value, samples)


def _fits(what: str, array: Any, value: Any, samples: bool) -> None:
    kind = graph.input_dtype(value)
    if array.dtype != kind:
        raise InputError(f"{what} is {array.dtype}, but the model takes {kind}: convert it")
    fixed = graph.declared_sizes(value)
    first = 1 if samples else 0
    if samples and graph.is_single(value) and len(array.shape) < 2:
        return  # one number for all samples, or one for each
    wrong = len(array.shape) != len(fixed) or any(
        want not in (None, got)
        for want, got in zip(fixed[first:], array.shape[first:], strict=True)
    )
    if wrong:
        shown = graph.shown_sizes(value)
        rule = ": the first axis counts samples, all others must match" if samples else ""
        raise InputError(f"{what} has shape {list(array.shape)}, but the model takes {shown}{rule}")


def batches(data: Data, model: ModelProto) -> Iterator[tuple[Feeds, NDArray[np.int64] | None]]:
    """The data in pieces that the model takes, with their labels.

    Where the batch is fixed, a rest that is too small for one is left out.
    """
    sizes = (graph.declared_sizes(value) for value in graph.graph_inputs(model))
    fixed = next((size[0] for size in sizes if size), None)
    step = fixed or BATCH
    if len(data) < step and fixed:
        raise InputError(f"the model takes {fixed} samples at once, but the data holds {len(data)}")
    for start in range(0, len(data) - (step - 1 if fixed else 0), step):
        piece = slice(start, start + step)
        labels = None if data.labels is None else data.labels[piece]
        for at, feeds in apart(rows(data.inputs, piece), model):
            yield feeds, None if labels is None else labels[at]
