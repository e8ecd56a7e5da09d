"""Keep the activations of many batches: in memory up to a limit, beyond it in temporary files.

Each tensor has a file of its own, which holds it for all batches and goes when the tensor is
dropped, so that disk space is taken only by tensors that are still needed. Arrays are read back as
copies, not mapped: pages of a map count as memory of the process for as long as the map lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.spill_file import SpilledArray, SpillFile
from onnxprune.calibration.workplace import Workplace
from onnxprune.ir.runtime import Device

__all__ = ["MEMORY", "ActivationStore", "Batch"]

Array: TypeAlias = NDArray[Any]
#: Bytes of activations that stay in memory.
MEMORY = 2**29


class Batch(Mapping[str, Array]):
    """The tensors of one batch by name; those in a file are read whenever they are asked for.

    Attributes:
        device: what runs operators on them, None: the processor.
    """

    def __init__(self, feeds: Mapping[str, Array], device: Device | None = None) -> None:
        self.device = device
        self._held: dict[str, Array | SpilledArray] = dict(feeds)

    def __getitem__(self, name: str) -> Array:
        held = self._held[name]
        return held.read() if isinstance(held, SpilledArray) else held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._held[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of a tensor, without reading it."""
        return self._held[name].dtype


class ActivationStore:
    """Batches of tensors, to which tensors are added and from which they are dropped.

    Attributes:
        batches: one for each batch of feeds, in their order.
        used: bytes of added tensors that lie in memory.
        files: by name the file of each tensor that did not fit into memory.
    """

    def __init__(
        self,
        batches: Sequence[Mapping[str, Array]],
        place: Workplace | None = None,
        memory: int | None = None,
    ) -> None:
        """Begin with the tensors that each batch is fed, which stay where they are.

        Args:
            batches: feeds by name.
            place: where files lie and operators run, None: the system's folder, the processor.
            memory: bytes of added tensors that stay in memory, None: `MEMORY`.
        """
        place = place or Workplace()
        self.batches = [Batch(feeds, place.device) for feeds in batches]
        self.used = 0
        self.files: dict[str, SpillFile] = {}
        self._folder = place.folder
        self._limit = MEMORY if memory is None else memory
        self._bytes: dict[str, int] = {}

    def add(self, batch: Batch, made: Mapping[str, Array]) -> None:
        """Give a batch further tensors.

        Raises:
            InputError: they do not fit into memory, and a file cannot be written.
        """
        for name, array in made.items():
            if not isinstance(array, np.ndarray):  # a sequence, which stays in memory
                batch._held[name] = array
                continue
            fits = self.used + array.nbytes <= self._limit
            if fits or array.dtype.hasobject or not array.nbytes:
                self.used += array.nbytes
                self._bytes[name] = self._bytes.get(name, 0) + array.nbytes
                batch._held[name] = array
                continue
            if name not in self.files:
                self.files[name] = SpillFile("activations", self._folder)
            batch._held[name] = self.files[name].append(array)

    def drop(self, names: Iterable[str]) -> None:
        """Remove tensors from all batches, and their files."""
        for name in names:
            for batch in self.batches:
                batch._held.pop(name, None)
            self.used -= self._bytes.pop(name, 0)
            if name in self.files:
                self.files.pop(name).close()
