"""One handle for a model: its graph, where it came from, and where its cut weights lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from onnxprune.ir import acceptance, external_data, graph, runtime, save
from onnxprune.ir.external_data import Scratch
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source, load
from onnxprune.ir.runtime import Device, Session

__all__ = ["Model", "read_model"]


@dataclass(frozen=True)
class Model:
    """A model with its weights where they are: in the proto, or in external files.

    Attributes:
        proto: the graph; external weights stay outside.
        source: what it was read from: a path, or the proto itself.
        scratch: keeps the folder of weights that were cut out of external files.
    """

    proto: ModelProto
    source: Source
    scratch: Scratch | None = None

    @cached_property
    def whole(self) -> ModelProto:
        """The graph with all weights in memory."""
        return external_data.inlined(self.proto)

    def content(self) -> bytes:
        """The model as onnxruntime reads it, all weights inside."""
        return graph.model_bytes(external_data.inlined(self.proto))

    def session(self, device: Device | None = None) -> Session:
        """A session on the whole model.

        Raises:
            InputError: onnxruntime cannot load it.
        """
        return runtime.open_session(self.content(), device)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the files that it came from, or of what it is written as."""
        return save.digest(self.source, self.proto)

    @cached_property
    def bytes(self) -> int:
        """Size of its file."""
        return save.file_bytes(self.proto)

    def save(self, path: str | os.PathLike[str], outside: bool = False) -> list[Path]:
        """Write it whole or not at all; `outside` puts weights into a file beside it.

        That happens anyway where they lie in one now, and above `save.LIMIT` bytes.

        Raises:
            InputError: a file cannot be written.
        """
        return save.save(self.proto, Path(path), outside)


def read_model(source: Source) -> Model:
    """Read the model at a path, or take a ModelProto as it is.

    Raises:
        InputError: it cannot be read, its external files cannot, or onnxruntime refuses it.
    """
    proto = load(source)
    external_data.resolve(proto, source)
    acceptance.check(proto)
    return Model(proto, source)
