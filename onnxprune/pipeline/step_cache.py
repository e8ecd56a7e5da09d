"""Keep finished steps of a run in a folder beside the cache, so that a stopped run goes on.

A step is the model after it with its plan, its proof and what the report says of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from onnxprune.allocation.widths import planned_blocks
from onnxprune.atomic_files import DAMAGED, Store
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis
from onnxprune.importance.criteria import CRITERIA
from onnxprune.ops.registry import COUPLINGS
from onnxprune.pipeline.model_store import KeptModel, keep_model, kept_model
from onnxprune.settings import CalibrationSettings, SelectionSettings, Settings, settings_key
from onnxprune.surgery import plan_file
from onnxprune.surgery.cut import Stage
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import Proof
from onnxprune.user_code import registered

__all__ = ["block_sizes", "folder_of", "resumed", "run_key"]

#: Steps that a folder holds; the oldest go first.
STEPS = 8


def folder_of(options: CalibrationSettings) -> Path | None:
    """Name the folder where steps are kept; None without a cache file."""
    cache = options.cache
    return Path(f"{os.fspath(cache)}.steps") if isinstance(cache, (str, os.PathLike)) else None


def run_key(model: str, samples: str, wanted: Mapping[str, float], options: Settings) -> str:
    """Digest what the steps of a run depend on.

    Args:
        model: digest of the model before the first step.
        samples: digest of the calibration samples.
        wanted: absolute budgets per metric, for latency a share.
        options: how.
    """
    own = registered(CRITERIA, COUPLINGS)
    facts = model, wanted, own, block_sizes(wanted, options)
    return settings_key(options, *facts, samples=samples, timed="latency" in wanted)


def block_sizes(wanted: Collection[str], options: SelectionSettings) -> tuple[int, int] | None:
    """Channels of the runtime's blocks, on which plans for these targets depend."""
    blocks = planned_blocks(wanted, options)
    return None if blocks is None else (blocks.convolution, blocks.product)


def resumed(
    folder: Path, key: str, analysis: Analysis, make: Callable[[], Stage]
) -> tuple[Stage, bool]:
    """Take the step that was kept, else make and keep it; also tell whether it was kept.

    `analysis` is that of the model that the step begins with.

    Raises:
        InputError: the folder cannot be written to.
    """
    store = Store(folder, STEPS)
    kept = kept_model(store, key)
    stage = None if kept is None else _stage(folder / f"{key}.json", kept, analysis)
    if stage is not None:
        return stage, True
    stage = make()
    facts = json.loads(plan_file.dumps(stage.plan, stage.analysis.stored, ""))
    facts |= {"proof": asdict(stage.proof), "notes": stage.notes}
    try:
        keep_model(store, key, stage.model, facts)
    except InputError as error:
        raise InputError(f"cache {error}") from error
    return stage, False


def _stage(path: Path, kept: KeptModel, analysis: Analysis) -> Stage | None:
    """Fit a step that was kept to the model that it began with; None where it does not fit."""
    try:
        plan = plan_file.loads(path).plan
        groups, alive = plan_file.channels_of(plan, analysis.groups, analysis.stored)
        proof, notes = Proof(**kept.facts["proof"]), tuple(kept.facts["notes"])
    except (OSError, InputError, *DAMAGED):
        return None
    analysis = analysis.with_groups(groups)
    plan = plan_of(groups, alive)
    stage = Stage(analysis, alive, plan, kept.model, proof, {}, {}, {})
    return replace(stage, notes=notes, as_given=False)
