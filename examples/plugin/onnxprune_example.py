"""Plug-ins for onnxprune: what its entry points name, without importing onnxprune."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

#: Rules for operators of one's own, as tables in a file say them: `--rules acme`.
RULES = {"com.acme:Swoosh": {"kind": "elementwise"}}


def spread(group: Any) -> NDArray[np.float64]:
    """Score channels by how much their weights vary: `--importance spread`.

    Args:
        group: `rows` are the weights (n_channels, k) that make the channels, one after the other.

    Returns:
        (n_channels,) scores; higher means keep.
    """
    return sum(
        (rows.std(1, dtype=np.float64) for rows in group.rows), np.zeros(group.group.channels)
    )


def stamp(model: onnx.ModelProto, value: str = "", **texts: str) -> onnx.ModelProto:
    """Write metadata into a model: `--then stamp=TEXT`, or in a recipe `kind = "stamp"`.

    Args:
        model: what the stage before made; it may be changed.
        value: the text behind `stamp=`.
        **texts: keys and values of a recipe's table.
    """
    for key, text in {**({"stamp": value} if value else {}), **texts}.items():
        model.metadata_props.add(key=key, value=text)
    return model
