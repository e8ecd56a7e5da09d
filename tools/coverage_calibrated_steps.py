"""One calibrated run of one model, in a process of its own; prints one line of JSON.

Usage: `python tools/coverage_calibrated_steps.py MODE FILE`. MODE is a key of `MODES`. A run that
fails raises; the caller reads the last line of the traceback.

Samples are seeded inputs of the model's own kind: normal floats, integers within the bounds that
its operators set, of sizes on which the package finds that the model runs. They are written as
`.npz` files and read as a user's would be.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import onnx
from coverage_steps import ABOVE_LEAST, outputs_of

import onnxprune
from onnxprune import ops
from onnxprune.calibration.read_samples import first_axes
from onnxprune.groups.analysis import load
from onnxprune.ir import inputs as feeds
from onnxprune.pipeline.sample_run import analyze_sized
from onnxprune.settings import AnalysisSettings

GOAL, FASTER = 0.7, 0.8
#: One of so many samples is held back to judge distillation by, so fewer would not distil.
SAMPLES = 16
ROUNDS = 1
#: What `sparsify` says where no weight fits the pattern.
NO_WEIGHT = "no weight to make sparse"

#: What `run` says where onnxruntime's quantiser, or a quantised model, rules out that stage.
NOT_QUANTISED = "Leave out the stage"

Arrays = dict[str, Any]


class Case:
    """One model, its samples on disk, and what it computes on one of them."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.file = file
        self.analysis, _ = analyze_sized(load(file), AnalysisSettings(), must_run=False)
        self.inputs, self.calib, self.stacked = _samples(self.analysis, folder)
        self.before = outputs_of(self.analysis.original, self.inputs)
        self.settings: dict[str, Any] = {
            "calib": str(self.calib), "distill": ROUNDS, "latency": False, "cache": {},
        }  # fmt: skip


def _samples(analysis: Any, folder: Path) -> tuple[Arrays, Path, bool]:
    """Feeds of one run, and the `.npz`, or folder of them, that calibrates.

    First axes that count samples are filled with them; where the model does not run so, or they
    count something else, every file holds the inputs of one run.
    """
    model, shapes = analysis.original, dict(analysis.sample)
    axes, bounds = first_axes(model), ops.index_bounds(analysis.nodes)
    rows = axes.fixed or 1
    if axes.stacked:
        wide = {name: (rows * -(-SAMPLES // rows), *s[1:]) for name, s in shapes.items()}
        drawn = feeds.seeded(model, bounds, wide, 3)
        first = {name: values[:rows] for name, values in drawn.items()}
        if _runs(model, first) and (axes.fixed or _runs(model, drawn)):
            np.savez(folder / "calib.npz", **drawn)
            return first, folder / "calib.npz", True
    for seed in range(SAMPLES):
        one = feeds.seeded(model, bounds, shapes, seed)
        np.savez(folder / f"calib_{seed}.npz", **one)
    return feeds.seeded(model, bounds, shapes, 0), folder, False


def _runs(model: onnx.ModelProto, inputs: Arrays) -> bool:
    try:
        outputs_of(model, inputs)
    except Exception:  # whatever onnxruntime raises: the samples are drawn in another way
        return False
    return True


def _reaching(case: Case, **changes: Any) -> Any:
    """Prune to the goal, or to the least share of MACs that is reachable; None: nothing is."""
    settings = {**case.settings, **changes}
    try:
        return onnxprune.prune(str(case.file), {"macs": GOAL}, **settings)
    except onnxprune.TargetError as error:
        floor = _least(error) * ABOVE_LEAST
        return None if floor >= 1 else onnxprune.prune(str(case.file), {"macs": floor}, **settings)


def _least(error: Exception) -> float:
    """The least share of MACs that a message names; 1 where it names none."""
    reached = re.search(r"([\d.e+-]+) is the least", str(error))
    return float(reached[1]) if reached else 1.0


def _report(done: Any) -> dict[str, Any]:
    """What is told of a result of `prune` or `apply`."""
    if not done.report.proof.passed:
        raise AssertionError("the proof failed")
    values = done.report.values()
    return {
        "reached": done.report.achieved["macs"],
        "proof": done.report.proof.max_relative_error,
        "calibration": values.get("calibration"),
        "notes": list(done.report.notes),
    }


def _checked(case: Case, model: onnx.ModelProto) -> dict[str, Any]:
    """Run the result as a user would, and compare shapes, kinds and sizes with the original."""
    after = outputs_of(model, case.inputs)
    before = case.before
    if [np.shape(v) for v in before] != [np.shape(v) for v in after]:
        data_dependent = [np.shape(v) for v in before], [np.shape(v) for v in after]
        if [len(s) for s in data_dependent[0]] != [len(s) for s in data_dependent[1]]:
            raise AssertionError(f"the outputs have other ranks: {data_dependent}")
    finite = [_finite(v) for v in before], [_finite(v) for v in after]
    if any(old and not new for old, new in zip(*finite, strict=True)):
        raise AssertionError("the result gives numbers that are not finite")
    ratio = len(model.SerializeToString()) / case.file.stat().st_size
    return {"bytes": ratio}


def _finite(values: Any) -> bool:
    array = np.asarray(values)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def prune(case: Case, **changes: Any) -> dict[str, Any]:
    """Calibrated pruning with a round of distillation."""
    done = _reaching(case, **changes)
    if done is None:
        return {"reached": 1.0}
    return {**_report(done), **_checked(case, done.model)}


def steps(case: Case) -> dict[str, Any]:
    """The same in two steps."""
    return prune(case, steps=2)


def lossless(case: Case) -> dict[str, Any]:
    """What contributes nothing goes first."""
    return prune(case, lossless=True)


def latency(case: Case) -> dict[str, Any]:
    """A latency target, which is out of reach of many a model on seeded inputs."""
    target = {"latency": FASTER}
    try:
        done = onnxprune.prune(str(case.file), target, **{**case.settings, "latency": True})
    except onnxprune.TargetError as error:
        return {"reached": 1.0, "why": str(error)}
    return {**_report(done), **_checked(case, done.model)}


def apply(case: Case) -> dict[str, Any]:
    """The written plan on the same file."""
    done = _reaching(case)
    if done is None:
        return {"reached": 1.0}
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.json"
        plan.write_text(done.plan_json, encoding="utf-8")
        again = onnxprune.apply(str(case.file), plan, latency=False)
    return {**_report(again), **_checked(case, again.model)}


def sparsify(case: Case) -> dict[str, Any]:
    """Two of four numbers go, and what stays is refitted."""
    try:
        done = onnxprune.sparsify(str(case.file), pattern="2:4", **case.settings)
    except onnxprune.InputError as error:
        if NO_WEIGHT not in str(error):
            raise
        return {"density": 1.0}
    values = done.report.values()
    return {
        "density": done.report.density if done.report.layers else 1.0,
        "calibration": values.get("calibration"),
        "notes": list(done.report.notes),
        **_checked(case, done.model),
    }


def recipe(case: Case) -> dict[str, Any]:
    """All three stages, without those that the model is refused for, with the reasons."""
    left: dict[str, str] = {}
    stages: list[dict[str, Any]] = [
        {"kind": "prune", "target": {"macs": GOAL}, "distill": ROUNDS},
        {"kind": "sparsify", "pattern": "2:4", "distill": ROUNDS},
        {"kind": "quantise", "mode": "static"},
    ]
    while stages:
        made = onnxprune.recipe({"calib": str(case.calib), "stage": stages})
        try:
            done = onnxprune.run(made, str(case.file), latency=False)
        except onnxprune.TargetError as error:
            floor = _least(error) * ABOVE_LEAST
            done_with = floor >= 1 or stages[0]["target"]["macs"] > GOAL
            stages = (
                stages[1:] if done_with else [{**stages[0], "target": {"macs": floor}}, *stages[1:]]
            )
        except onnxprune.InputError as error:
            refused = {NO_WEIGHT: "sparsify", NOT_QUANTISED: "quantise"}
            kind = next((kind for why, kind in refused.items() if why in str(error)), "")
            if kind in ("", *left):
                raise
            left[kind] = str(error)
            stages = [stage for stage in stages if stage["kind"] != kind]
        else:
            kinds = [stage.kind for stage in done.stages]
            return {"kinds": kinds, "left": left, **_checked(case, done.model)}
    return {"kinds": [], "left": left}


MODES: Mapping[str, Callable[[Case], dict[str, Any]]] = {
    "prune": prune,
    "sparsify": sparsify,
    "recipe": recipe,
    "steps": steps,
    "latency": latency,
    "apply": apply,
    "lossless": lossless,
}


def main() -> None:
    """Run the mode and print its result."""
    mode, file = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(file), Path(folder))
        start = perf_counter_ns()
        values = MODES[mode](case)
        values["seconds"] = (perf_counter_ns() - start) / 1e9
    values |= {"macs": float(case.analysis.cost.full[0]), "single_files": not case.stacked}
    print("\n" + json.dumps(values, default=float))


if __name__ == "__main__":
    main()
