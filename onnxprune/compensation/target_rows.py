"""Take from the teacher, in one pass over the samples, the values that layers should give.

At which places is drawn for each layer and batch from its own seed, so that both models are looked
at in the same places whenever their turn comes. Only the values at these places are kept, beyond a
limit in files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.samples import Calibration
from onnxprune.calibration.single_pass import Asked, single_pass
from onnxprune.compensation.layer_targets import LayerTarget
from onnxprune.compensation.teacher import Teacher
from onnxprune.groups.layers import POSITIONS, Layer, Places

__all__ = ["Look", "TargetRows", "positions_of"]

Array = NDArray[Any]
#: Numbers in the rows of a layer's inputs, at most, unless it then has fewer rows for each input
#: than these, or fewer positions of each sample.
ELEMENTS, ROWS_PER_INPUT, LEAST_POSITIONS = 2**25, 64, 4
#: Bytes of rows that stay in memory.
MEMORY = 2**28


@dataclass(frozen=True)
class Look:
    """One layer, what it should give, and how many positions of each sample are looked at."""

    layer: Layer
    target: LayerTarget
    positions: int


def positions_of(layer: Layer, shape: tuple[int, ...], samples: int) -> int:
    """How many output positions of each sample a layer with a weight of `shape` is fitted to.

    As many rows as `ELEMENTS` allow, and at least `ROWS_PER_INPUT` for each input. Every channel of
    a depthwise layer is fitted by itself, to its taps alone.
    """
    inputs = math.prod(shape) // (1 if layer.depthwise else shape[layer.kernel.out_axis])
    fitted = layer.taps(shape) if layer.depthwise else inputs
    rows = max(ROWS_PER_INPUT * fitted, ELEMENTS // inputs)
    return min(max(-(-rows // max(samples, 1)), LEAST_POSITIONS), POSITIONS)


class TargetRows:
    """What a teacher gives at places drawn for each layer, on every batch."""

    def __init__(
        self,
        teacher: Teacher,
        data: Calibration,
        looks: Mapping[int, Look],
        growth: Mapping[str, float],
    ) -> None:
        """Run the teacher.

        Args:
            teacher: gives the values to reach.
            data: samples to run it on.
            looks: the layers by number.
            growth: elements of each tensor in shares of those of all inputs.
        """
        self._looks = looks
        self._shapes: dict[int, list[tuple[int, ...]]] = {k: [] for k in looks}
        self._failed: dict[int, Exception] = {}
        self._store = ActivationStore([{} for _ in data.batches], data.place, MEMORY)
        asked = Asked({look.target.tensor for look in looks.values()}, growth)
        given = single_pass(teacher.model, data.batches, asked, teacher.read, data.place)
        for number, values in given:
            for k, look in looks.items():
                if look.target.tensor in values and k not in self._failed:
                    value = teacher.value(look.target.tensor, values[look.target.tensor])
                    self._take(k, number, value)

    def _take(self, k: int, number: int, value: Array) -> None:
        """Keep the rows of one layer on one batch; a failure costs this layer alone."""
        try:
            rows = self._looks[k].layer.outputs(value, self._places(k, number, value.shape))
        except (MemoryError, OSError):
            raise
        except Exception as error:
            self._failed[k] = error
            return
        self._shapes[k].append(value.shape)
        self._store.add(self._store.batches[number], {str(k): np.array(rows)})

    def _places(self, k: int, number: int, shape: tuple[int, ...]) -> Places:
        rng = np.random.default_rng((k, number))
        return self._looks[k].layer.places(shape, rng, self._looks[k].positions)

    def rows(self, k: int) -> Iterator[tuple[Array, tuple[int, ...], Places]]:
        """Values (m, o) of layer number `k` on every batch, shape of its result, and places.

        Raises:
            Exception: what went wrong when they were taken.
        """
        if k in self._failed:
            raise self._failed[k]
        for number, (shape, batch) in enumerate(
            zip(self._shapes[k], self._store.batches, strict=True)
        ):
            yield batch[str(k)], shape, self._places(k, number, shape)

    def drop_before(self, k: int) -> None:
        """Forget the rows of layers with a number below `k`, and their files."""
        past = [j for j in self._shapes if j < k]
        self._store.drop(map(str, past))
        for j in past:
            del self._shapes[j]
