"""What pruning costs and gives on trained models, us and onnxsim side by side, on one machine.

`python tools/bench.py card`: accuracy on full test sets, MACs, latency and file of the original, of
what onnxprune makes for a target, and of what onnxsim's structured pruners make at the least
sparsity that reaches the same MACs. Models and data lie beside the repository, in ../shared;
calibration samples come from training splits and nothing is chosen on test data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter_ns
from typing import Any

import onnx
from bench_trained import batches, first, load_cases, percent, session_of

import onnxprune
from onnxprune.allocation.latency import timer
from onnxprune.groups.analysis import analyze
from onnxprune.ir.stopwatch import Stopwatch
from onnxprune.settings import AnalysisSettings

HEADER = ("case", "target", "model", "top-1", "MACs", "latency", "file", "seconds")
HEADING = "## Side by side"
TITLE = "The original, onnxprune and onnxsim.pruning"
NOTE = (
    "MACs, latency and file are shares of the original's. One thread, batch 1; each model takes "
    "turns with the original, medians over the rounds of the thread's time divided by the "
    "original's. onnxsim gets the least sparsity, in steps of 0.02, at which its L2 pruning "
    "reaches the target, or 0.96 where none does; its Wanda takes the same. Seconds are those of "
    "pruning alone."
)
#: Case with settings that are to be true → share of MACs asked for.
TARGETS: Mapping[str, float] = {
    "resnet56_cifar10": 0.5,
    "mobilenetv1_025_128_imagenet spatial": 0.667,
    "dscnn_kws": 0.5,
    "bert_tiny3_sst2": 0.5,
}
#: Hundredths of sparsity that the peer is tried at, mildest first.
SPARSITIES = range(4, 98, 2)
Made = Iterator[tuple[str, onnx.ModelProto, float]]


def measured(
    only: str, peers: bool, n_test: int | None, n_calib: int | None
) -> Iterator[dict[str, Any]]:
    """One row of numbers for every model of each case whose `case macs=share` matches `only`."""
    cases = load_cases()
    for title, share in TARGETS.items():
        if not re.search(only, f"{title} macs={share:g}"):
            continue
        name, *words = title.split()
        case = cases.load(name, n_test=n_test, n_calib=n_calib)
        dense = onnx.load(case.model)
        head = {"case": name, "target": " ".join([f"macs={share:g}", *words])}
        yield head | {"model": "original"} | _measures(case, dense, dense)
        for what, model, seconds in _made(case, dense, share, words, peers):
            yield head | {"model": what, "seconds": seconds} | _measures(case, dense, model)


def _made(
    case: Any, dense: onnx.ModelProto, share: float, words: Sequence[str], peers: bool
) -> Made:
    """What each tool makes of the model, and the seconds that it took."""
    start = perf_counter_ns()
    options: dict[str, Any] = {"calib": case.calib, **dict.fromkeys(words, True)}
    result = onnxprune.prune(case.model, {"macs": share}, **options)
    yield "onnxprune", result.model, (perf_counter_ns() - start) / 1e9
    if peers:
        yield from _peers(case, dense, share)


def _peers(case: Any, dense: onnx.ModelProto, share: float) -> Made:
    """Onnxsim's ways at the least sparsity that reaches the share; it wants BatchNorm folded."""
    import onnxsim
    from onnxsim import pruning

    simple, calib = onnxsim.simplify(dense)[0], batches(case)
    most = share * _macs(dense, case)
    for hundredths in SPARSITIES:
        start = perf_counter_ns()
        model = pruning.apply_structured_pruning(simple, sparsity=hundredths / 100)
        if _macs(model, case) <= most:
            break
    yield "onnxsim L2", model, (perf_counter_ns() - start) / 1e9
    start = perf_counter_ns()
    model = pruning.apply_structured_wanda_pruning(
        simple, calibration_data=calib, sparsity=hundredths / 100
    )
    yield "onnxsim Wanda", model, (perf_counter_ns() - start) / 1e9


def _macs(model: onnx.ModelProto, case: Any) -> float:
    """Multiply-accumulates of a model for one sample."""
    sizes = {name: rows.shape for name, rows in first(case).items()}
    return float(analyze(model, AnalysisSettings(input_shapes=sizes)).cost.full[0])


def _measures(case: Any, dense: onnx.ModelProto, model: onnx.ModelProto) -> dict[str, Any]:
    """Top-1 of a model, and its costs in shares of the original's; a peer's may not run."""
    before, after = dense.SerializeToString(), model.SerializeToString()
    found = {"file": len(after) / len(before), "macs": _macs(model, case) / _macs(dense, case)}
    try:
        found["top1"] = case.top1(session_of(model))
        found["latency"] = timer.ratio(before, after, first(case), Stopwatch())
    except Exception as error:  # whatever a peer's model raises is its result
        return {**found, "error": f"{type(error).__name__}: {error}"}
    return found


def row_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The numbers as cells under `HEADER`."""
    return (
        values["case"],
        values["target"],
        values["model"],
        percent(values["top1"]) if "top1" in values else values["error"][:40],
        f"{values['macs']:.3f}",
        f"{values['latency']:.3f}" if "latency" in values else "",
        f"{values['file']:.3f}",
        f"{values['seconds']:.0f}" if "seconds" in values else "",
    )
