"""What pruning without training costs in accuracy: trained models, full test sets.

`python tools/bench.py accuracy` runs it next to onnxsim. Models and data lie beside the repository,
in ../shared; calibration samples come from training splits and nothing is chosen on test data.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter_ns
from typing import Any

import onnx
from bench_trained import batches, load_cases, percent, session_of

import onnxprune
from onnxprune.groups.analysis import analyze
from onnxprune.groups.cost import METRICS

HEADER = (
    *("case", "target", "dense", "ours", "required", "onnxsim L2 @ share"),
    *("Wanda @ share", "ridge @ share", "seconds"),
)
HEADING = "## Accuracy without training"
TITLE = "onnxprune and onnxsim.pruning"
NOTE = (
    "Shares are of the dense model's cost; seconds are those of onnxprune, reading and proof "
    "included. onnxsim gets the sparsity at which its L2 pruning reaches the same cost, found by "
    "bisection; its Wanda takes the same, and the ridge refit starts from Wanda."
)
_FOUR = ("macs=0.667", "macs=0.5", "macs=0.4", "macs=0.333")


def _spatial(goals: Mapping[float, float]) -> dict[str, float]:
    """Targets in MACs where the model may look at less of its input."""
    return {f"macs={share} spatial": least for share, least in goals.items()}


#: Case, whether calibration data is used, target → least top-1 in percent.
GOALS: list[tuple[str, bool, Mapping[str, float]]] = [
    ("resnet56_cifar10", True, dict(zip(_FOUR, (92.9, 92.0, 90.7, 88.0), strict=True))),
    ("resnet56_cifar10", True, {"macs=0.5 distill=16": 92.0}),
    ("resnet56_cifar10_bn", True, dict(zip(_FOUR, (92.9, 92.0, 90.7, 88.0), strict=True))),
    ("resnet56_cifar10_bn", False, {"macs=0.667": 85.0}),
    ("resnet20_cifar10", True, {"macs=0.667": 90.3, "macs=0.5": 87.5}),
    ("resnet8_cifar10", True, {"macs=0.667": 85.5, "macs=0.5": 82.5}),
    ("mobilenetv1_025_128_imagenet", True, {"macs=0.8": 47.0, "macs=0.667": 41.0}),
    ("dscnn_kws", True, {"macs=0.667": 90.0, "macs=0.5": 87.5}),
    (
        "bert_tiny3_sst2",
        True,
        {"params=0.7": 79.8, "params=0.5": 79.8, "macs=0.5": 79.3, "macs=0.333": 79.0},
    ),
    ("ppocr_cls", True, {"macs=0.5": 98.5, "macs=0.333": 97.0}),
    # the same targets where the model may look at less of its input
    ("resnet56_cifar10", True, _spatial({0.5: 92.5, 0.4: 91.5, 0.333: 90.5})),
    ("resnet20_cifar10", True, _spatial({0.667: 91.3, 0.5: 89.5})),
    ("resnet8_cifar10", True, _spatial({0.667: 86.2, 0.5: 83.5})),
    ("mobilenetv1_025_128_imagenet", True, _spatial({0.8: 47.3, 0.667: 45.5, 0.5: 42.0})),
    ("dscnn_kws", True, _spatial({0.5: 90.3})),
    ("ppocr_cls", True, _spatial({0.5: 98.5, 0.333: 97.0})),
]
#: Halvings of the peer's sparsity.
STEPS = 9


def measured(
    only: str, peers: bool, n_test: int | None, n_calib: int | None
) -> Iterator[dict[str, Any]]:
    """One row of numbers for every case and target whose `case target` matches `only`."""
    cases = load_cases()
    for name, calibrated, goals in GOALS:
        chosen = {
            target: least
            for target, least in goals.items()
            if re.search(only, f"{name} {target}{'' if calibrated else ' no data'}")
        }
        if not chosen:
            continue
        case = cases.load(name, n_test=n_test, n_calib=n_calib)
        dense = case.top1(session_of(onnx.load(case.model)))
        rival = _Rival(case) if peers and calibrated else None
        for target, least in chosen.items():
            row = {
                "case": name,
                "target": target,
                "data": calibrated,
                "test_samples": len(case.labels),
                "dense": dense,
                "required": least / 100,
                **_ours(case, target, calibrated),
            }
            yield row | (rival.at(target) if rival is not None else {})


def _parsed(target: str) -> dict[str, float]:
    metric, _, share = target.split()[0].partition("=")
    return {metric: float(share)}


def _settings(target: str) -> dict[str, int | bool]:
    """Settings that the target names: rounds of distillation, or a word that is to be true."""
    words = (word.partition("=") for word in target.split()[1:])
    return {name: int(n) if n else True for name, _, n in words}


def _ours(case: Any, target: str, calibrated: bool) -> dict[str, Any]:
    """Accuracy, share and seconds of `onnxprune.prune`; `error` where it fails."""
    options: dict[str, Any] = {"latency": False, **_settings(target)}
    known = {field.name for field in dataclasses.fields(onnxprune.Settings)}
    if calibrated and "calib" not in known:
        return {"error": "this onnxprune takes no calibration data"}
    if calibrated:
        options["calib"] = case.calib
    start = perf_counter_ns()
    try:
        result = onnxprune.prune(case.model, _parsed(target), **options)
    except onnxprune.OnnxpruneError as error:
        return {"error": str(error)}
    seconds = (perf_counter_ns() - start) / 1e9
    (metric,) = _parsed(target)
    share = result.report.achieved[metric]
    return {"ours": case.top1(session_of(result.model)), "share": share, "seconds": seconds}


class _Rival:
    """onnxsim's pruners on one case, at the sparsity that gives the wanted share."""

    def __init__(self, case: Any) -> None:
        import onnxsim

        self.case = case
        model = onnx.load(case.model)
        self.full = analyze(model).cost.full.tolist()
        # it prunes nothing before a normalisation that is not folded
        self.model = onnxsim.simplify(model)[0]
        self.calib = batches(case)

    def at(self, target: str) -> dict[str, Any]:
        """Accuracy and share of each of its ways."""
        from onnxsim import finetune, pruning

        sparsity = self._sparsity(target, pruning.apply_structured_pruning)
        found: dict[str, Any] = {"sparsity": sparsity}

        def ridge() -> onnx.ModelProto:
            return finetune.apply_pruning_finetune(
                self.model, made["wanda"], calibration_data=self.calib
            )

        made: dict[str, onnx.ModelProto] = {}
        ways: dict[str, Callable[[], onnx.ModelProto]] = {
            "l2": lambda: pruning.apply_structured_pruning(self.model, sparsity=sparsity),
            "wanda": lambda: pruning.apply_structured_wanda_pruning(
                self.model, calibration_data=self.calib, sparsity=sparsity
            ),
            "ridge": ridge,
        }
        for name, way in ways.items():
            try:
                made[name] = way()
                accuracy = self.case.top1(session_of(made[name]))
                found[name] = {"top1": accuracy, "share": self._share(target, made[name])}
            except Exception as error:  # whatever the peer raises is its result
                found[name] = {"error": f"{type(error).__name__}: {error}"}
        return found

    def _sparsity(
        self, target: str, prune: Callable[..., onnx.ModelProto], low: float = 0.0
    ) -> float:
        """The least sparsity that reaches the target, or the most that can be asked for."""
        high, (limit,) = 0.98, _parsed(target).values()
        for _ in range(STEPS):
            middle = (low + high) / 2
            if self._share(target, prune(self.model, sparsity=middle)) <= limit:
                high = middle
            else:
                low = middle
        return high

    def _share(self, target: str, model: onnx.ModelProto) -> float:
        """Cost of a model in shares of the dense one, as onnxprune counts it."""
        (metric,) = _parsed(target)
        number = METRICS.index(metric)
        return float(analyze(model).cost.full[number]) / max(self.full[number], 1)


def row_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The numbers as cells under `HEADER`."""

    def peer(name: str) -> str:
        got = values.get(name)
        if got is None:
            return ""
        return got.get("error", "")[:40] or f"{percent(got['top1'])} @ {got['share']:.3f}"

    ours = values.get("error", "")[:60] or percent(values["ours"])
    return (
        values["case"] + ("" if values["data"] else " (no data)"),
        values["target"],
        percent(values["dense"]),
        ours,
        f"{100 * values['required']:.1f}",
        *(peer(name) for name in ("l2", "wanda", "ridge")),
        f"{values['seconds']:.0f}" if "seconds" in values else "",
    )
