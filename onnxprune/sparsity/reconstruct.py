"""Make layers sparse one after the other, each refitted to what the original gives there.

The original and the model made sparse so far advance together. At each layer the mask is chosen on
what really reaches it, for a weight that already aims at the original's values (see `aims`): what
earlier layers lost is made up for as far as it can be. The weights that stay, and the bias, are the
least-squares answer given the mask. Layers in between that stay dense are refitted as well.
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
from onnxprune.groups.analysis import Analysis
from onnxprune.sparsity.layer_fit import Wanted, fitted

__all__ = ["Reconstructed", "reconstruct"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass
class Reconstructed:
    """New content of stored tensors, and the mask of each that was made sparse."""

    patches: dict[str, Array] = field(default_factory=dict)
    masks: dict[str, Mask] = field(default_factory=dict)


def reconstruct(
    start: Reconstructed,
    given: tuple[Analysis, Calibration],
    wanted: Mapping[str, Wanted],
    fixed: Collection[str],
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Weights for a model that is as sparse as `wanted` says, by name of the weight.

    Args:
        start: what is already decided, for weights that are no layers or in steps before; takes
            what is found.
        given: the original, with biases to move means into, and samples.
        wanted: what goes of each layer's weight.
        fixed: weights that nothing is to change.
        progress: is told the share done.
    """
    found, data = given
    layers = [layer for layer in found.layers if layer.weight.name not in fixed]
    both = PairedRun(found, own_teacher(found, data), layers, start.patches)
    changed = bool(start.patches)
    for k, layer in enumerate(both.layers):
        changed = changed or layer.weight.name in wanted
        if changed:
            both.advance(k)
            mask = _refit(both, k, wanted.get(layer.weight.name))
            if mask is not None:
                start.masks[layer.weight.name] = mask
        progress((k + 1) / len(both.layers))
    start.patches.update(both.patches)


def _refit(both: PairedRun, k: int, wanted: Wanted | None) -> Mask | None:
    """Take the best weight of a layer; its mask, as it is stored, where it was made sparse."""
    layer = both.layers[k]
    stored = both.stored(layer)
    if layer.depthwise or both.bias(layer)[1] is None:
        return None
    moments = LayerMoments()
    for rows in both.rows(k):
        moments.add(rows.inputs, rows.target)
    made = fitted(moments, layer.matrix(stored), wanted, layer.taps(stored.shape))
    both.store(layer, layer.stored(made.weight, stored), made.bias)
    if made.mask is None:
        return None
    return np.asarray(layer.stored(made.mask.astype(np.float64), stored) != 0)
