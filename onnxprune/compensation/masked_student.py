"""The model in the making, with removed positions where what is cut will find them.

Zero weights make zeros. What subtracts a mean does not take them for nothing, however: once they
are gone it sees the mean of those that stay. So the model in the making reads that mean there, as
the reference of the proof does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import instrument, skeleton
from onnxprune.surgery.proof import alive, masks_of
from onnxprune.types import Plan

__all__ = ["masked_student"]


def masked_student(analysis: Analysis, plan: Plan) -> tuple[Analysis, dict[str, NDArray[Any]]]:
    """Let a model be told which positions live.

    Args:
        analysis: the model.
        plan: what goes of it.

    Returns:
        The model, in which all positions live, without its large weights, which `read` gives; and
        the content of stored tensors that lets those of the plan go. The same model and nothing
        where no mean is subtracted along an axis that is cut.
    """
    nodes = [node for node in analysis.nodes if {node.op} & (ops.CENTRES.keys() | ops.AVERAGES)]
    masks = masks_of(nodes, plan.keep.keys())
    if not any(mask.centred for mask in masks):
        return analysis, {}
    model = instrument.masked(skeleton.without_constant_nodes(analysis.model), masks)
    living = {mask.feed: np.asarray(alive(mask, plan)) for mask in masks}
    whole = {name: np.ones_like(values) for name, values in living.items()}

    def read(name: str) -> NDArray[Any] | None:
        return whole[name] if name in whole else analysis.read(name)

    return replace(analysis, model=model, read=read), living
