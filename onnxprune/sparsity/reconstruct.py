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
from onnxprune.compensation.paired_run import PairedRun, refusal
from onnxprune.compensation.teacher import own_teacher
from onnxprune.groups.analysis import Analysis
from onnxprune.sparsity.layer_fit import Masked, Wanted, fitted, not_finite
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
    """New content of stored tensors, and the mask of each that was made sparse.

    `refitted` are results of layers that were refitted, `failed` says of others why not.
    """

    patches: Mapping[str, Array] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)
    refitted: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)

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
    layers = [layer for layer in analysis.refittable if layer.weight.name not in goal.fixed]
    masks = dict(start.masks)
    both = PairedRun(analysis, own_teacher(analysis, data), layers, start.patches)
    numbers = _to_refit(both, goal, bool(start.patches))
    both.look_at(numbers)
    refitted, failed = set[str](), dict[str, str]()
    for done, k in enumerate(numbers):
        layer = both.layers[k]
        both.advance(k)
        try:
            made = _fitted(both, k, goal.wanted.get(layer.weight.name))
        except Exception as error:  # costs this layer alone, which is named in the report
            failed[layer.node.outputs[0].name] = refusal(error)
            continue
        stored = both.stored(layer)
        both.store(layer, layer.stored(made.weight, stored), made.bias)
        refitted.add(layer.node.outputs[0].name)
        if made.mask is not None:
            mask = layer.stored(made.mask.astype(np.float64), stored) != 0
            masks[layer.weight.name] = np.asarray(mask)
        progress((done + 1) / len(numbers))
    return Reconstructed(dict(both.patches), masks, frozenset(refitted), failed)


def _to_refit(both: PairedRun, goal: Goal, changed: bool) -> list[int]:
    """Numbers of the layers that get new weights: from the first on that becomes sparse.

    From the first layer on if what comes before has `changed` already.
    """
    names = [layer.weight.name in goal.wanted for layer in both.layers]
    first = 0 if changed else next((k for k, wanted in enumerate(names) if wanted), len(names))
    return [
        k
        for k, layer in enumerate(both.layers)
        if k >= first and not layer.depthwise and both.bias(layer)[1] is not None
    ]


def _fitted(both: PairedRun, k: int, wanted: Wanted | None) -> Masked:
    """The best weight, bias and mask of a layer."""
    layer = both.layers[k]
    stored, moments = both.stored(layer), LayerMoments()
    for rows in both.rows(k):
        moments.add(rows.inputs, rows.target)
    if not (moments.finite and np.isfinite(stored).all()):
        raise ArithmeticError(not_finite(layer.weight.name))
    made = fitted(moments, layer.matrix(stored), wanted, layer.taps(stored.shape))
    if not (np.isfinite(made.weight).all() and np.isfinite(made.bias).all()):
        raise ArithmeticError("its least squares have no finite solution")
    return made
