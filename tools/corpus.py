"""The corpus behind tools/coverage.py: what a model is, how it is exported and where it is kept.

A model is an `Entry`: a torch module with example inputs, or a function that makes the graph,
possibly from another model of the corpus. Weights are random from a seed. Parameters that a fresh
module leaves at one value (normalisation statistics, biases, layer scales) are drawn at random
too, for a wrong slice of equal numbers would not show. Start reading at `Entry`; the modules
corpus_*.py add the models.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

__all__ = ["ENTRIES", "Entry", "Net", "derived", "graph", "load_entries", "model_file", "network"]

SEED = 7
MODULES = ("vision", "timm", "transformers", "detection", "dense", "sequence", "graphs", "derived")
#: Operators that torchvision's Python code annotates; their kernels do not load without CUDA.
TORCHVISION_OPERATORS = (
    "nms qnms roi_align _roi_align_backward roi_pool _roi_pool_backward ps_roi_align "
    "_ps_roi_align_backward ps_roi_pool _ps_roi_pool_backward deform_conv2d "
    "_deform_conv2d_backward"
)


@dataclass(frozen=True)
class Net:
    """A torch module in evaluation mode, and one example of its inputs."""

    module: Any
    inputs: tuple[Any, ...]


@dataclass(frozen=True)
class Entry:
    """One model of the corpus; `make` builds the torch module, or `graph` the ONNX model.

    `options` are those of `export`. `graph` is given a function that returns the file of another
    model by its name.
    """

    name: str
    family: str
    origin: str
    make: Callable[[], Net] | None = None
    graph: Callable[[Callable[[str], Path]], onnx.ModelProto] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


ENTRIES: dict[str, Entry] = {}


def _add(entry: Entry) -> None:
    if entry.name in ENTRIES:
        raise ValueError(f"two models are called {entry.name}")
    ENTRIES[entry.name] = entry


def network(name: str, family: str, origin: str, make: Callable[[], Net], **options: Any) -> None:
    """Add a torch module; see `export` for the options."""
    exporter = "torch.export" if options.get("dynamo", True) else "TorchScript"
    _add(Entry(name, family, f"{origin}, {exporter}", make, None, options))


def graph(name: str, family: str, origin: str, build: Callable[[], onnx.ModelProto]) -> None:
    """Add a graph made by hand."""
    _add(Entry(name, family, origin, None, lambda _file_of: build()))


def derived(
    name: str,
    family: str,
    origin: str,
    build: Callable[[Callable[[str], Path]], onnx.ModelProto],
) -> None:
    """Add a model made from another one."""
    _add(Entry(name, family, origin, None, build))


def load_entries() -> dict[str, Entry]:
    """All models by name; cheap, for nothing is built and torch is not imported."""
    if not ENTRIES:
        for name in MODULES:
            importlib.import_module(f"corpus_{name}")
    return ENTRIES


def model_file(name: str, cache: Path, rebuild: bool = False) -> Path:
    """The file of a model, built if the cache lacks it."""
    path = cache / f"{name}.onnx"
    if path.exists() and not rebuild:
        return path
    entry = load_entries()[name]
    if entry.make is not None:
        model = export(seeded(entry), **entry.options)
    else:
        assert entry.graph is not None
        model = entry.graph(lambda base: model_file(base, cache))
    cache.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=cache, suffix=".part")
    os.close(handle)
    onnx.save(model, partial)
    Path(partial).replace(path)
    return path


def seeded(entry: Entry) -> Net:
    """The entry's module with the same weights every time, in evaluation mode."""
    import torch

    declare_torchvision()
    torch.manual_seed(SEED)
    assert entry.make is not None
    net = entry.make()
    net.module.eval()
    with torch.no_grad():
        _randomise(net.module)
    return net


def declare_torchvision() -> None:
    """Let torchvision be imported where its compiled operators are missing."""
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for name in TORCHVISION_OPERATORS.split():
            library.define(f"{name}(Tensor x) -> Tensor")
        declare_torchvision.library = library  # type: ignore[attr-defined]


def _randomise(module: Any) -> None:
    """Draw what a fresh module leaves constant: biases, scales, statistics."""
    import torch

    for name, values in (*module.named_parameters(), *module.named_buffers()):
        if not values.is_floating_point() or values.numel() < 2:
            continue
        if bool((values == values.flatten()[0]).all()):
            level = float(values.flatten()[0])
            noise = torch.rand_like(values.float()).to(values.dtype)
            if name.endswith("running_var") or level == 1:
                values.copy_(0.75 + 0.5 * noise)
            elif abs(level) < 0.01:  # a bias, or a layer scale that a fresh module shuts
                values.copy_(0.2 * (noise - 0.5) + level)


def export(
    net: Net,
    dynamo: bool = True,
    opset: int | None = None,
    dynamic: Sequence[Mapping[int, str] | None] | None = None,
    keep_inputs: bool = False,
) -> onnx.ModelProto:
    """Export a module; `dynamic` names the axes that vary, input by input."""
    import torch

    torch.backends.mha.set_fastpath_enabled(False)  # one operator that no exporter knows
    names = [f"input{i}" for i in range(len(net.inputs))]
    options: dict[str, Any] = {"dynamo": dynamo, "opset_version": opset, "input_names": names}
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if dynamo:
            shapes, inputs = None, net.inputs
            if dynamic is not None:  # a size of one would be taken for a constant
                inputs = tuple(x.repeat(2, *[1] * (x.ndim - 1)) for x in inputs)
                shapes = tuple(
                    {axis: torch.export.Dim(symbol) for axis, symbol in (axes or {}).items()}
                    for axes in dynamic
                )
            program = torch.onnx.export(
                net.module, inputs, dynamic_shapes=shapes, external_data=False, **options
            )
            assert program is not None
            return program.model_proto
        if dynamic is not None:
            options["dynamic_axes"] = {
                name: dict(axes) for name, axes in zip(names, dynamic, strict=True) if axes
            }
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            options["keep_initializers_as_inputs"] = keep_inputs
            torch.onnx.export(net.module, net.inputs, str(file), **options)
            return onnx.load(file)
