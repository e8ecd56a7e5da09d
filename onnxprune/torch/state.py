"""Cut a checkpoint by a plan; its arrays may be numpy's or torch's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.ir.load import Source
from onnxprune.torch.cuts import Cut, Cuts, cuts_of, sliced
from onnxprune.torch.matching import Entries, find
from onnxprune.torch.origins import Match
from onnxprune.torch.planned import Planned, planned, read_plan

__all__ = ["arrays_of", "matched", "slice_state_dict", "with_aliases", "with_shared", "with_times"]

T = TypeVar("T")


def slice_state_dict(
    state: Mapping[str, Any], plan: object, model: Source, exported: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Cut a checkpoint to what a plan leaves.

    Args:
        state: arrays, or torch tensors, by name: `module.state_dict()`.
        plan: the file of `prune --plan`, or what `onnxprune.prune` returned.
        model: the exported model that the plan was made for.
        exported: the checkpoint that was exported, where `state` is another one of the same
            module. Entries that the exporter renamed are found by their values in it.

    Returns:
        new arrays by name; what is not cut is the same object. Those of norms that go on dividing
        by the width before take that into their scale.

    Raises:
        InputError: the plan does not fit the model, or a tensor in it is made of no entries.
    """
    done, own = planned(model, read_plan(plan)), _tensors(state)
    other = own if exported is None else _tensors(exported)
    arrays = arrays_of(other)
    strange = {n for n, v in own.items() if n in arrays and tuple(v.shape) != arrays[n].shape}
    if strange or not arrays.keys() & own.keys():
        name = min(strange or arrays.keys())
        raise InputError(
            f"'{name}' has another shape in the exported checkpoint, or is missing in the other: "
            "give checkpoints of one module"
        )
    matches = matched(done, other, arrays)
    cuts = with_times(cuts_of(done.plan, matches, arrays, None, done.matrices), done, matches)
    if cuts.unknown:
        raise InputError(
            f"'{cuts.unknown[0]}' of the model is made of no entry of the checkpoint: give the "
            "checkpoint that was exported (exported=)"
        )
    entries = with_aliases(cuts.entries, matches, other)
    return {
        name: sliced(values, entries[name], name.endswith("running_var"))
        if name in entries
        else values
        for name, values in state.items()
    }


def _tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a checkpoint that are arrays; others, such as extra states, stay."""
    named = isinstance(state, Mapping)
    own = {name: v for name, v in state.items() if hasattr(v, "shape")} if named else {}
    if not own:
        held = ", ".join(map(repr, state)) if named else type(state).__name__
        raise InputError(
            f"the checkpoint holds no tensors ({held or 'nothing'}): give the mapping from names "
            "to tensors, such as checkpoint['state_dict']"
        )
    return own


def arrays_of(state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The numbers of a checkpoint as numpy arrays; floats that numpy lacks become single ones."""
    found = {}
    for name, values in state.items():
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = (values.float() if values.is_floating_point() else values).numpy()
        found[name] = np.asarray(values)
    return found


def matched(
    done: Planned, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Match]:
    """What the stored tensors of the exported model are made of; absent where that is unknown.

    Args:
        done: the exported model.
        state: the checkpoint.
        arrays: the same as numpy has it.

    Of entries in one place (tied weights) that are several tensors of the model, each is one.
    """
    entries, found = Entries(arrays), dict[str, Match]()
    for name in done.analysis.stored:
        values = done.read(name)
        match = None if values is None else find(name, values, entries)
        if match is not None:
            found[name] = match
    for same in _in_one_place(state):
        found |= _shared_out(found, same)
    return found


def _in_one_place(state: Mapping[str, Any]) -> list[list[str]]:
    """Names of entries that lie in the same memory."""
    names = dict[Any, list[str]]()
    for name, values in state.items():
        names.setdefault((_address(values), tuple(values.shape)), []).append(name)
    return [same for same in names.values() if len(same) > 1]


def _shared_out(found: Mapping[str, Match], same: Sequence[str]) -> Iterator[tuple[str, Match]]:
    """Tensors that are the same entry whole, each with a name of its own for it."""
    tensors = [n for n, m in found.items() if len(m.parts) == 1 and m.parts[0].entry in same]
    free = [name for name in same if name not in tensors]
    for tensor in tensors if len(tensors) > 1 else ():
        own = tensor if tensor in same or not free else free.pop(0)
        yield tensor, found[tensor].called(own if own in same else same[0])


def with_times(cuts: Cuts, done: Planned, matches: Mapping[str, Match]) -> Cuts:
    """The same with the factors of norms."""
    entries = dict(cuts.entries)
    for name, factor in done.times.items():
        for part in matches[name].parts if name in matches else ():
            entries[part.entry] = replace(entries.get(part.entry, Cut()), times=factor)
    return replace(cuts, entries=entries)


def with_aliases(
    entries: Mapping[str, Cut], matches: Mapping[str, Match], state: Mapping[str, Any]
) -> dict[str, Cut]:
    """The same cuts for entries in one place with others that are no tensors of their own."""
    own = {part.entry for match in matches.values() for part in match.parts}
    return with_shared(entries, own, state)


def with_shared(
    values: Mapping[str, T], own: Collection[str], state: Mapping[str, Any]
) -> dict[str, T]:
    """Values by entry, also for entries in one place with them that are not their `own`."""
    found = dict(values)
    for same in _in_one_place(state):
        first = next((name for name in same if name in values), None)
        if first is not None:
            found |= {name: values[first] for name in same if name not in own and name != first}
    return found


def _address(values: Any) -> int:
    if hasattr(values, "data_ptr"):
        return int(values.data_ptr())
    return int(np.asarray(values).__array_interface__["data"][0])
