"""Where the model runs on samples, and where lies what memory has no room for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from onnxprune.ir.runtime import Device

__all__ = ["Workplace"]


@dataclass(frozen=True)
class Workplace:
    """What runs on samples need beside the model.

    Attributes:
        folder: where files lie that hold what memory has no room for, None: the system's.
        device: what runs the model.
    """

    folder: Path | None = None
    device: Device = field(default_factory=lambda: Device(threads=0))
