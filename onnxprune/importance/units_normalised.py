"""Channels that layers and normalisations read: the stream of a transformer.

They are ranked by elimination in all layers that read them, as channels that only layers read are.
Where the model is run, what makes them gives zeros, normalisations are scaled back to the size of
their results (`normalised_energy`), and the layers are refitted to what they gave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.normalised_energy import Norm, rescaled
from onnxprune.compensation.obs import eliminate
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.readers import GroupReaders
from onnxprune.groups.units import channel_unit
from onnxprune.importance.channels import Sensitivity, not_measured, response, widths_measured
from onnxprune.importance.output_divergence import Weights
from onnxprune.importance.sensitivity import Measurable, Response
from onnxprune.importance.stored_layer import name_of, stored_layer
from onnxprune.importance.units_refitted import problem_of, refit_of
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import masked_weights
from onnxprune.types import Floats, Ints

__all__ = ["normalised_unit"]


def normalised_unit(
    analysis: Analysis, own: GroupReaders, norms: Sequence[Norm], shares: Mapping[str, Floats]
) -> Measurable[Sensitivity]:
    """Say how a group is measured that normalisations and layers read.

    Args:
        analysis: the original.
        own: the layers that read the group.
        norms: of the model.
        shares: what each position holds of what they add up, by the name of γ.
    """

    def respond(statistics: Mapping[str, Statistics]) -> Response[Sensitivity]:
        layers = [stored_layer(layer, analysis) for layer in own.layers]
        known = [statistics[name_of(layer)] for layer in own.layers]
        triples = zip(layers, known, own.columns, strict=True)
        units, errors = eliminate([problem_of(*triple) for triple in triples])
        refits = [refit_of(la, s, own.group) for la, s in zip(layers, known, strict=True)]

        def weights(kept: Ints) -> Weights:
            mask = np.zeros(own.group.channels, bool)
            mask[kept] = True
            plan = plan_of([own.group], [mask])
            changed = masked_weights(analysis.read, analysis.nodes, plan)

            def read(name: str) -> NDArray[np.generic] | None:
                return changed[name] if name in changed else analysis.read(name)

            changed |= rescaled(norms, shares, plan, read)
            return changed | {n: new for one in refits for n, new in one.weights(kept).items()}

        return response(own.group, units[::-1], errors, weights)

    return Measurable(
        channel_unit(own.group),
        partial(widths_measured, own.group, False),
        respond,
        partial(not_measured, own.group),
        own.layers,
        {axis.tensor for axis, _ in own.group.axes()} & analysis.stored.keys(),
    )
