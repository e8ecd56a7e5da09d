"""Steps of a run that are finished, in a folder beside the cache, so that a stopped run goes on.

A step is `<key>.onnx`, the model after it, and `<key>.json`, its plan and proof; that file is
written last. The key is the digest of everything that the step depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis, load
from onnxprune.ir import save
from onnxprune.settings import Settings
from onnxprune.surgery import plan_file
from onnxprune.surgery.cut import Stage
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import Proof
from onnxprune.version import __version__

__all__ = ["folder_of", "resumed", "run_key"]

#: Steps that a folder holds; the oldest go first.
STEPS = 8
#: Settings that change nothing about a step.
_APART = frozenset(
    "data calib cache evaluate max_drop device batch latency scratch progress rules".split()
)


def folder_of(options: Settings) -> Path | None:
    """Where steps are kept; None without a cache file."""
    cache = options.cache
    return Path(f"{os.fspath(cache)}.steps") if isinstance(cache, (str, os.PathLike)) else None


def run_key(model: str, samples: str, wanted: Mapping[str, float], options: Settings) -> str:
    """What a run depends on: digests of model and samples, absolute budgets, settings."""
    facts = [(f.name, getattr(options, f.name)) for f in fields(options) if f.name not in _APART]
    rules: Any = options.rules
    if isinstance(rules, (str, os.PathLike)):
        rules = Path(rules).read_bytes()
    known = [__version__, model, samples, sorted(wanted.items()), facts, rules]
    return hashlib.sha256(repr(known).encode()).hexdigest()[:32]


def resumed(
    folder: Path, key: str, analysis: Analysis, make: Callable[[], Stage]
) -> tuple[Stage, bool]:
    """The step that was kept, else the one that `make` gives, kept from now on; and whether it was.

    `found` is the model that it begins with.
    """
    stage = _finished(folder, key, analysis)
    if stage is not None:
        return stage, True
    stage = make()
    _keep(folder, key, stage)
    return stage, False


def _finished(folder: Path, key: str, analysis: Analysis) -> Stage | None:
    """A step that was kept, for the model it began with; None if there is none that can be used."""
    path = folder / f"{key}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model = load(path.with_suffix(".onnx"))
        if save.digest(path.with_suffix(".onnx"), model) != content["model"]:
            return None
        plan, _ = plan_file.loads(path)
        groups, kept = plan_file.channels_of(plan, analysis.groups, analysis.stored)
        proof, notes = Proof(**content["proof"]), tuple(content["notes"])
    except (OSError, InputError, ValueError, KeyError, TypeError):
        return None
    analysis = analysis.with_groups(groups)
    return Stage(analysis, kept, plan_of(groups, kept), model, proof, {}, {}, {}, notes=notes)


def _keep(folder: Path, key: str, stage: Stage) -> None:
    """Store a finished step, or raise InputError."""
    path = folder / f"{key}.json"
    try:
        folder.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        save.save(stage.model, path.with_suffix(".onnx"))
        content = json.loads(plan_file.dumps(stage.plan, stage.analysis.stored, ""))
        content["model"] = save.digest(path.with_suffix(".onnx"), load(path.with_suffix(".onnx")))
        content |= {"proof": asdict(stage.proof), "notes": stage.notes}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(content), encoding="utf-8")
        os.replace(part, path)
        _tidy(folder)
    except OSError as error:
        raise InputError(f"cache {folder}: cannot be written: {error.strerror}") from error


def _tidy(folder: Path) -> None:
    """Remove the oldest steps."""
    steps = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in steps[:-STEPS]:
        model = path.with_suffix(".onnx")
        for file in (path, model, save.data_path(model)):
            file.unlink(missing_ok=True)
