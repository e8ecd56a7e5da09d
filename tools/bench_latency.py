"""What targets for latency and MACs give: measured time and top-1 on full test sets.

`python tools/bench.py latency` runs it next to onnxsim, and targets for latency next to our own
plans that look at MACs only.
Models and data lie beside the repository, in ../shared; calibration samples come from training
splits and nothing is chosen on test data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
import onnx
from bench_trained import batches, first, load_cases, percent, session_of

import onnxprune
from onnxprune.allocation.latency import timer
from onnxprune.groups.analysis import analyze
from onnxprune.ir.stopwatch import Stopwatch

HEADER = (
    *("case", "target", "measured", "at most", "top-1", "at least"),
    *("MACs removed", "time removed", "efficiency"),
    *(
        "macs plans: faster at the same top-1",
        "onnxsim L2: MACs, time removed",
        "Wanda: MACs, time removed",
        "seconds",
    ),
)
HEADING = "## Latency as the target"
TITLE = "onnxprune, its plans for MACs alone, and onnxsim.pruning"
NOTE = (
    "One thread, batch 1; each model takes turns with the dense one, medians over the rounds of "
    "the thread's time divided by the dense model's. Efficiency is the speed-up over the factor by "
    "which MACs fell. A peer's cell holds its top-1, and what it removed of MACs and time. The "
    "plans for MACs alone are our own, interpolated to the same top-1. "
    "onnxsim takes the least sparsity that reaches the target. Targets for MACs: time at most what "
    "is asked for, or less by 0.7 of the MACs that go; top-1 at most 0.4 below plans of any width."
)
LATENCY, MACS = "latency", "macs"


class Goal(NamedTuple):
    """A target and what it has to reach.

    Attributes:
        case: its name, and settings that are to be true.
        metric: of the target.
        share: that is asked for.
        most: share of the original's time.
        least: top-1 in percent.
    """

    case: str
    metric: str
    share: float
    most: float
    least: float


GOALS = [
    Goal("resnet56_cifar10", LATENCY, 0.67, 0.69, 92.0),
    Goal("resnet56_cifar10", LATENCY, 0.6, 0.62, 90.0),
    Goal("resnet56_cifar10", LATENCY, 0.5, 0.52, 90.0),
    Goal("mobilenetv1_025_128_imagenet", LATENCY, 0.75, 0.77, 43.0),
    Goal("mobilenetv1_025_128_imagenet spatial", LATENCY, 0.75, 0.77, 45.0),
    Goal("resnet56_cifar10 spatial", LATENCY, 0.5, 0.52, 90.5),
    Goal("dscnn_kws spatial", LATENCY, 0.5, 0.52, 88.5),
    Goal("dscnn_kws", LATENCY, 0.7, 0.72, 88.0),
    Goal("bert_tiny3_sst2", LATENCY, 0.6, 0.62, 78.0),
    Goal("resnet56_cifar10", MACS, 0.7, 0.77, 92.5),
    Goal("resnet56_cifar10", MACS, 0.5, 0.6, 91.3),
    Goal("resnet20_cifar10", MACS, 0.5, 0.68, 88.1),
    Goal("mobilenetv1_025_128_imagenet", MACS, 0.667, 0.77, 32.2),
    Goal("dscnn_kws", MACS, 0.5, 0.65, 89.6),
    Goal("bert_tiny3_sst2", MACS, 0.5, 0.65, 79.6),
]
#: Points of top-1 beyond two plans up to which a line through them says something.
NEAR = 0.003
#: Plans for MACs alone, at most.
PLANS = 4
#: Sparsities that the peer is tried at, mildest first.
SPARSITIES = tuple(np.arange(0.04, 0.96, 0.04).round(2).tolist())


def measured(
    only: str, peers: bool, n_test: int | None, n_calib: int | None
) -> Iterator[dict[str, Any]]:
    """One row of numbers for every case and target whose `case metric=share` matches `only`."""
    cases = load_cases()
    for goal in GOALS:
        target = f"{goal.metric}={goal.share:g}"
        if re.search(only, f"{goal.case} {target}"):
            name, *words = goal.case.split()
            case = cases.load(name, n_test=n_test, n_calib=n_calib)
            row = {"case": goal.case, "target": target}
            row |= {"most": goal.most, "least": goal.least / 100}
            yield row | _row(case, goal, dict.fromkeys(words, True), peers)


def _row(case: Any, goal: Goal, more: Mapping[str, bool], peers: bool) -> dict[str, Any]:
    cache: dict[str, Any] = {}
    options: dict[str, Any] = {"calib": case.calib, "cache": cache, **more}
    target = {goal.metric: goal.share}
    start = perf_counter_ns()
    try:
        result = onnxprune.prune(case.model, target, **options)
    except onnxprune.OnnxpruneError as error:
        return {"error": str(error)}
    seconds = (perf_counter_ns() - start) / 1e9
    ours, macs = case.top1(session_of(result.model)), result.report.achieved["macs"]
    dense = onnx.load(case.model)
    models: dict[str, onnx.ModelProto] = {"dense": dense, "ours": result.model}
    tops = {"ours": ours}
    shares = {"ours": macs}
    if peers:
        if goal.metric == LATENCY:
            for name, model, top in _by_macs(case, macs, ours, cache):
                models[name], tops[name] = model, top
        for name, model in _rivals(case, dense, goal):
            models[name], tops[name] = model, case.top1(session_of(model))
    times = _times(case, models)
    found: dict[str, Any] = {"macs": shares["ours"], "seconds": seconds}
    full = _macs(dense)
    found |= {
        name: {"top1": top, "latency": times[name], "macs": _macs(models[name]) / full}
        for name, top in tops.items()
    }
    found["efficiency"] = macs / times["ours"]
    return found


def _macs(model: onnx.ModelProto) -> float:
    """Multiply-accumulates of a model at its sample input."""
    return float(analyze(model).cost.full[0])


def _times(case: Any, models: Mapping[str, onnx.ModelProto]) -> dict[str, float]:
    """Latency of all models in shares of the dense one's, batch 1, one thread.

    Each takes turns with the dense one alone: more models would leave each other colder caches.
    """
    one = first(case)
    content = {name: model.SerializeToString() for name, model in models.items()}
    return {name: timer.ratio(content["dense"], content[name], one, Stopwatch()) for name in models}


def _by_macs(
    case: Any, macs: float, ours: float, cache: dict[str, Any]
) -> Iterator[tuple[str, onnx.ModelProto, float]]:
    """Our own plans for MACs alone with their top-1, until that lies on both sides of `ours`."""
    share, sides = macs, set[bool]()
    for number in range(PLANS):
        try:
            model = onnxprune.prune(
                case.model, {"macs": share}, calib=case.calib, cache=cache, latency=False
            ).model
        except onnxprune.OnnxpruneError:
            return
        top = case.top1(session_of(model))
        yield f"macs {number + 1}", model, top
        better = top > ours
        sides.add(better)
        if len(sides) == 2:
            return
        share *= 0.85 if better else 1.2


def _rivals(case: Any, dense: onnx.ModelProto, goal: Goal) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Onnxsim's ways at the least sparsity that reaches the target."""
    import onnxsim
    from onnxsim import pruning

    simple = onnxsim.simplify(dense)[0]
    calib, one = batches(case), first(case)
    ways = {
        "l2": lambda s: pruning.apply_structured_pruning(simple, sparsity=s),
        "wanda": lambda s: pruning.apply_structured_wanda_pruning(
            simple, calibration_data=calib, sparsity=s
        ),
    }
    content, full = dense.SerializeToString(), _macs(dense)

    def reached(model: onnx.ModelProto) -> float:
        if goal.metric == MACS:
            return _macs(model) / full
        return timer.ratio(content, model.SerializeToString(), one, Stopwatch())

    known: float | None = None  # both ways give the same widths
    for name, way in ways.items():
        for sparsity in SPARSITIES if known is None else (known,):
            model = way(sparsity)
            if known or reached(model) <= goal.share:
                known = sparsity
                yield name, model
                break


def row_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The numbers as cells under `HEADER`."""
    head = (values["case"], f"{values['target']}")
    if "error" in values:
        return (*head, values["error"][:60], *[""] * (len(HEADER) - 3))
    ours = values["ours"]

    def peer(name: str) -> str:
        got = values.get(name)
        if not got:
            return ""
        return f"{percent(got['top1'])}: {1 - got['macs']:.3f}, {1 - got['latency']:.3f}"

    return (
        *head,
        f"{ours['latency']:.3f}",
        f"{values['most']:.2f}",
        percent(ours["top1"]),
        f"{100 * values['least']:.1f}",
        f"{1 - values['macs']:.3f}",
        f"{1 - ours['latency']:.3f}",
        f"{values['efficiency']:.2f}",
        _faster(values),
        peer("l2"),
        peer("wanda"),
        f"{values['seconds']:.0f}",
    )


def _faster(values: Mapping[str, Any]) -> str:
    """How many times faster the plan is than one for MACs alone would be at its accuracy."""
    points: Sequence[tuple[float, float]] = sorted(
        (values[name]["top1"], values[name]["latency"])
        for name in (f"macs {number + 1}" for number in range(PLANS))
        if name in values
    )
    ours = values["ours"]
    for (a, low), (b, high) in pairwise(points):
        if a < b and a - NEAR <= ours["top1"] <= b + NEAR:
            there = low + (high - low) * (ours["top1"] - a) / (b - a)
            return f"{there / ours['latency']:.2f}x"
    return ""
