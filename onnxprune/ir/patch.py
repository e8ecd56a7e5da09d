"""New content for stored tensors of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.ir import edit, external_data, graph
from onnxprune.ir.graph import ModelProto

__all__ = ["patch"]


def patch(
    model: ModelProto, patches: Mapping[str, NDArray[Any]], scratch: Path | None = None
) -> ModelProto:
    """Replace the content of stored tensors, in their own types; `scratch` takes external ones."""
    if not patches:
        return model
    old = graph.reader(model)
    changed = {name: lambda n: patches[n].astype(_dtype(old(n))) for name in patches}
    with external_data.spill(scratch) as put:
        return edit.rebuild(model, changed, (), {}, put)


def _dtype(stored: NDArray[Any] | None) -> np.dtype[Any]:
    assert stored is not None
    return stored.dtype
