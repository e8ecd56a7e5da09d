"""Make layers sparse one after the other, each refitted to what the original gives there.

The original and the model made sparse so far advance together. At each layer the mask is chosen on
what really reaches it, for a weight that already aims at the original's values (see
`layer_targets`): what earlier layers lost is made up for as far as it can be. The weights that
stay, and the bias, are the least-squares answer given the mask. Layers in between that stay dense
are refitted as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.least_squares import LayerMoments
from onnxprune.compensation.paired_run import PairedRun, own_teacher
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis
from onnxprune.sparsity.layer_fit import Wanted, fitted, not_finite
from onnxprune.types import Read

__all__ = ["Goal", "Reconstructed", "reconstruct"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Goal:
    """What goes of each layer, by the name of its weight, and the weights that nothing changes."""

    wanted: Mapping[str, Wanted]
    fixed: Collection[str] = ()


@dataclass(frozen=True)
class Reconstructed:
    """New content of stored tensors, and the mask of each that was made sparse."""

    patches: Mapping[str, Array] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)

    def reader(self, read: Read) -> Read:
        """The content of stored tensors as it is now."""

        def now(name: str) -> Array | None:
            patch = self.patches.get(name)
            return read(name) if patch is None else patch

        return now


def reconstruct(
    analysis: Analysis,
    data: Calibration,
    goal: Goal,
    start: Reconstructed,
    progress: Callable[[float], None] = lambda share: None,
) -> Reconstructed:
    """Make a model as sparse as asked for, layer after layer.

    Args:
        analysis: the original, with biases to move means into.
        data: samples.
        goal: what goes of each layer.
        start: what was decided in steps before, and for weights that are no layers.
        progress: is told the share done.
    """
    layers = [layer for layer in analysis.layers if layer.weight.name not in goal.fixed]
    masks = dict(start.masks)
    both = PairedRun(analysis, own_teacher(analysis, data), layers, start.patches)
    changed = bool(start.patches)
    for k, layer in enumerate(both.layers):
        changed = changed or layer.weight.name in goal.wanted
        if changed:
            both.advance(k)
            mask = _refit(both, k, goal.wanted.get(layer.weight.name))
            if mask is not None:
                masks[layer.weight.name] = mask
        progress((k + 1) / len(both.layers))
    return Reconstructed(dict(both.patches), masks)


def _refit(both: PairedRun, k: int, wanted: Wanted | None) -> Mask | None:
    """Store the best weight of a layer; its mask, as it is stored, where it was made sparse."""
    layer = both.layers[k]
    stored = both.stored(layer)
    if layer.depthwise or both.bias(layer)[1] is None:
        return None
    moments = LayerMoments()
    for rows in both.rows(k):
        moments.add(rows.inputs, rows.target)
    if not (moments.finite and np.isfinite(stored).all()):
        raise InputError(not_finite(layer.weight.name))
    made = fitted(moments, layer.matrix(stored), wanted, layer.taps(stored.shape))
    both.store(layer, layer.stored(made.weight, stored), made.bias)
    if made.mask is None:
        return None
    return np.asarray(layer.stored(made.mask.astype(np.float64), stored) != 0)
