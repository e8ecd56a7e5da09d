"""Transformers pruned with their residual stream turned, as it is, and left whole.

The vision transformer is what `tools/train_vit.py FOLDER` writes, the other case a trained BERT
beside the repository. Calibration samples and settings are the same for all ways; nothing is chosen
on test samples.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from bench_trained import load_cases, missing, percent, session_of
from numpy.typing import NDArray

import onnxprune
from onnxprune.groups.analysis import analyze
from onnxprune.groups.streams import find_stream

__all__ = ["HEADER", "NOTE", "TITLE", "measured", "row_of"]

TITLE = "Residual streams of transformers"
HEADER = ("case", "target", "stream", "dense", "top-1", "kept of the stream", "seconds")
NOTE = (
    "Top-1 in percent on all test samples. `turned`: the default, to principal directions where "
    "that loses less on samples held back; `as it is`: coordinates, heads and MLP units "
    "(`--no-rotate`); `whole`: heads and MLP units alone. Seconds are those of the processor."
)
#: Ways to treat the stream.
WAYS = ("turned", "as it is", "whole")
#: Cases with their targets.
TARGETS = {
    "vit": ("params=0.7", "params=0.5", "params=0.3", "params=0.2"),
    "bert_tiny3_sst2": ("params=0.5", "macs=0.333"),
}
BATCH = 100
Feeds = dict[str, NDArray[Any]]


class _Case(NamedTuple):
    name: str
    model: Path
    calib: Feeds
    test: Feeds
    labels: NDArray[np.int64]

    def top1(self, model: onnx.ModelProto) -> float:
        """Share of test samples whose largest output is the label."""
        session, right = session_of(model), 0
        for k in range(0, len(self.labels), BATCH):
            feeds = {name: rows[k : k + BATCH] for name, rows in self.test.items()}
            found = np.asarray(session.run(None, feeds)[0]).argmax(-1)
            right += int((found == self.labels[k : k + BATCH]).sum())
        return right / len(self.labels)


def _cases(folder: str | None) -> Iterator[_Case]:
    """Those that are there."""
    if folder is not None:
        calib, test = (np.load(Path(folder, f"vit_{part}.npz")) for part in ("calib", "test"))
        feeds, own = {"image": calib["image"]}, {"image": test["image"]}
        yield _Case("vit", Path(folder, "vit.onnx"), feeds, own, test["labels"])
    if not missing():
        found = load_cases().load("bert_tiny3_sst2")
        yield _Case(found.name, found.model, found.calib, found.test, found.labels)


def measured(
    folder: str | None, only: str, n_calib: int, rounds: int | None
) -> Iterator[dict[str, Any]]:
    """Numbers of each case, target and way.

    Args:
        folder: what `train_vit.py` wrote, None: without that case.
        only: regular expression for rows.
        n_calib: calibration samples.
        rounds: of distillation, None: as many as the work allows.
    """
    for case in _cases(folder):
        for target in TARGETS[case.name]:
            for way in WAYS:
                if re.search(only, f"{case.name} {target} {way}"):
                    yield _pruned(case, target, way, (n_calib, rounds))


def _pruned(case: _Case, target: str, way: str, amounts: tuple[int, int | None]) -> dict[str, Any]:
    """Prune one case one way."""
    n_calib, rounds = amounts
    model = onnx.load(case.model)
    analysis = analyze(model)
    streams = [g.name for g in analysis.groups if find_stream(analysis, g) is not None]
    whole = [f"^{re.escape(name)}$" for name in streams] if way == "whole" else []
    metric, share = target.split("=")
    start = time.process_time()
    result = onnxprune.prune(
        model,
        {metric: float(share)},
        calib=case.calib,
        calib_samples=n_calib,
        distill=True if rounds is None else rounds,
        rotate=way == "turned",
        exclude=whole,
        latency=False,
    )
    kept = [row for row in result.report.groups if row["name"] in streams]
    return {
        "case": case.name,
        "target": target,
        "way": way,
        "dense": case.top1(model),
        "top1": case.top1(result.model),
        "turned": bool(result.rotations),
        "stream": [(row["kept"], row["channels"]) for row in kept],
        "seconds": time.process_time() - start,
        "notes": result.report.notes,
    }


def row_of(values: dict[str, Any]) -> Sequence[str]:
    """One row of the table."""
    way = values["way"]
    stays = way == "turned" and not values["turned"]
    return (
        values["case"],
        values["target"],
        f"{way} (left as it is)" if stays else way,
        percent(values["dense"]),
        percent(values["top1"]),
        ", ".join(f"{kept}/{of}" for kept, of in values["stream"]) or "all",
        f"{values['seconds']:.0f}",
    )
