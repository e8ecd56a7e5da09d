"""Say how far outputs move where this processor saturates sums of products of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import exact_products, external_data, graph, runtime
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.surgery.proof import Outputs

__all__ = ["Samples", "moved", "saturation_notes", "seen_by_analysis"]

#: Models with more bytes of weights are not run twice for this.
MEASURED = 2**30


class Samples(NamedTuple):
    """What models are run on, and what reports call it."""

    feeds: feeding.Feeds
    name: str


def saturation_notes(
    models: Mapping[str, ModelProto], samples: Samples, device: runtime.Device
) -> list[str]:
    """Run models as they are and with exact products, if this processor saturates.

    Args:
        models: what the report calls them, and their graphs with all weights.
        samples: what they run on.
        device: where.

    Returns:
        One sentence if outputs move, else none.
    """
    if device.resolve() != runtime.CPU or not exact_products.saturates():
        return []
    shares = {name: moved(model, samples.feeds, device) for name, model in models.items()}
    told = [f"those of {name} by {share:.2%}" for name, share in shares.items() if share]
    if not told:
        return []
    return [
        "this processor adds products of bytes in 16 bits and saturates, which moves outputs: "
        f"{', '.join(told)} of their largest value, on {samples.name}. The proof does not depend "
        "on it. Weights that `quantise` writes do not saturate"
    ]


def moved(model: ModelProto, feeds: feeding.Feeds, device: runtime.Device) -> float:
    """The largest difference to what exact products give, in shares of the largest value."""
    pairs = ops.byte_products()
    if not exact_products.has_pairs(model, pairs) or graph.stored_bytes(model) > MEASURED:
        return 0.0
    whole, changed = external_data.inlined(model), ModelProto()
    changed.CopyFrom(whole)
    before = len(changed.graph.node)
    if len(exact_products.exact(changed, pairs, ops.DECODERS).graph.node) == before:
        return 0.0
    plain, exact = (
        runtime.run(runtime.open_session(graph.model_bytes(m), device), feeds)
        for m in (whole, changed)
    )
    return max((_share(exact[name], plain[name]) for name in _reals(exact)), default=0.0)


def _reals(outputs: Outputs) -> Sequence[str]:
    return [name for name, value in outputs.items() if np.issubdtype(value.dtype, np.number)]


def _share(exact: NDArray[Any], plain: NDArray[Any]) -> float:
    if exact.shape != plain.shape:  # sizes that depend on data
        return 1.0
    wide = exact.astype(np.float64)
    gap = np.abs(plain.astype(np.float64) - wide)
    return float(gap.max(initial=0.0) / max(np.abs(wide).max(initial=0.0), 1e-30))


def seen_by_analysis(analysis: Analysis, seed: int = 0) -> list[str]:
    """The same of one model, on seeded inputs."""
    feeds = feeding.seeded(analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, seed)
    models = {"the model": analysis.original}
    return saturation_notes(models, Samples(feeds, "seeded inputs"), runtime.Device())
