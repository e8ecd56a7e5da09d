"""What single-weight sparsity costs in accuracy: trained models, full test sets, next to onnxsim.

`python tools/bench.py sparsity` runs it. Models and data lie beside the repository, in ../shared;
calibration samples come from training splits and nothing is chosen on test data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter_ns
from typing import Any, NamedTuple

import onnx
from bench_trained import batches, load_cases, percent, session_of

import onnxprune
from onnxprune.ir import save

HEADING = "## Single weights"
TITLE = "onnxprune and onnxsim.pruning"
NOTE = (
    "What is left is the share of weights that are not zero, or of the file where the last stage "
    "quantises. Seconds include reading and proof."
)
HEADER = (
    *("case", "what", "dense", "ours", "required", "share left", "seconds"),
    *("onnxsim magnitude", "Wanda", "SparseGPT"),
)


class Goal(NamedTuple):
    """A row: stages of a recipe, whether there is calibration data, the least top-1 in percent.

    `peer` are the options of onnxsim's functions at the same sparsity.
    """

    case: str
    what: str
    stages: tuple[Mapping[str, Any], ...]
    required: float
    peer: Mapping[str, Any] | None = None
    calibrated: bool = True


def _sparse(**options: Any) -> tuple[Mapping[str, Any], ...]:
    return ({"kind": "sparsify", **options},)


def _share(case: str, share: float, required: float) -> Goal:
    what = f"{share:.0%} unstructured"
    return Goal(case, what, _sparse(sparsity=share), required, {"sparsity": share})


_PRUNED = {"kind": "prune", "target": {"macs": 0.5}}
_SMALL = {"kind": "prune", "target": {"macs": 0.5, "params": 0.54}}
_TUNED = {**_SMALL, "distill": 16}
_NM = {"n": 2, "m": 4}
GOALS = (
    _share("resnet56_cifar10", 0.5, 93.2),
    _share("resnet56_cifar10", 0.7, 92.3),
    _share("resnet56_cifar10", 0.8, 90.0),
    Goal("resnet56_cifar10", "2:4", _sparse(pattern="2:4"), 91.5, _NM),
    Goal("resnet56_cifar10", "50% magnitude, no data", _sparse(sparsity=0.5, criterion="magnitude"),
         90.5, {"sparsity": 0.5}, False),
    _share("bert_tiny3_sst2", 0.5, 79.5),
    Goal("bert_tiny3_sst2", "2:4", _sparse(pattern="2:4"), 79.0, _NM),
    Goal("resnet56_cifar10", "macs=0.5, int8", (_PRUNED, {"kind": "quantise"}), 91.3),
    Goal("resnet56_cifar10", "macs=0.5 params=0.54, int8", (_SMALL, {"kind": "quantise"}), 91.3),
    Goal("resnet56_cifar10", "macs=0.5 params=0.54 distill=16, int8",
         (_TUNED, {"kind": "quantise"}), 91.3),
    Goal("resnet20_cifar10", "macs=0.667, 2:4",
         ({"kind": "prune", "target": {"macs": 0.667}}, *_sparse(pattern="2:4")), 88.5),
)  # fmt: skip


def measured(
    only: str, peers: bool, n_test: int | None, n_calib: int | None
) -> Iterator[dict[str, Any]]:
    """One row of numbers for every goal whose `case what` matches `only`."""
    cases = load_cases()
    for goal in GOALS:
        if not re.search(only, f"{goal.case} {goal.what}"):
            continue
        case = cases.load(goal.case, n_test=n_test, n_calib=n_calib)
        row = {
            "case": goal.case,
            "what": goal.what,
            "dense": case.top1(session_of(onnx.load(case.model))),
            "required": goal.required / 100,
            "test_samples": len(case.labels),
            **_ours(case, goal),
        }
        yield row | (_peers(case, goal) if peers and goal.peer is not None else {})


def _ours(case: Any, goal: Goal) -> dict[str, Any]:
    """Accuracy, the file's share and seconds; `error` where it fails."""
    content: dict[str, Any] = {"stage": [dict(stage) for stage in goal.stages]}
    if goal.calibrated:
        content["calib"] = case.calib
    start = perf_counter_ns()
    try:
        result = onnxprune.run(onnxprune.recipe(content), case.model, latency=False)
    except onnxprune.OnnxpruneError as error:
        return {"error": str(error)}
    seconds = (perf_counter_ns() - start) / 1e9
    share = save.file_bytes(result.model) / result.bytes
    details = result.stages[-1].details
    left = {"density": details["density"]} if "density" in details else {}
    top1 = case.top1(session_of(result.model))
    return {"ours": top1, "file_share": share, "seconds": seconds, **left}


def _peers(case: Any, goal: Goal) -> dict[str, Any]:
    """Accuracy and seconds of onnxsim's three ways, of the one that needs no data without."""
    from onnxsim import pruning

    model, options, calib = onnx.load(case.model), dict(goal.peer or {}), batches(case)
    ways: dict[str, Callable[[], onnx.ModelProto]] = {
        "magnitude": lambda: pruning.apply_magnitude_pruning(model, **options),
        "wanda": lambda: pruning.apply_wanda_pruning(model, calibration_data=calib, **options),
        "sparsegpt": lambda: pruning.apply_sparsegpt_pruning(
            model, calibration_data=calib, **options
        ),
    }
    found: dict[str, Any] = {}
    chosen = ways if goal.calibrated else ["magnitude"]
    for name, way in ((name, ways[name]) for name in chosen):
        start = perf_counter_ns()
        try:
            made = way()
            seconds = (perf_counter_ns() - start) / 1e9
            found[name] = {"top1": case.top1(session_of(made)), "seconds": seconds}
        except Exception as error:  # whatever the peer raises is its result
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found


def row_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The numbers as cells under `HEADER`."""

    def peer(name: str) -> str:
        got = values.get(name)
        if got is None:
            return ""
        return got.get("error", "")[:40] or f"{percent(got['top1'])} ({got['seconds']:.0f} s)"

    failed = "error" in values
    left = values.get("density", values.get("file_share", 0.0))
    return (
        values["case"],
        values["what"],
        percent(values["dense"]),
        values["error"][:60] if failed else percent(values["ours"]),
        percent(values["required"]),
        "" if failed else f"{left:.3f}",
        "" if failed else f"{values['seconds']:.0f}",
        *(peer(name) for name in ("magnitude", "wanda", "sparsegpt")),
    )
