"""Real models from packages on PyPI, pruned with calibration, and how far they then agree.

No model is chosen for what comes out. The first samples calibrate; those that are compared come
behind them.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from bench_tables import megabytes
from bench_trained import session_of
from real_models import MODELS, RealModel
from real_packages import MissingError, cached, content

import onnxprune

__all__ = ["HEADER", "TITLE", "RealRun", "measured", "note", "row_of"]

TITLE = "Real models from packages"
HEADER = (
    *("model", "package", "inputs", "file MB", "pruned MB", "macs"),
    *("agreement with the original", "seconds"),
)
Feeds = Sequence[dict[str, Any]]


class RealRun(NamedTuple):
    """What to measure.

    Attributes:
        only: regular expression for names of models or packages.
        macs: share to keep.
        n_calib: calibration samples.
        n_test: samples to compare on.
        rounds: of distillation.
        wheels: folder that keeps wheels, None: the usual one.
    """

    only: str
    macs: float
    n_calib: int
    n_test: int
    rounds: int
    wheels: str | None


def note(run: RealRun) -> str:
    """What a table was made with."""
    return (
        f"Calibrated on {run.n_calib} samples without labels, {run.rounds} rounds of distillation; "
        f"compared on {run.n_test} others. `macs` is what was reached; each proof passed."
    )


def measured(run: RealRun) -> Iterator[dict[str, Any]]:
    """Numbers of each model, or why there are none."""
    folder = Path(run.wheels) if run.wheels else cached()
    for model in MODELS:
        if not re.search(run.only, f"{model.name} {model.release[0]}", re.IGNORECASE):
            continue
        found = {"name": model.name, "package": " ".join(model.release), "inputs": model.task}
        try:
            feeds = model.feeds(folder, run.n_calib + run.n_test)
            proto = onnx.load_from_string(content(model.release, model.member, folder))
        except MissingError as reason:
            yield {**found, "skipped": str(reason)}
            continue
        parts = feeds[: run.n_calib], feeds[run.n_calib :]
        try:
            yield {**found, **_pruned(model, proto, parts, run)}
        except onnxprune.OnnxpruneError as error:
            yield {**found, "error": f"{type(error).__name__}: {error}"}


def _pruned(
    model: RealModel, proto: onnx.ModelProto, parts: tuple[Feeds, Feeds], run: RealRun
) -> dict[str, Any]:
    """Prune one model and compare it with the original."""
    calib, test = parts
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as home:
        source, small = Path(home, "model.onnx"), Path(home, "pruned.onnx")
        onnx.save(proto, source)
        target = {"macs": run.macs}
        result = onnxprune.prune(source, target, calib=calib, distill=run.rounds, latency=False)
        result.save(small)
        sizes = source.stat().st_size, small.stat().st_size
    seconds = time.perf_counter() - start
    assert result.report.proof.passed
    both = [_outputs(one, test) for one in (proto, result.model)]
    return {
        "bytes": sizes,
        "macs": result.report.achieved["macs"],
        "agreement": model.measure(*both),
        "proof": result.report.proof.max_relative_error,
        "seconds": seconds,
        "notes": result.report.notes,
    }


def _outputs(model: onnx.ModelProto, feeds: Feeds) -> list[dict[str, Any]]:
    """What a model gives on each sample."""
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, map(np.asarray, session.run(None, one)), strict=True)) for one in feeds]


def row_of(values: dict[str, Any]) -> Sequence[str]:
    """One row of the table."""
    about = values["name"], values["package"], values["inputs"]
    missing = values.get("skipped") or values.get("error")
    if missing:
        what = "skipped" if "skipped" in values else "error"
        return (*about, "", "", "", f"{what}: {missing}", "")
    before, after = values["bytes"]
    return (
        *about,
        megabytes(before),
        megabytes(after),
        f"{values['macs']:.3f}",
        values["agreement"],
        f"{values['seconds']:.0f}",
    )
