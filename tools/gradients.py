"""Which numbers of models no gradient reaches, and the operators that stop them.

Gradients start at every output of floating point. A number is reached if the whole gradient
arrives at it; what lies before an operator without a rule is left out rather than tuned by a part.

Usage: `python tools/gradients.py FILE.onnx …`, `python tools/gradients.py` for the corpus of
tools/coverage.py, of which the built models are taken. With `--run` gradients are computed, too,
and their product with a random direction is compared with the slope between two runs.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import onnx
from coverage import default_cache
from numpy.typing import NDArray

from onnxprune.calibration.segment import Part, open_segment
from onnxprune.compensation.distillation.backward import TARGET, differentiated, unreached
from onnxprune.errors import OnnxpruneError
from onnxprune.groups.analysis import Analysis, analyze, load
from onnxprune.ir import graph, inputs, skeleton
from onnxprune.ir.runtime import Device
from onnxprune.ops import index_bounds

#: Element types that have gradients.
REAL = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
}
#: A model whose share of numbers is at least this counts as reached.
ALL = 0.999
#: How far weights move, in shares of their root mean square: between two runs some activations pass
#: a kink, and small steps drown in rounding, so the nearest slope counts.
STEPS = (1e-3, 1e-4, 3e-5)
#: How far slopes may be apart, in shares of the root of the sum of squares of what they add up.
NEAR = 0.05
#: Numbers that stand for minus infinity in masks are no weights, nor are single ones mostly.
LARGEST = 1e4
Array = NDArray[Any]


class Reached(NamedTuple):
    """Numbers of floating point in a model, and by reason those that no gradient reaches."""

    numbers: int
    left: Mapping[str, int]

    @property
    def share(self) -> float:
        """Of the numbers that are reached."""
        return 1 - sum(self.left.values()) / max(self.numbers, 1)


def reached(analysis: Analysis) -> Reached:
    """Count what gradients from all outputs reach."""
    sizes, weights = analysis.parameters, weights_of(analysis)
    left = Counter[str]()
    for name, why in unreached(analysis, weights, outputs_of(analysis)).items():
        left[re.sub(r" '.*'$", "", why)] += sizes[name]
    return Reached(sum(sizes[name] for name in weights), left)


def weights_of(analysis: Analysis) -> list[str]:
    """Names of the parameters of floating point that something reads."""
    kinds = {name: tensor.data_type for name, tensor in graph.constants(analysis.model).items()}
    read = {t.name for node in analysis.nodes for t in (*node.inputs, *node.captured) if t}
    return [name for name in analysis.parameters if name in read and kinds[name] in REAL]


def outputs_of(analysis: Analysis) -> list[str]:
    """Names of the outputs of floating point."""
    made = {name for node in analysis.model.graph.node for name in node.output}
    values = (value for value in analysis.model.graph.output if value.name in made)
    return [value.name for value in values if value.type.tensor_type.elem_type in REAL]


class Slopes(NamedTuple):
    """The slope that gradients tell, the one that is measured, and by how much they may differ."""

    told: float
    measured: float
    near: float


def slopes(analysis: Analysis) -> Slopes | None:
    """The slope of a random sum of outputs along a random direction; None without gradients.

    Weights move by a share of their root mean square, all those of the type that most have.
    """
    rng, read = np.random.default_rng(0), analysis.read
    stored = ((name, read(name)) for name in weights_of(analysis))
    arrays = {n: v for n, v in stored if v is not None and v.size > 1 and np.abs(v).max() < LARGEST}
    sizes = Counter[np.dtype[Any]]()
    for array in arrays.values():
        sizes[array.dtype] += array.size
    if not sizes:
        return None
    kind = sizes.most_common(1)[0][0]
    arrays = {name: v for name, v in arrays.items() if v.dtype == kind}
    bounds = index_bounds(analysis.nodes)
    feeds = inputs.seeded(analysis.model, bounds, analysis.sample, 0)
    bare = skeleton.without_constant_nodes(analysis.model)
    part = Part(list(bare.graph.node), outputs_of(analysis), arrays, device=Device(threads=1))
    forward = open_segment(bare, part, feeds, read)
    values = forward.run(feeds, arrays)
    ends = {name: v for name, v in values.items() if v.dtype == kind}
    targets = {name: rng.standard_normal(v.shape).astype(kind) for name, v in ends.items()}
    seeds = {name: lambda builder, y, target: target for name in ends}
    made = differentiated(analysis, arrays, seeds, kind, Device(threads=1))
    if made is None:
        return None
    fed = {TARGET + name: target for name, target in targets.items()}
    grads = made.run({**feeds, **fed, **arrays})
    way = {name: direction(arrays[name], rng) for name in grads}
    terms = [(grads[name].astype(float) * way[name]).ravel() for name in grads]
    told = sum(float(t.sum()) for t in terms)
    near = NEAR * math.sqrt(sum(float(t @ t) for t in terms))
    found = []
    for step in STEPS:
        runs = [forward.run(feeds, arrays | _moved(arrays, way, s)) for s in (step, -step)]
        parts = [(run[n].astype(float) * t).ravel() for run in runs for n, t in targets.items()]
        half = len(targets)
        up, down = (sum(float(p.sum()) for p in side) for side in (parts[:half], parts[half:]))
        size = math.sqrt(sum(float(p @ p) for p in parts))
        noise = 4 * float(np.finfo(kind).eps) * size / step
        found.append(Slopes(told, (up - down) / (2 * step), near + noise))
    return min(found, key=lambda slopes: abs(slopes.told - slopes.measured) / slopes.near)


def _moved(arrays: Mapping[str, Array], way: Mapping[str, Array], step: float) -> dict[str, Array]:
    """Weights a step further."""
    return {n: np.asarray(arrays[n] + step * w, arrays[n].dtype) for n, w in way.items()}


def direction(array: Array, rng: np.random.Generator) -> Array:
    """Noise as large as the numbers of a weight."""
    values = array.astype(float)
    return np.asarray(rng.standard_normal(array.shape) * math.sqrt(float((values**2).mean())))


def table(results: Mapping[str, Reached]) -> str:
    """What stops gradients, most numbers first."""
    models: dict[str, list[str]] = defaultdict(list)
    numbers = Counter[str]()
    for name, result in results.items():
        for why, count in result.left.items():
            models[why].append(name)
            numbers[why] += count
    lines = ["| why | numbers | models | for example |", "| --- | ---: | ---: | --- |"]
    lines += [
        f"| {why} | {count:,} | {len(models[why])} | {', '.join(models[why][:3])} |"
        for why, count in numbers.most_common()
    ]
    return "\n".join(lines)


def summary(results: Mapping[str, Reached]) -> str:
    """How many models are reached, and how many of all numbers."""
    whole = sum(result.share >= ALL for result in results.values())
    total = sum(result.numbers for result in results.values())
    there = total - sum(sum(result.left.values()) for result in results.values())
    return (
        f"{len(results)} models, {whole} of them reached (at least {ALL:.1%} of their numbers); "
        f"{there / 1e6:.1f} of {total / 1e6:.1f} million numbers."
    )


def ran(path: Path) -> str:
    """What came of computing the gradients of a model."""
    try:
        found = slopes(analyze(load(path)))
    except OnnxpruneError as error:
        return f"FAILED: {error}"
    if found is None:
        return "no gradient reaches anything"
    same = abs(found.told - found.measured) <= found.near
    return f"{found.told:.4g} {found.measured:.4g} {'' if same else 'DIFFERENT'}".rstrip()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of the built models.")
@click.option("--run", is_flag=True, help="Compute gradients, and compare slopes.")
def main(files: tuple[Path, ...], cache: Path | None, run: bool) -> None:
    """Print what stops gradients in models, those of the corpus if none is named."""
    results: dict[str, Reached] = {}
    for path in files or sorted((cache or default_cache()).glob("*.onnx")):
        if run:
            click.echo(f"{path.stem} {ran(path)}")
            continue
        try:
            results[path.stem] = reached(analyze(load(path)))
        except OnnxpruneError as error:
            print(f"{path.stem}: {error}", file=sys.stderr)
    if not run:
        click.echo(table(results) + "\n")
        click.echo(summary(results))


if __name__ == "__main__":
    main()
