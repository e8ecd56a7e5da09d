"""Prune one model to many targets from one calibration, and put the results side by side.

Samples are read once, and what was measured on them is kept for all targets: as a file where the
settings name one, else in memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from onnxprune.allocation.depth import depth_of
from onnxprune.allocation.targets import budgets
from onnxprune.errors import InputError, ProofError, TargetError
from onnxprune.groups.cost import METRICS
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import Model, read_model
from onnxprune.pipeline.prune import prune
from onnxprune.pipeline.result import Result
from onnxprune.pipeline.sample_run import with_samples
from onnxprune.pipeline.score_search import scorer
from onnxprune.report.sweep import Sweep, Swept, Target, target_name
from onnxprune.settings import Progress, Settings, SettingsChanges, settings_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["sweep"]


def sweep(
    model: Source,
    targets: Sequence[Target],
    settings: Settings | None = None,
    out: str | os.PathLike[str] | None = None,
    **changes: Unpack[SettingsChanges],
) -> Sweep:
    """Prune a model to every target: `sweep("in.onnx", [{"macs": 0.8}, {"macs": 0.6}])`.

    A target that is out of reach is told and costs no other one.

    Args:
        model: path or ModelProto; it is not changed.
        targets: metrics and amounts, as those of `prune`.
        settings: how, for all of them.
        out: folder that the models are written to, one file for each target; made if missing.
        **changes: single fields of `settings` to override.

    Raises:
        InputError: the model, a target or an option cannot be used.
        TargetError: no target is within reach.
        ProofError: as in `prune`, for all of them.
    """
    options = settings_of(settings, changes)
    _check(targets, options)
    read = read_model(model)
    score = None if options.evaluate is None else scorer(options.evaluate)
    shared = _shared(options, read)
    stem = "model" if isinstance(model, ModelProto) else Path(model).stem
    base = None if out is None else _folder(Path(out)) / stem
    found, errors = list[Swept](), list[Exception]()
    for k, target in enumerate(targets):
        told = partial(_part, options.progress, k, len(targets))
        try:
            result = prune(model, target, shared, progress=told)
        except (TargetError, ProofError) as error:
            errors.append(error)
            found.append(Swept(target, None, why=str(error)))
            continue
        value = None if score is None else float(score(result.pruned.session(options.device)))
        file = "" if base is None else _written(result, base, target)
        found.append(Swept(target, result.report, value, file=file))
    if len(errors) == len(targets):
        raise errors[0]
    original = None if score is None else float(score(read.session(options.device)))
    return Sweep(found, original)


def _check(targets: Sequence[Target], options: Settings) -> None:
    """Refuse what cannot be done: what is wrong with the last target shows before the first."""
    if not targets:
        raise InputError("nothing to do: give targets, such as macs=0.8,macs=0.6")
    if options.max_drop is not None:
        raise InputError("max_drop searches for one target: give it to prune, not to a sweep")
    for target in targets:
        _ = depth_of(target) or budgets(target, [1.0] * len(METRICS), lambda: 1.0)


def _shared(options: Settings, read: Model) -> Settings:
    """Settings of all targets: samples and data are read once, measurements are kept."""
    cache = {} if options.cache is None else options.cache
    plain = replace(options, evaluate=None, cache=cache)
    return with_samples(plain, read.proto)


def _folder(path: Path) -> Path:
    """The folder for the models."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made: {error.strerror}. Choose another folder."
        ) from error
    return path


def _written(result: Result, base: Path, target: Target) -> str:
    """Write the model of a target; the path of its file, whose name begins as `base`."""
    name = target_name(target).replace("=", "_").replace("%", "percent")
    path = base.with_name(f"{base.name}-{name}.onnx")
    result.save(path)
    return str(path)


def _part(progress: Progress, k: int, count: int, stage: str, share: float) -> None:
    """Report what is done of target `k` of `count` as a share of all."""
    progress(f"{k + 1} of {count}: {stage}", (k + share) / count)
