"""Which numbers of models no gradient reaches, and the operators that stop them.

Gradients start at every output of floating point. A number is reached if the whole gradient
arrives at it; what lies before an operator without a rule is left out rather than tuned by a part.

Usage: `python tools/gradients.py FILE.onnx …`, `python tools/gradients.py` for the corpus of
tools/coverage.py, of which the built models are taken.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click
import onnx
from coverage import default_cache

from onnxprune.compensation.distillation.backward import unreached
from onnxprune.errors import OnnxpruneError
from onnxprune.groups.analysis import Analysis, analyze, load
from onnxprune.ir import graph

#: Element types that have gradients.
REAL = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
}
#: A model whose share of numbers is at least this counts as reached.
ALL = 0.999


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
    kinds = {name: tensor.data_type for name, tensor in graph.constants(analysis.model).items()}
    read = {t.name for node in analysis.nodes for t in (*node.inputs, *node.captured) if t}
    sizes = analysis.parameters
    weights = [name for name in sizes if name in read and kinds[name] in REAL]
    made = {name for node in analysis.model.graph.node for name in node.output}
    ends = [
        value.name
        for value in analysis.model.graph.output
        if value.name in made and value.type.tensor_type.elem_type in REAL
    ]
    left = Counter[str]()
    for name, why in unreached(analysis, weights, ends).items():
        left[re.sub(r" '.*'$", "", why)] += sizes[name]
    return Reached(sum(sizes[name] for name in weights), left)


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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of the built models.")
def main(files: tuple[Path, ...], cache: Path | None) -> None:
    """Print what stops gradients in models, those of the corpus if none is named."""
    results: dict[str, Reached] = {}
    for path in files or sorted((cache or default_cache()).glob("*.onnx")):
        try:
            results[path.stem] = reached(analyze(load(path)))
        except OnnxpruneError as error:
            print(f"{path.stem}: {error}", file=sys.stderr)
    click.echo(table(results) + "\n")
    click.echo(summary(results))


if __name__ == "__main__":
    main()
