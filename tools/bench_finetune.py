"""What fine-tuning brings after pruning: trained models, labels of calibration splits, full tests.

`python tools/bench.py finetune` runs it. Models and data lie beside the repository, in ../shared;
labels come from the calibration splits alone, at most 2,000, the first 1,024 of their samples
calibrate, and nothing is chosen on test data. The digits come from scikit-learn, split as
`tools/train_digits.py` splits them. Seconds are those of the processor.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import onnx
from bench_processes import ROOT, RSS_UNIT
from bench_trained import load_cases, percent, session_of
from numpy.typing import NDArray

import onnxprune

__all__ = ["CASES", "HEADER", "NOTE", "TITLE", "measured", "row_of"]

TITLE = "Pruned, then fine-tuned with labels and the original as teacher"
NOTE = (
    "Labelled samples come from the calibration split, the first 1,024 of them calibrate; the same "
    "settings for all rows. Seconds of the processor for fine-tuning alone, peak memory of the run."
)
HEADER = ("case", "how", "labels", "dense", "pruned", "fine-tuned", "required", "seconds", "MB")
CALIBRATION = 1024
DIGITS = "digits"
#: The seed of the split in `tools/train_digits.py`.
SPLIT = 20
Arrays = dict[str, NDArray[Any]]


class Case(NamedTuple):
    """A row: the target, how many labelled samples at most, steps, and what it should reach.

    `required` is a top-1 in percent, or with `gain` what it should be above pruning alone.
    """

    name: str
    target: Mapping[str, float]
    labels: int
    required: float
    gain: bool = False
    steps: int = 1

    @property
    def how(self) -> str:
        """The target in words."""
        ((metric, share),) = self.target.items()
        return f"{metric}={share}" + (f" in {self.steps} steps" if self.steps > 1 else "")


CASES = (
    Case("resnet20_cifar10", {"macs": 0.5}, 2000, 0.5, gain=True),
    Case("resnet56_cifar10", {"macs": 0.333}, 2000, 91.0),
    Case("mobilenetv1_025_128_imagenet", {"macs": 0.667}, 600, 2.0, gain=True),
    Case(DIGITS, {"macs": 0.3}, 1297, 99.3, steps=3),
    Case("bert_tiny3_sst2", {"macs": 0.333}, 2000, 79.5),
)


class _Data(NamedTuple):
    """A model with labelled, calibration and test samples."""

    model: str
    train: Arrays
    calib: Arrays
    test: Arrays


def measured(only: str, folder: Path | None, epochs: int | None) -> Iterator[dict[str, Any]]:
    """One row of numbers for every case whose name holds `only`.

    Args:
        only: part of a name.
        folder: keeps finished stages and epochs, so that a bench that was stopped goes on.
        epochs: None: as many as by default.
    """
    for case in CASES:
        if only in case.name:
            yield _measured(case, folder, {} if epochs is None else {"epochs": epochs})


def _measured(case: Case, folder: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    data = _digits() if case.name == DIGITS else _trained(case)
    prune = {"kind": "prune", "target": case.target}
    common = {"calib": data.calib, "calib_samples": CALIBRATION}
    shared = {"latency": False, "finished": folder, "progress": _told}
    plain = onnxprune.recipe({**common, "stage": [prune]})
    pruned = onnxprune.run(plain, data.model, **shared).model
    before = _top1(pruned, data.test)
    start = process_time()
    if case.steps > 1:
        tune = {"kind": "finetune", "data": data.train, **options}
        steps = {**prune, "steps": case.steps, "between": tune}
        recipe = onnxprune.recipe({**common, "stage": [steps]})
        tuned = onnxprune.run(recipe, data.model, **shared).model
    else:
        more = {"finished": folder, "progress": _told, **options}
        tuned = onnxprune.finetune(pruned, data.train, data.model, **more).model
    return {
        "case": case.name,
        "how": case.how,
        "labels": len(data.train["labels"]),
        "dense": _top1(onnx.load(data.model), data.test),
        "pruned": before,
        "finetuned": _top1(tuned, data.test),
        "required": before + case.required / 100 if case.gain else case.required / 100,
        "seconds": process_time() - start,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / 1e6,
    }


def row_of(values: Mapping[str, Any]) -> list[str]:
    """A row of the table."""
    shares = ("dense", "pruned", "finetuned", "required")
    first = [values["case"], values["how"], str(values["labels"])]
    last = [f"{values['seconds']:.0f}", f"{values['peak_mb']:.0f}"]
    return [*first, *(percent(values[name]) for name in shares), *last]


def _told(stage: str, share: float) -> None:
    """Show how far a run is, in one line."""
    print(f"\r{share:4.0%} {stage:70}", end="", file=sys.stderr, flush=True)


def _top1(model: onnx.ModelProto, test: Arrays) -> float:
    """Share of test samples whose largest output is the label."""
    session, labels, right = session_of(model), test["labels"], 0
    for k in range(0, len(labels), 100):
        feeds = {name: v[k : k + 100] for name, v in test.items() if name != "labels"}
        right += int((session.run(None, feeds)[0].argmax(-1) == labels[k : k + 100]).sum())
    return right / len(labels)


def _trained(case: Case) -> _Data:
    """A trained model of ../shared, with the labels of its calibration split."""
    cases = load_cases()
    found = cases.load(case.name, n_calib=case.labels)
    kind = cases.CASES[case.name][0]
    text = kind == "sst2"
    file = cases.HERE / "data" / (f"{kind}.npz" if text else f"{kind}_calib.npz")
    labels = np.load(file)["calib_labels" if text else "labels"][: case.labels].astype(np.int64)
    calib = {name: array[:CALIBRATION] for name, array in found.calib.items()}
    test = {**found.test, "labels": found.labels}
    return _Data(str(found.model), {**found.calib, "labels": labels}, calib, test)


def _digits() -> _Data:
    """The demonstration model, with the split that it was trained on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    folder = ROOT / "models"
    test = dict(np.load(folder / "digits_test.npz"))
    raw, targets = load_digits(return_X_y=True)
    images = (raw.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    kept, held, labels, _ = train_test_split(
        images, targets.astype(np.int64), test_size=len(test["labels"]), stratify=targets,
        random_state=SPLIT,
    )  # fmt: skip
    assert (held == test["image"]).all(), "scikit-learn splits the digits in another way"
    calib = dict(np.load(folder / "digits_calib.npz"))
    return _Data(str(folder / "digits.onnx"), {"image": kept, "labels": labels}, calib, test)
