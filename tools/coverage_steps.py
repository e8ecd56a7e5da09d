"""One step of tools/coverage.py on one model, in a process of its own; prints one line of JSON.

Usage: `python tools/coverage_steps.py STEP NAME CACHE`. STEP is build, prune, planted, onnxsim or
torch-pruning. A step that fails raises; the caller reads the last line of the traceback.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from corpus import model_file
from numpy.typing import NDArray

import onnxprune
from onnxprune import ops
from onnxprune.groups.analysis import Analysis, analyze, load
from onnxprune.ir import inputs as feeds
from onnxprune.ir.patch import patch
from onnxprune.report.inspection import frozen_rows
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import masked

GOAL = 0.5
#: What the outputs of a lossless removal may differ by, relative to the largest output.
PLANTED_TOLERANCE = 1e-5
#: Half and bfloat16 resolve 1e-3 and 8e-3; a sum in another order moves the last digit.
COARSE_TOLERANCE = 1e-2
#: A target this much above the least reachable one, which messages round to three digits.
ABOVE_LEAST = 1.006

Arrays = dict[str, NDArray[Any]]


def open_session(model: onnx.ModelProto) -> ort.InferenceSession:
    """A session as users open it, with all optimisations."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def inputs_of(analysis: Analysis) -> Arrays:
    """Seeded inputs."""
    return feeds.seeded(analysis.original, ops.index_bounds(analysis.nodes), analysis.sample, 3)


def outputs_of(model: onnx.ModelProto, inputs: Arrays) -> list[NDArray[Any]]:
    """What onnxruntime computes."""
    results: list[NDArray[Any]] = open_session(model).run(None, inputs)
    return results


def difference(a: list[NDArray[Any]], b: list[NDArray[Any]]) -> float:
    """The largest difference relative to the largest value, over all outputs; inf on shapes."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if np.shape(x) != np.shape(y):
            return float("inf")
        p, q = (np.asarray(v).astype(np.float64) for v in (x, y))
        if p.size:
            scale = max(float(np.abs(p).max()), 1e-12)
            worst = max(worst, float(np.abs(p - q).max()) / scale)
    return worst


def macs_of(model: onnx.ModelProto) -> float:
    """Multiply-accumulates as onnxprune counts them."""
    return float(analyze(model).cost.full[0])


def prune(_name: str, file: Path) -> dict[str, Any]:
    """Shares that can be pruned, and the model pruned to half its MACs or as far as it goes."""
    analysis = analyze(load(file))
    full = analysis.cost.full
    least = analysis.cost.at(np.zeros_like(analysis.cost.channels))
    share = 1 - least / full.clip(1)
    result: dict[str, Any] = {
        "macs": full[0], "params": full[1], "nodes": len(analysis.nodes),
        "prunable_macs": share[0], "prunable_params": share[1], "blocked": blocked(analysis),
    }  # fmt: skip
    start = perf_counter_ns()
    try:
        done = onnxprune.prune(str(file), {"macs": GOAL}, latency=False)
    except onnxprune.TargetError as error:
        reached = re.search(r"([\d.e+-]+) is the least", str(error))
        floor = float(reached[1]) if reached else 1.0
        result["why"] = str(error)
        if floor * ABOVE_LEAST >= 1:
            return {**result, "reached": 1.0, "seconds": (perf_counter_ns() - start) / 1e9}
        done = onnxprune.prune(str(file), {"macs": floor * ABOVE_LEAST}, latency=False)
    result["seconds"] = (perf_counter_ns() - start) / 1e9
    result["reached"] = done.report.achieved["macs"]
    result["reached_params"] = done.report.achieved["params"]
    result["proof"] = done.report.proof.max_relative_error
    inputs = inputs_of(analysis)
    before, after = outputs_of(analysis.original, inputs), outputs_of(done.model, inputs)
    if [np.shape(v) for v in before] != [np.shape(v) for v in after]:
        raise AssertionError("the outputs of the pruned model have other shapes")
    return result


def blocked(analysis: Analysis) -> list[dict[str, Any]]:
    """Why weights stay: reason and operator, with the share of MACs at the weights it blocks."""
    full = max(analysis.cost.full[0], 1.0)
    ops = {node.name: node.op for node in analysis.nodes}
    work = {n.name: sum(w.amount for w in onnxprune.ops.works_of(n)) for n in analysis.nodes}
    reasons: dict[tuple[str, str], float] = {}
    for row in frozen_rows(analysis):
        reason = re.sub(r"'[^']*'", "…", row["reason"])
        key = (ops.get(row["node"], "interface"), reason)
        share = work.get(row["used_by"], 0.0) / full * row["blocked"] / max(row["size"], 1)
        reasons[key] = reasons.get(key, 0.0) + share
    rows = [{"op": k[0], "reason": k[1], "macs": v} for k, v in reasons.items()]
    return sorted(rows, key=lambda row: -row["macs"])


def plant(analysis: Analysis) -> tuple[onnx.ModelProto, int]:
    """The model with every second channel of every group dead at its producers, and how many."""
    kept = [np.arange(group.channels) % 2 == 1 for group in analysis.groups]
    kept = [mask if mask.any() else ~mask for mask in kept]
    plan = plan_of(analysis.groups, kept)
    makers = {axis for axis in plan.keep if axis not in analysis.roles.reads}
    zeroed = masked(analysis.read, analysis.nodes, plan, only=makers)
    stored = {name: zeroed(name) for name in {axis.tensor for axis in makers}}
    patches = {name: values for name, values in stored.items() if values is not None}
    return patch(analysis.model, patches), sum(int((~mask).sum()) for mask in kept)


def planted(_name: str, file: Path) -> dict[str, Any]:
    """Dead channels are planted; lossless removal must find them and change nothing."""
    analysis = analyze(load(file))
    model, count = plant(analysis)
    if not count:
        return {"planted": 0, "groups": 0, "removed": 0, "error": 0.0}
    start = perf_counter_ns()
    done = onnxprune.prune(model, lossless=True, latency=False)
    seconds = (perf_counter_ns() - start) / 1e9
    inputs = inputs_of(analysis)
    return {
        "planted": count,
        "groups": len(analysis.groups),
        "removed": sum(row["channels"] - row["kept"] for row in done.report.groups),
        "missed": [r["name"] for r in done.report.groups if 2 * r["kept"] > r["channels"] + 3],
        "error": difference(outputs_of(model, inputs), outputs_of(done.model, inputs)),
        "seconds": seconds,
    }


def build(name: str, file: Path) -> dict[str, Any]:
    """Build the model, and make sure that onnxruntime runs it."""
    start = perf_counter_ns()
    model_file(name, file.parent)
    analysis = analyze(load(file))
    values = outputs_of(analysis.original, inputs_of(analysis))
    finite = all(np.isfinite(v).all() for v in values if np.asarray(v).dtype.kind == "f")
    seconds = (perf_counter_ns() - start) / 1e9
    return {"bytes": file.stat().st_size, "seconds": seconds, "finite": bool(finite)}


def onnxsim(_name: str, file: Path) -> dict[str, Any]:
    """The other pruner for ONNX files."""
    from coverage_peers import run_onnxsim

    return run_onnxsim(file)


def torch_pruning(name: str, file: Path) -> dict[str, Any]:
    """The pruner for torch modules."""
    from coverage_peers import run_torch_pruning

    return run_torch_pruning(name, file)


STEPS: Mapping[str, Callable[[str, Path], dict[str, Any]]] = {
    "build": build,
    "prune": prune,
    "planted": planted,
    "onnxsim": onnxsim,
    "torch-pruning": torch_pruning,
}


def main() -> None:
    """Run the step and print its result."""
    step, name, cache = sys.argv[1:]
    values = STEPS[step](name, Path(cache) / f"{name}.onnx")
    print("\n" + json.dumps(values, default=float))


if __name__ == "__main__":
    main()
