"""What a plan changes in a module: parameters, buffers, attributes, classes. Nothing is set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from onnxprune.errors import InputError
from onnxprune.ir.graph import ModelProto
from onnxprune.torch.attributes import Change, Own, attention_changes, changes, width_changes
from onnxprune.torch.carry import Carried, carried
from onnxprune.torch.cuts import Cut, cuts_of, sliced
from onnxprune.torch.heads import AttentionModule, attentions, kinds, with_followers
from onnxprune.torch.modules import NarrowAttention
from onnxprune.torch.planned import Planned
from onnxprune.torch.representable import Rows, representable
from onnxprune.torch.state import arrays_of, matched, with_aliases, with_shared, with_times

__all__ = ["ModuleChanges", "module_changes"]

Modules = Mapping[str, nn.Module]


@dataclass(frozen=True)
class ModuleChanges:
    """What to set where, in this order.

    Attributes:
        changes: module, attribute, value.
        zeros: channels that parameters keep as zeros, by name and axis.
        unknown: stored tensors of the plan that no parameter explains.
    """

    changes: tuple[Change, ...]
    zeros: Mapping[str, int]
    unknown: tuple[str, ...]


def module_changes(
    module: nn.Module, done: Planned, pruned: ModelProto | None = None
) -> ModuleChanges:
    """Work out what a plan makes of a module.

    Args:
        module: stays as it is.
        done: its export, and the plan.
        pruned: the pruned model whose weights it gets; None: its own.

    Raises:
        InputError: it cannot be made, with the name of the module or parameter.
    """
    state = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    arrays, modules = arrays_of(state), dict(module.named_modules())
    matches = matched(done, state, arrays)
    heads = attentions(modules, arrays)
    equal = [one.rows for one in heads if not one.fused] + list(_layers(modules, arrays))
    fits = representable(done, matches, equal)
    cuts = cuts_of(fits.plan, matches, arrays, fits.silent, done.matrices)
    cuts = with_times(cuts, done, matches)
    cuts = replace(cuts, entries=with_followers(heads, cuts.entries, arrays))
    entries = with_aliases(cuts.entries, matches, state)
    weights = Carried({}, {})
    if pruned is not None:
        epsilons = {p: float(m.eps) for p, m in modules.items() if "_NormBase" in kinds(m)}
        weights = carried(done, matches, cuts, pruned, (arrays, epsilons))
        own = {part.entry for match in matches.values() for part in match.parts}
        weights = replace(weights, entries=with_shared(weights.entries, own, state))
    found = [
        *_values(modules, state, entries, weights),
        *_attributes(modules, arrays, entries, heads),
    ]
    zeros = {
        f"{name} axis {axis}": len(at)
        for name, cut in cuts.entries.items()
        for axis, at in cut.silent.items()
    }
    return ModuleChanges(tuple(found), zeros, cuts.unknown)


def _layers(modules: Modules, arrays: Mapping[str, NDArray[Any]]) -> Iterator[tuple[Rows, ...]]:
    """The hidden units of stacked recurrent layers, which have one number for all layers."""
    for name, module in modules.items():
        if isinstance(module, nn.RNNBase):
            names = [f"{name}.weight_hh_l{k}".lstrip(".") for k in range(module.num_layers)]
            yield tuple(Rows(n, 1, 0, arrays[n].shape[1]) for n in names if n in arrays)


def _values(
    modules: Modules, state: Mapping[str, Any], entries: Mapping[str, Cut], weights: Carried
) -> Iterator[Change]:
    """New parameters and buffers; modules go on sharing those that stay the same."""
    made: dict[int, list[Any]] = {}
    for name, old in state.items():
        if name not in entries and name not in weights.entries:
            continue
        value = _value(name, old, entries, weights)
        shared = made.setdefault(id(old), [])
        same = next((one for one in shared if torch.equal(one, value)), value)
        shared.append(same)
        owner, _, last = name.rpartition(".")
        yield modules[owner], last, same
    for weight, (axis, bias) in weights.biases.items():
        owner = weight.rpartition(".")[0]
        keep = entries.get(weight, Cut()).keep.get(axis, np.arange(len(bias)))
        old = state[weight]
        values = torch.as_tensor(bias[keep]).to(old.device, old.dtype)
        yield modules[owner], "bias", nn.Parameter(values, old.requires_grad)


def _value(name: str, old: Any, entries: Mapping[str, Cut], weights: Carried) -> Any:
    values = old.detach()
    if name in weights.entries:
        values = torch.as_tensor(weights.entries[name]).to(values.device, values.dtype)
    values = sliced(values, entries.get(name, Cut()), name.endswith("running_var")).contiguous()
    return nn.Parameter(values, old.requires_grad) if isinstance(old, nn.Parameter) else values


def _attributes(
    modules: Modules,
    arrays: Mapping[str, NDArray[Any]],
    entries: Mapping[str, Cut],
    heads: list[AttentionModule],
) -> Iterator[Change]:
    """What modules know of their widths beside their parameters."""
    widths = dict[str, tuple[int, int]]()
    for name, module in modules.items():
        own = _own(name, arrays, entries)
        if own is None:
            continue
        yield from changes(module, own)
        weight = own.cuts.get("weight", Cut())
        if weight.times != 1 and own.before["weight"] != own.after["weight"]:
            widths[name] = own.before["weight"][-1], own.after["weight"][-1]
    for one in heads:
        if any(part.entry in entries for part in one.rows):
            make = _multihead if one.fused else attention_changes
            yield from make(one, entries)
    yield from width_changes(modules, widths)


def _own(name: str, arrays: Mapping[str, NDArray[Any]], entries: Mapping[str, Cut]) -> Own | None:
    """A module's own parameters, where some are cut."""
    prefix = f"{name}." if name else ""
    own = {n[len(prefix) :]: n for n in arrays if n.startswith(prefix)}
    own = {last: full for last, full in own.items() if "." not in last}
    if not any(full in entries for full in own.values()):
        return None
    cuts = {last: entries.get(full, Cut()) for last, full in own.items()}
    before = {last: arrays[full].shape for last, full in own.items()}
    after = {
        last: tuple(len(cuts[last].keep.get(k, range(n))) for k, n in enumerate(shape))
        for last, shape in before.items()
    }
    return Own(before, after, cuts)


def _multihead(one: AttentionModule, cuts: Mapping[str, Cut]) -> Iterator[Change]:
    """An `nn.MultiheadAttention`, or one whose heads do not add up to what it reads."""
    module, part = one.module, one.rows[0]
    (heads, keys), (others, width), (_, values) = one.sizes(cuts)
    if not keys or keys != width or heads != others or not values or module.bias_k is not None:
        raise InputError(
            f"module '{one.name}' (MultiheadAttention): the plan leaves heads of unequal widths, "
            f"or it adds keys of its own. Exclude it when pruning (--exclude '{one.name}')."
        )
    out = cuts.get(f"{one.name}.out_proj.weight".lstrip("."), Cut()).keep.get(0)
    outside = module.embed_dim if out is None else len(out)
    for name in ("embed_dim", "kdim", "vdim"):
        if getattr(module, name) == module.embed_dim:
            yield module, name, outside
    yield module, "num_heads", heads
    yield module, "head_dim", keys
    if heads * keys == outside and keys == values == part.width:
        return
    yield module, "__class__", NarrowAttention
    yield module, "key_width", keys
    yield module, "value_width", values
    yield module, "scale", part.width**-0.5
    yield module, "_qkv_same_embed_dim", False
