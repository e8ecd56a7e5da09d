"""Gradients of Resize, which mixes positions along one axis after the other.

Along an axis of n positions the result is M · x with M (new, n) of fixed weights, so that the
gradient is Mᵀ · dy. Weights are those of the standard: positions of the result are mapped into the
data, and mix the one, two or four positions around.
"""

from __future__ import annotations

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of, text_of, to_first
from onnxprune.types import Floats, Ints, Node

__all__ = ["resize"]


def resize(t: Builder, node: Node, dy: str) -> Gradients:
    """Mᵀ · dy for every axis whose size changes; sizes along it must be static."""
    x, y = tensor_of(node), node.outputs[0]
    need(node.opset >= 11)
    plain = not node.attrs.get("antialias", 0) and not node.attrs.get("exclude_outside", 0)
    need(plain and text_of(node, "keep_aspect_ratio_policy", "stretch") == "stretch")
    scales = _scales(node, x.rank)
    for axis in range(x.rank):
        old, new = x.size(axis), y.size(axis)
        if old is None or new is None:
            need(old is new is None and scales.get(axis, 1.0) == 1)
        elif old != new or scales.get(axis, 1.0) != 1:
            matrix = _weights(node, old, new, scales.get(axis, new / old))
            dy = t.mixed(dy, x.rank, axis, matrix)
    return to_first(node, dy)


def _scales(node: Node, rank: int) -> dict[int, float]:
    """What the node says of scales, by axis; nothing where it names sizes."""
    given, listed = node.input(2), []
    if given is not None and given.size(0) != 0:
        need(given.value is not None and given.known is None)
        listed = np.asarray(given.value).ravel().tolist()
    axes = [int(a) % rank for a in node.attrs.get("axes") or range(rank)]
    return dict(zip(axes, listed or (), strict=False))


def _weights(node: Node, old: int, new: int, scale: float) -> Floats:
    """(new, old) how much each position of the data counts in each of the result."""
    mode, at = text_of(node, "mode", "nearest"), _places(node, old, new, scale)
    if mode == "nearest":
        return _eye(_nearest(node, at), old)
    need(mode in ("linear", "cubic"))
    if mode == "linear":
        at = np.clip(at, 0, old - 1)
    low = np.floor(at).astype(np.int64)
    share = (at - low)[:, None]
    if mode == "linear":
        return _eye(low, old) * (1 - share) + _eye(low + 1, old) * share
    a = float(node.attrs.get("cubic_coeff_a", -0.75))
    parts = [_cubic(share - k, a) * _eye(low + k, old) for k in range(-1, 3)]
    return np.asarray(np.sum(parts, 0), np.float64)


def _eye(places: Ints, size: int) -> Floats:
    """A row for each place, with a one there; outside is the border."""
    return np.eye(size)[np.clip(places, 0, size - 1)]


def _cubic(apart: Floats, a: float) -> Floats:
    """Keys' kernel (1981)."""
    d = np.abs(apart)
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _places(node: Node, old: int, new: int, scale: float) -> Floats:
    """Where each position of the result lies in the data, computed in the runtime's type."""
    how = text_of(node, "coordinate_transformation_mode", "half_pixel")
    at, step = np.arange(new, dtype=np.float32), np.float32(scale)
    if how == "align_corners":
        at = at * np.float32(old - 1) / np.float32(max(new - 1, 1))
    elif how == "asymmetric":
        at = at / step
    else:
        need(how in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"))
        at = (at + np.float32(0.5)) / step - np.float32(0.5)
    if how == "half_pixel_symmetric":
        at = at + np.float32(old / 2 * (1 - new / (scale * old)))
    if how == "pytorch_half_pixel" and new == 1:
        at = at * 0
    return np.asarray(at, np.float64)


def _nearest(node: Node, at: Floats) -> Ints:
    """Places rounded as the node says."""
    how = text_of(node, "nearest_mode", "round_prefer_floor")
    rounded = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
    }
    need(how in rounded)
    return rounded[how].astype(np.int64)
