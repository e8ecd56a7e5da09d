"""Values that a report is made of: costs of one model, drift between two."""

from __future__ import annotations

from dataclasses import dataclass

from onnxprune.ir.timing import Latency

__all__ = ["Fidelity", "Measured"]


@dataclass(frozen=True)
class Measured:
    """One model: MACs at the sample input, parameters, bytes of the file, latency, accuracy."""

    macs: float
    params: float
    bytes: int
    nodes: int
    latency: Latency | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Fidelity:
    """How close outputs are to the original's: cosine and agreement are 1 when equal, SQNR None.

    `agreement` is the share of samples with the same largest output; None where no output looks
    like logits. `accuracy` holds top-1 of original and pruned where labels are known.
    """

    cosine: float
    sqnr_db: float | None
    agreement: float | None
    samples: int
    data: str
    accuracy: tuple[float, float] | None = None
