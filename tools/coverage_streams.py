"""Cut the width that normalisations see, the hidden size of transformers, to half, and prove it.

One model: `python tools/coverage_streams.py FILE` prints a line of JSON. All of them:
`python tools/coverage.py --streams`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from onnxprune import ops
from onnxprune.groups.analysis import Analysis, analyze, load
from onnxprune.settings import Settings
from onnxprune.surgery.cut import cut, running
from onnxprune.surgery.widths_divided import gamma, readers_of
from onnxprune.types import Axis, Ints

__all__ = ["halved", "markdown", "summary"]

HEADER = ("model", "widths", "MACs", "parameters", "operators", "proof", "s", "not cut")


def normalised_axes(analysis: Analysis) -> dict[Axis, str]:
    """Axes along which something normalises, with the operator that does."""
    ends = {value.name for value in analysis.model.graph.output}
    readers, found = readers_of(analysis.nodes), dict[Axis, str]()
    for node in analysis.nodes:
        for index, axis in ops.statistics_of(node) if gamma(node, readers, ends) else ():
            x = node.inputs[index]
            if x is not None:
                found[x.at(axis)] = node.op
    return found


def halved(file: Path) -> dict[str, Any]:
    """Keep a seeded half of every width that is normalised; raises where that is not exact."""
    start = perf_counter_ns()
    analysis, rng = analyze(load(file)), np.random.default_rng(0)
    axes = normalised_axes(analysis)
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    widths: list[int] = []
    for mask, group in zip(kept, analysis.groups, strict=True):
        if any(axis in axes for axis, _ in group.axes()):
            mask[rng.permutation(group.channels)[group.channels // 2 :]] = False
            mask[rng.integers(group.channels)] |= not mask.any()
            widths.append(group.channels)
    result = {"widths": widths, "blocked": blocked(analysis, axes)}
    if widths:
        cost = analysis.cost.at(np.array([mask.sum() for mask in kept], np.int64))
        with running(analysis, Settings()) as original:
            stage = cut(analysis, kept, Settings(), original)
        before, after = analysis.model.graph.node, stage.model.graph.node
        result |= {
            "macs": cost[0] / max(analysis.cost.full[0], 1),
            "params": cost[1] / max(analysis.cost.full[1], 1),
            "operators": len(after) - len(before),
            "proof": stage.proof.max_relative_error,
        }
    return {**result, "seconds": (perf_counter_ns() - start) / 1e9}


def blocked(analysis: Analysis, axes: Mapping[Axis, str]) -> list[str]:
    """Why other axes that are normalised stay."""
    free = {axis for group in analysis.groups for axis, _ in group.axes()}
    first, found = analysis.dependencies[0], dict[str, None]()
    for axis in axes.keys() - free:
        if axis in first.root:
            found |= {why.reason: None for why in first.blocked(axis)}
    return sorted(found)


def _row(name: str, values: Mapping[str, Any]) -> list[str]:
    if "failed" in values:
        return [name, "", "", "", "", "FAILED", "", values["failed"]]
    widths: Ints = np.array(values["widths"], np.int64)
    sizes, counts = np.unique(widths, return_counts=True)
    listed = ", ".join(
        f"{size}" + f" ×{count}" * (count > 1)
        for size, count in zip(sizes.tolist(), counts.tolist(), strict=True)
    )
    numbers = [""] * 4
    if len(widths):
        numbers = [f"{values['macs']:.2f}", f"{values['params']:.2f}"]
        numbers += [f"{values['operators']:+d}", f"{values['proof']:.0e}"]
    return [name, listed, *numbers, f"{values['seconds']:.1f}", "; ".join(values["blocked"])]


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table; models in which nothing normalises along an axis that could go are left out."""
    rows = [_row(name, v) for name, v in results.items() if v.get("widths", 1) or v["blocked"]]
    lines = ["| " + " | ".join(cells) + " |" for cells in [HEADER, *rows]]
    lines.insert(1, "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    return "\n".join(lines)


def summary(results: Mapping[str, Mapping[str, Any]]) -> str:
    """How many were cut, and the largest error of a proof."""
    found: Sequence[Mapping[str, Any]] = [v for v in results.values() if v.get("widths")]
    failed = sum("failed" in values for values in results.values())
    worst = max((values["proof"] for values in found), default=0.0)
    added = sum(values["operators"] > 0 for values in found)
    return (
        f"{len(results)} models: {len(found)} cut to half and proved (error at most {worst:.0e}, "
        f"{added} with further operators), {failed} failed"
    )


if __name__ == "__main__":
    print("\n" + json.dumps(halved(Path(sys.argv[1])), default=float))
