"""The smaller model that a plan makes of an exported one, without proof: a module is held to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import read_model
from onnxprune.surgery import plan_file
from onnxprune.surgery.cut import narrowed
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.plan_file import PlanFile
from onnxprune.types import Group, Masks, Plan, Read

__all__ = ["Planned", "planned", "read_plan"]


@dataclass(frozen=True)
class Planned:
    """An exported model and what a plan leaves of it.

    Attributes:
        analysis: of the exported model.
        kept: (n_channels,) which channels of every group stay.
        plan: the same as positions.
        model: the smaller model, with the weights of the exported one.
        read: content of the exported model's stored tensors.
        times: what stored vectors are multiplied with beside being cut.
    """

    analysis: Analysis
    kept: Masks
    plan: Plan
    model: ModelProto
    read: Read
    times: Mapping[str, float]

    @property
    def groups(self) -> Sequence[Group]:
        """The groups that `kept` speaks of."""
        return self.analysis.groups

    @property
    def matrices(self) -> set[str]:
        """Names of the stored tensors with more than one axis of several positions."""
        shapes = self.analysis.stored.items()
        return {name for name, shape in shapes if sum(size != 1 for size in shape) > 1}


def read_plan(plan: object) -> PlanFile:
    """The plan in a file, in a result of `prune`, or as it is.

    Raises:
        InputError: it is nothing of these, or asks for what no module can be given.
    """
    text = getattr(plan, "plan_json", None)
    if isinstance(plan, PlanFile):
        saved = plan
    elif isinstance(plan, Plan):
        saved = PlanFile(plan, "")
    elif isinstance(text, str):
        saved = plan_file.parsed(text, "the result's plan")
    elif isinstance(plan, str | Path):
        saved = plan_file.loads(Path(plan))
    else:
        raise InputError(f"plan {type(plan).__name__}: give the file of --plan, or prune's result")
    if saved.extent is not None:
        raise InputError(
            "the plan looks at less of an input ('extent'), which no module can be given: "
            "write the plan without --spatial"
        )
    if saved.rotations:
        raise InputError(
            "the plan turns residual streams before it cuts them, which no module can be given: "
            "leave them as they are by --no-rotate"
        )
    if saved.convolved:
        raise InputError(
            f"the plan makes shortcut '{saved.convolved[0]}' by a convolution, which the module "
            "lacks: use --round-to 1 or 8, which leave shortcuts as they are"
        )
    if saved.plan.beyond:
        axis = min(saved.plan.beyond)
        raise InputError(
            f"the plan adds channels of zeros to '{axis.tensor}' axis {axis.axis}: use "
            "--round-to 1, which adds none"
        )
    return saved


def planned(model: Source, saved: PlanFile) -> Planned:
    """Cut an exported model by a plan.

    Args:
        model: the model that the plan was made for, or another checkpoint of its graph.
        saved: the plan.

    Raises:
        InputError: the plan does not fit the model.
    """
    analysis = analyze(read_model(model).whole)
    groups, kept = plan_file.channels_of(saved.plan, analysis.groups, analysis.stored)
    analysis = analysis.with_groups(groups)
    plan = plan_of(groups, kept)
    smaller = narrowed(analysis, kept, None)
    return Planned(analysis, kept, plan, smaller, analysis.read, _times(analysis, plan, smaller))


def _times(analysis: Analysis, plan: Plan, smaller: ModelProto) -> dict[str, float]:
    """What vectors were multiplied with, as norms go on dividing by the width before."""
    after, found = graph.reader(smaller), {}
    for axis, keep in plan.keep.items():
        before, values = analysis.read(axis.tensor), after(axis.tensor)
        if before is None or values is None or values.dtype.kind != "f":
            continue
        if before.size != before.shape[axis.axis] or len(keep) == 0:
            continue
        factor = _ratio(before.ravel()[keep], values.ravel())
        if factor != 1.0:
            found[axis.tensor] = factor
    return found


def _ratio(before: NDArray[Any], after: NDArray[Any]) -> float:
    if before.shape != after.shape or np.array_equal(before, after):
        return 1.0
    largest = np.abs(before.astype(np.float64)).argmax()
    return float(after[largest]) / float(before[largest])
