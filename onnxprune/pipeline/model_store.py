"""Keep finished models in a folder, so that a run that was stopped goes on from them.

A model lies in `<key>.onnx`, its weights perhaps in a file beside it, and what else is known of it
in `<key>.json`, with the digest of the model's files. The key is the digest of everything that the
model depends on, see `onnxprune.settings.settings_key`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxprune.atomic_files import Store
from onnxprune.errors import InputError
from onnxprune.groups.analysis import load
from onnxprune.ir import save
from onnxprune.ir.graph import ModelProto

__all__ = ["KeptModel", "keep_model", "kept_model"]


@dataclass(frozen=True)
class KeptModel:
    """A model with its external weights still in the folder, and what is known of it."""

    model: ModelProto
    facts: Mapping[str, Any]


def kept_model(store: Store, key: str) -> KeptModel | None:
    """Take a model from a folder; None where there is none, or its files are damaged."""

    def read(path: Path, facts: dict[str, Any]) -> KeptModel:
        file = _file(path)
        model = load(file)
        if save.digest(file, model) != facts["model"]:
            raise ValueError(f"{file} is not the model that was kept")
        return KeptModel(model, facts)

    return store.get(key, read)


def keep_model(store: Store, key: str, model: ModelProto, facts: Mapping[str, Any]) -> None:
    """Put a model into a folder, with facts that JSON can hold.

    Raises:
        InputError: the folder cannot be written to.
    """

    def write(path: Path) -> dict[str, Any]:
        file = _file(path)
        save.save(model, file)
        return {**facts, "model": save.digest(file, load(file))}

    try:
        store.put(key, write)
    except OSError as error:
        raise InputError(
            f"{store.folder}: cannot be written: {error.strerror}. Choose another folder."
        ) from error


def _file(path: Path) -> Path:
    return path.with_name(f"{path.name}.onnx")
