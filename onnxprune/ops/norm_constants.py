"""What normalisations make of channels that always carry one number.

γ·(x - mean)/√(var + ε) + β: γ = 0, or no variation, leaves constants.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxprune.ops.constants import Numbers
from onnxprune.types import Axis, Floats, Node, Read

__all__ = ["affine", "by_channel", "by_group", "by_stored"]


def _parameters(node: Node, read: Read) -> list[Floats] | None:
    """Everything stored beside the data; None if some of it is not."""
    parts = [read(t.name) if t is not None else None for t in node.inputs[1:]]
    if len(node.outputs) > 1 or any(part is None for part in parts):
        return None
    return [np.asarray(part, np.float64) for part in parts]


def affine(node: Node, read: Read) -> tuple[Floats, Floats] | None:
    """Scale and shift of a normalisation by stored statistics."""
    parts = _parameters(node, read)
    if parts is None:
        return None
    gamma, beta, mean, variance = parts
    scale = gamma / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
    return scale, beta - mean * scale


def by_stored(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Move and scale constants by stored statistics."""
    x, parts = node.inputs[0], _parameters(node, numbers.read)
    if x is None or parts is None or not x.size(1):
        return
    gamma, beta, mean, variance = parts
    spread = np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
    moved = gamma * (numbers.of(x, 1) - mean) / spread + beta
    yield node.outputs[0].at(1), np.where(gamma == 0, beta, moved)


def by_channel(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Leave β of channels that do not vary."""
    x, parts = node.inputs[0], _parameters(node, numbers.read)
    if x is None or parts is None or not x.size(1):
        return
    gamma, beta = parts
    yield node.outputs[0].at(1), np.where((gamma == 0) | (numbers.of(x, 1) == 0), beta, np.nan)


def by_group(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Leave β of the channels of groups that do not vary; γ and β may be those of a group."""
    x, parts = node.inputs[0], _parameters(node, numbers.read)
    if x is None or parts is None or not x.size(1):
        return
    values, groups = numbers.of(x, 1), int(node.attrs["num_groups"])
    width = len(values) // max(groups, 1)
    if groups * width != len(values):  # a number of groups that no runtime takes
        return
    flat = (values == 0).reshape(groups, width).all(1).repeat(width)
    gamma, beta = (v.repeat(width) if len(v) == groups else v for v in parts)
    yield node.outputs[0].at(1), np.where((gamma == 0) | flat, beta, np.nan)
