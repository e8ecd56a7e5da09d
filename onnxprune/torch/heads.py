"""Attention modules: where queries, keys and values lie, and how many heads of which width.

Modules of transformers and timm are told apart by the names that their parts and attributes have;
`nn.MultiheadAttention` keeps the three in one parameter of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnxprune.torch.cuts import Cut
from onnxprune.torch.origins import Array
from onnxprune.torch.representable import Rows, heads_of
from onnxprune.types import Ints

__all__ = ["AttentionModule", "attentions", "kinds", "with_followers"]

QUERY = ("q_proj", "query", "q_lin", "to_q", "q", "wq")
KEY = ("k_proj", "key", "k_lin", "to_k", "k", "wk")
VALUE = ("v_proj", "value", "v_lin", "to_v", "v", "wv")
JOINED = ("qkv", "c_attn", "qkv_proj", "query_key_value", "Wqkv", "to_qkv")
WIDTH = (
    *("head_dim", "attention_head_size", "dim_head", "head_size", "dim_per_head"),
    *("key_value_proj_dim", "d_kv"),
)
HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")
KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
INNER = ("all_head_size", "attn_dim", "inner_dim", "split_size")


@dataclass(frozen=True)
class AttentionModule:
    """Where one attention module keeps queries, keys and values.

    Attributes:
        name: of the module.
        module: itself.
        rows: of queries, keys and values, in this order.
        fused: whether it is `nn.MultiheadAttention`.
    """

    name: str
    module: Any
    rows: tuple[Rows, Rows, Rows]
    fused: bool = False

    def sizes(self, cuts: Mapping[str, Cut]) -> tuple[tuple[int, int], ...]:
        """Heads, and positions in each, of queries, keys and values behind a cut."""
        found = []
        for part in self.rows:
            heads, width = heads_of(part, self.kept(part, cuts))
            found.append((len(heads), width))
        return tuple(found)

    @staticmethod
    def kept(part: Rows, cuts: Mapping[str, Cut]) -> Ints:
        """Positions of the parameter that stay."""
        own = cuts.get(part.entry, Cut()).keep.get(part.axis)
        return np.arange(part.start, part.stop) if own is None else own


def kinds(module: Any) -> set[str]:
    """Names of a module's class and of all that it derives from."""
    return {kind.__name__ for kind in type(module).__mro__}


def attentions(modules: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[AttentionModule]:
    """Every attention module among those of a network.

    Args:
        modules: by name.
        arrays: parameters and buffers of the network.
    """
    found = []
    for name, module in modules.items():
        make = _multihead if "MultiheadAttention" in kinds(module) else _by_names
        rows = make(name, module, arrays)
        if rows is not None:
            found.append(AttentionModule(name, module, rows, make is _multihead))
    return found


def _multihead(
    name: str, module: Any, arrays: Mapping[str, Array]
) -> tuple[Rows, Rows, Rows] | None:
    joined, heads = f"{name}.in_proj_weight".lstrip("."), int(module.num_heads)
    if joined in arrays:
        size = len(arrays[joined]) // 3
        return _three([Rows(joined, 0, k * size, (k + 1) * size, heads) for k in range(3)])
    parts = [f"{name}.{key}_proj_weight".lstrip(".") for key in "qkv"]
    return _three([Rows(part, 0, 0, len(arrays[part]), heads) for part in parts])


def _three(rows: Sequence[Rows]) -> tuple[Rows, Rows, Rows]:
    q, k, v = rows
    return q, k, v


def _by_names(
    name: str, module: Any, arrays: Mapping[str, Array]
) -> tuple[Rows, Rows, Rows] | None:
    """The rows of a module whose parts have the names that such parts have."""
    children = dict(module.named_children())
    joined = _first(JOINED, children)
    parts = [_first(names, children) for names in (QUERY, KEY, VALUE)]
    if joined is not None:
        entries = [_weight(name, joined, children[joined], arrays)]
    elif None not in parts:
        entries = [_weight(name, part, children[part], arrays) for part in parts if part]
    else:
        return None
    if any(entry is None for entry in entries):
        return None
    sized = [entry for entry in entries if entry is not None]
    width = _width(module, [size for _, _, size in sized], joined is not None)
    if not width or any(size % width for _, _, size in sized):
        return None
    if joined is not None:
        return _joined_rows(module, sized[0], width)
    return _three([Rows(entry, axis, 0, size, size // width) for entry, axis, size in sized])


def _first(names: Sequence[str], there: Mapping[str, Any]) -> str | None:
    return next((name for name in names if name in there), None)


def _weight(
    name: str, part: str, child: Any, arrays: Mapping[str, Array]
) -> tuple[str, int, int] | None:
    """Name of a projection's weight, the axis of its output channels, and their number."""
    entry = f"{name}.{part}.weight".lstrip(".")
    if entry not in arrays or arrays[entry].ndim < 2:
        return None
    axis = 1 if "Conv1D" in kinds(child) else 0
    return entry, axis, arrays[entry].shape[axis]


def _number(module: Any, names: Sequence[str]) -> int | None:
    values = (getattr(module, name, None) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), None)


def _width(module: Any, sizes: Sequence[int], joined: bool) -> int | None:
    """Positions in a head."""
    width, heads = _number(module, WIDTH), _number(module, HEADS)
    if width or not heads:
        return width
    return sizes[0] // heads // (3 if joined else 1)


def _joined_rows(
    module: Any, sized: tuple[str, int, int], width: int
) -> tuple[Rows, Rows, Rows] | None:
    """Queries, keys and values one behind the other in one weight."""
    entry, axis, size = sized
    blocks = size // width
    heads = _number(module, HEADS) or blocks // 3
    others = (blocks - heads) // 2
    if heads < 1 or others < 1 or heads + 2 * others != blocks:
        return None
    ends = np.cumsum([0, heads, others, others]) * width
    counts = (heads, others, others)
    return _three([Rows(entry, axis, int(ends[k]), int(ends[k + 1]), counts[k]) for k in range(3)])


def with_followers(
    found: Sequence[AttentionModule], cuts: Mapping[str, Cut], arrays: Mapping[str, Array]
) -> dict[str, Cut]:
    """The same cuts, and those of what no stored tensor shows as it is.

    Angles of rotary embeddings and tables of relative positions are turned into other numbers when
    a model is exported; scales that a fused product takes from the width go into the queries.
    """
    result = dict(cuts)
    for one in found:
        part, (heads, width) = one.rows[0], one.sizes(cuts)[0]
        keep = one.kept(part, cuts) - part.start
        keep = keep[(keep >= 0) & (keep < part.stop - part.start)]
        alive = np.unique(keep // part.width)
        if width and width < part.width:
            for name in _angles(arrays, part.width):
                inside = keep[keep // part.width == alive[0]] % part.width
                result.setdefault(name, Cut({0: inside[inside < len(arrays[name])]}))
        if heads < part.heads:
            for name in _tables(one, arrays):
                result.setdefault(name, Cut({arrays[name].ndim - 1: alive}))
        if hasattr(one.module, "fused_attn") and width and width != part.width:
            result |= dict(_louder(one, result, arrays, (width / part.width) ** 0.5))
    return result


def _angles(arrays: Mapping[str, Array], width: int) -> Iterator[str]:
    for name, values in arrays.items():
        if name.endswith("inv_freq") and values.shape == (width // 2,):
            yield name


def _tables(one: AttentionModule, arrays: Mapping[str, Array]) -> Iterator[str]:
    for name, values in arrays.items():
        inside = name.startswith(f"{one.name}.") and "relative" in name[len(one.name) :]
        if inside and values.ndim == 2 and values.shape[1] == one.rows[0].heads:
            yield name


def _louder(
    one: AttentionModule, cuts: Mapping[str, Cut], arrays: Mapping[str, Array], factor: float
) -> Iterator[tuple[str, Cut]]:
    """Queries times a factor: in the norm behind them, else in what makes them."""
    norm, part = f"{one.name}.q_norm.weight", one.rows[0]
    if norm in arrays:
        own = cuts.get(norm, Cut())
        yield norm, replace(own, times=own.times * factor)
        bias = f"{one.name}.q_norm.bias"
        if bias in arrays:
            own = cuts.get(bias, Cut())
            yield bias, replace(own, times=own.times * factor)
        return
    for name in (part.entry, part.entry.removesuffix("weight") + "bias"):
        if name in arrays:
            rows = np.ones(arrays[name].shape[0])
            rows[part.start : part.stop] = factor
            yield name, replace(cuts.get(name, Cut()), rows=rows)
