"""Hold a budget for the bytes of the file, which are known only once it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from onnxprune.ir import save, zero_biases
from onnxprune.surgery.cut import Stage

__all__ = ["excess_bytes", "within_size"]

#: Bytes that a missed size is tightened by beside the excess: the framing of a file varies.
FRAMING = 64


def excess_bytes(stage: Stage, budgets: Mapping[str, float]) -> float:
    """Bytes of a stage's file above the budget `size`, zero biases that will go not counted."""
    own = save.file_bytes(stage.model) - zero_biases.spare_bytes(stage.model)
    return float(own - budgets.get("size", np.inf))


def within_size(
    budgets: Mapping[str, float], make: Callable[[Mapping[str, float]], Stage]
) -> Stage:
    """Make a stage, with tighter budgets until its file holds the one for `size`.

    Raises:
        TargetError: `make` cannot hold its budgets any more.
    """
    asked = budgets
    while True:
        stage = make(asked)
        if "size" not in budgets:
            return stage
        excess = excess_bytes(stage, budgets)
        if excess <= 0:
            return stage
        asked = {**asked, "size": asked["size"] - excess - FRAMING}
