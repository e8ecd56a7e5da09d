"""Values that reports are made of: the costs of one model, the drift between two."""

from __future__ import annotations

from dataclasses import dataclass

from onnxprune.ir.timing import Latency

__all__ = ["Fidelity", "LayerDivergence", "LayerDivergences", "Measured"]


@dataclass(frozen=True)
class Measured:
    """The costs of one model.

    Attributes:
        macs: multiply-accumulates at the sample input.
        params: numbers in weights.
        bytes: of the file.
        nodes: operators.
        latency: None where it was not measured.
        accuracy: top-1, None without labels.
    """

    macs: float
    params: float
    bytes: int
    nodes: int
    latency: Latency | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Fidelity:
    """How close the outputs of a pruned model are to the original's.

    Attributes:
        cosine: of all outputs as one vector; 1 where they are equal.
        sqnr_db: signal to noise in decibels; None where outputs are equal.
        agreement: share of samples with the same largest score; None without an output of scores.
        samples: how many.
        data: what reports call them.
        accuracy: top-1 of original and pruned model, None without labels.
    """

    cosine: float
    sqnr_db: float | None
    agreement: float | None
    samples: int
    data: str
    accuracy: tuple[float, float] | None = None


@dataclass(frozen=True)
class LayerDivergence:
    """How far one layer of a pruned model is from the original's.

    Attributes:
        name: of the layer's node in the original.
        output: the tensor that was compared.
        divergence: energy of the difference in shares of the original's, where channels stay.
    """

    name: str
    output: str
    divergence: float


@dataclass(frozen=True)
class LayerDivergences:
    """The layers that were compared, in the order of the graph, and on what."""

    data: str
    samples: int
    rows: tuple[LayerDivergence, ...]
