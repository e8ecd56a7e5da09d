"""Make layers sparse one after the other, each refitted to what the original gives there.

The original and the model made sparse so far advance together. At each layer the mask is chosen on
what really reaches it, for a weight that already aims at the original's values (see `aims`): what
earlier layers lost is made up for as far as it can be. The weights that stay, and the bias, are the
least-squares answer given the mask. Layers in between that stay dense are refitted as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.aims import Aim, aim_of, bias_of, readers_of
from onnxprune.calibration import Calibration
from onnxprune.carry import Carrier
from onnxprune.consumers import layers_of
from onnxprune.layers import Layer
from onnxprune.refitting import LayerMoments
from onnxprune.sparse.masked import Masked, Wanted, fitted
from onnxprune.survey import Survey

__all__ = ["Walked", "walked"]

Array = NDArray[Any]


@dataclass
class Walked:
    """New content of stored tensors, and the mask of each that was made sparse."""

    patches: dict[str, Array] = field(default_factory=dict)
    masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)


def walked(
    start: Walked,
    given: tuple[Survey, Calibration],
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
    _Walk(start, given, wanted, fixed).run(progress)


class _Walk:
    """Both models on their way through the graph."""

    def __init__(
        self,
        result: Walked,
        given: tuple[Survey, Calibration],
        wanted: Mapping[str, Wanted],
        fixed: Collection[str],
    ) -> None:
        found, data = given
        self.found, self.wanted, self.result = found, wanted, result
        self.nodes = readers_of(found.nodes)
        self.now = Carrier(found.model, data.batches, {}, data.folder)
        self.order = self.now.order
        layers = [la for la in layers_of(found) if la.weight.name not in fixed]
        self.layers = sorted(layers, key=self._at)
        self.aims = [self._aim(layer) for layer in self.layers]
        needed, reached = dict[str, int](), 0
        for aim in self.aims:
            reached = max(reached, self.order[aim.tensor] + 1)
            needed[aim.tensor] = reached
        self.before = Carrier(found.model, data.batches, needed, data.folder)
        self.rng = np.random.default_rng(0)

    def _at(self, layer: Layer) -> int:
        return self.order[layer.node.outputs[0].name]

    def _aim(self, layer: Layer) -> Aim:
        at = self._at(layer)
        return aim_of(
            layer, self.nodes, self.found.read, lambda name: self.order.get(name, -1) < at
        )

    def read(self, name: str) -> Array | None:
        """Weights as they are now."""
        patch = self.result.patches.get(name)
        return self.found.read(name) if patch is None else patch

    def run(self, progress: Callable[[float], None]) -> None:
        """Refit every layer from the first that something changes."""
        reach, changed = 0, bool(self.result.patches)
        for k, (layer, aim) in enumerate(zip(self.layers, self.aims, strict=True)):
            reach = max(reach, self.order[aim.tensor] + 1)
            changed = changed or layer.weight.name in self.wanted
            if changed:
                self.now.advance(self._at(layer), self.read)
                self.before.advance(reach, self.found.read)
                self._refit(layer, aim)
            progress((k + 1) / len(self.layers))

    def _refit(self, layer: Layer, aim: Aim) -> None:
        stored = self.read(layer.weight.name)
        assert stored is not None
        name, _ = bias_of(layer, self.nodes, self.found.read)
        bias = self.found.read(name) if name else None
        made = self._fitted(layer, aim, stored, bias is not None)
        if made is None:
            return
        if made.mask is not None:
            mask = layer.stored(made.mask.astype(np.float64), stored)
            self.result.masks[layer.weight.name] = mask != 0
        self.result.patches[layer.weight.name] = layer.stored(made.weight, stored)
        if bias is not None:
            self.result.patches[name] = made.bias.reshape(bias.shape).astype(bias.dtype)

    def _fitted(self, layer: Layer, aim: Aim, stored: Array, biased: bool) -> Masked | None:
        weight, wanted = layer.matrix(stored), self.wanted.get(layer.weight.name)
        if layer.depthwise or not biased:
            return None
        moments = LayerMoments()
        for rows, target in self._rows(layer, aim, stored.shape):
            moments.add(rows, target)
        return fitted(moments, weight, wanted, layer.taps(stored.shape))

    def _rows(
        self, layer: Layer, aim: Aim, shape: tuple[int, ...]
    ) -> Iterator[tuple[Array, Array]]:
        """Of every batch inputs (m, d) and targets (m, o)."""
        for now, before in zip(self.now.values, self.before.values, strict=True):
            wanted = before[aim.tensor]
            places = layer.places(wanted.shape, self.rng)
            rows = layer.inputs(now[layer.data.name], wanted.shape, places, shape)
            other = layer.outputs(now[aim.minus], places) if aim.minus else None
            yield rows, aim.of(layer.outputs(wanted, places), other)
