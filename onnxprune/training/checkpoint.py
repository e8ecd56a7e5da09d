"""Keep how far a run is, so that one that was stopped goes on and ends with the same bytes.

An entry of a folder (`onnxprune.atomic_files.Store`) is the digest of all that the result depends
on; its arrays lie in a file of their own for every moment that is kept, written before the entry
names it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.atomic_files import Store, write_whole
from onnxprune.errors import InputError
from onnxprune.training.parameters import State

__all__ = ["Checkpoint", "Epoch", "Moment", "keep", "kept"]

Array = NDArray[Any]


class Epoch(NamedTuple):
    """What held-out samples say after an epoch.

    Attributes:
        loss: mean over them.
        score: share that is right, None without labels.
        error: standard error of the loss.
    """

    loss: float
    score: float | None
    error: float = 0.0


@dataclass(frozen=True)
class Moment:
    """How far a run is.

    Attributes:
        epoch: number of the epoch that is under way.
        step: steps of it that are done.
        states: of all parameters.
        best: of the parameters after the best epoch so far; none where that is the first state.
        history: of the epochs that are done, what was measured before the first one ahead.
    """

    epoch: int
    step: int
    states: Sequence[State]
    best: Sequence[Array] = ()
    history: Sequence[Epoch] = field(default_factory=tuple)


class Checkpoint(NamedTuple):
    """Where a run is kept: the folder, and the key that tells it from others."""

    store: Store
    key: str


def keep(place: Checkpoint, moment: Moment) -> None:
    """Keep a moment in place of the one before.

    Raises:
        InputError: the folder cannot be written to.
    """
    content = _packed(moment)
    digest = hashlib.sha256(content).hexdigest()

    def write(path: Path) -> dict[str, Any]:
        file = path.with_name(f"{path.name}.{digest[:16]}.npz")
        write_whole(file, content)
        return {
            "epoch": moment.epoch,
            "step": moment.step,
            "history": [list(epoch) for epoch in moment.history],
            "arrays": file.name,
            "digest": digest,
        }

    try:
        place.store.put(place.key, write)
        for file in place.store.folder.glob(f"{place.key}.*.npz"):
            if file.name != f"{place.key}.{digest[:16]}.npz":
                file.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{place.store.folder}: cannot be written: {error.strerror}. Choose another folder."
        ) from error


def kept(place: Checkpoint) -> Moment | None:
    """The moment that was kept last; None where there is none, or its files are damaged."""

    def use(path: Path, facts: dict[str, Any]) -> Moment:
        content = path.with_name(str(facts["arrays"])).read_bytes()
        if hashlib.sha256(content).hexdigest() != facts["digest"]:
            raise ValueError("these are not the arrays that were kept")
        history = [Epoch(*epoch) for epoch in facts["history"]]
        states, best = _unpacked(content)
        return Moment(int(facts["epoch"]), int(facts["step"]), states, best, history)

    return place.store.get(place.key, use)


def _packed(moment: Moment) -> bytes:
    """All arrays as an .npz."""
    file, arrays = io.BytesIO(), dict[str, Array]()
    for k, state in enumerate(moment.states):
        arrays |= {f"{k}/{name}": array for name, array in state._asdict().items()}
    arrays |= {f"best/{k}": array for k, array in enumerate(moment.best)}
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _unpacked(content: bytes) -> tuple[list[State], list[Array]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    count = sum(name.endswith("/value") for name in arrays)
    states = [State(*(arrays[f"{k}/{part}"] for part in State._fields)) for k in range(count)]
    best = [arrays[f"best/{k}"] for k in range(sum(name.startswith("best/") for name in arrays))]
    return states, best
