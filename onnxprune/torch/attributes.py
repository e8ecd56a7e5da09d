"""The numbers that a module keeps beside its parameters: widths, groups, heads, epsilons.

Classes are told by name, those that they derive from included, so that nothing of theirs is
imported. Each rule looks at the new shapes of the module's own parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from onnxprune.torch.cuts import Cut
from onnxprune.torch.heads import HEADS, INNER, KEY_HEADS, WIDTH, AttentionModule, kinds

__all__ = ["Change", "Own", "attention_changes", "changes", "width_changes"]


@dataclass(frozen=True)
class Own:
    """What a module has of its own: shapes of parameters before and after, and their cuts."""

    before: Mapping[str, tuple[int, ...]]
    after: Mapping[str, tuple[int, ...]]
    cuts: Mapping[str, Cut]

    def keep(self, name: str, axis: int) -> Any:
        """Kept positions of an axis."""
        own = self.cuts.get(name, Cut()).keep.get(axis)
        return np.arange(self.before[name][axis]) if own is None else own


Change: TypeAlias = tuple[Any, str, Any]
Values: TypeAlias = Mapping[str, Any]


def changes(module: Any, own: Own) -> Iterator[Change]:
    """What attributes of a module become, as module, name and value.

    Args:
        module: one with parameters that are cut.
        own: these.
    """
    for name, value in _rule(module)(module, own).items():
        yield module, name, value
    times = [cut.times for name, cut in own.cuts.items() if name == "weight" and cut.times != 1]
    for name in ("eps", "variance_epsilon", "epsilon") if times else ():
        if hasattr(module, name):
            yield module, name, _epsilon(getattr(module, name)) * times[0] ** 2


def _rule(module: Any) -> Callable[[Any, Own], Values]:
    names = kinds(module)
    found = next((rule for kind, rule in _RULES.items() if kind in names), _nothing)
    return _group_norm if hasattr(module, "num_channels") else found


def _nothing(module: Any, own: Own) -> Values:
    return {}


def _epsilon(value: float | None) -> float:
    """A norm's ε; without one PyTorch takes the step of a float."""
    return float(np.finfo(np.float32).eps) if value is None else float(value)


def _linear(module: Any, own: Own) -> Values:
    out, fan_in = own.after["weight"]
    return {"out_features": out, "in_features": fan_in}


def _turned(module: Any, own: Own) -> Values:
    fan_in, out = own.after["weight"]
    return {"nf": out, "nx": fan_in}


def _convolution(module: Any, own: Own) -> Values:
    first, second = own.after["weight"][:2]
    before, groups = own.before["weight"], int(module.groups)
    if groups > 1:
        each = before[0] // groups
        groups = len(np.unique(own.keep("weight", 0) // each))
    turned = bool(module.transposed)
    sides = (first, second * groups) if turned else (second * groups, first)
    return {"groups": groups, "in_channels": sides[0], "out_channels": sides[1]}


def _embedding(module: Any, own: Own) -> Values:
    count, width = own.after["weight"]
    found: dict[str, Any] = {"num_embeddings": count, "embedding_dim": width}
    if module.padding_idx is not None and count != own.before["weight"][0]:
        at = np.flatnonzero(own.keep("weight", 0) == module.padding_idx)
        found["padding_idx"] = int(at[0]) if len(at) else None
    return found


def _statistics(module: Any, own: Own) -> Values:
    return {"num_features": next(iter(own.after.values()))[0]}


def _layer_norm(module: Any, own: Own) -> Values:
    return {"normalized_shape": tuple(own.after["weight"])}


def _group_norm(module: Any, own: Own) -> Values:
    keep, each = own.keep("weight", 0), own.before["weight"][0] // int(module.num_groups)
    return {"num_channels": len(keep), "num_groups": len(np.unique(keep // each))}


def _slopes(module: Any, own: Own) -> Values:
    return {"num_parameters": own.after["weight"][0]}


def _recurrent(module: Any, own: Own) -> Values:
    gates = own.before["weight_hh_l0"][0] // int(module.hidden_size)
    found = {
        "input_size": own.after["weight_ih_l0"][1],
        "hidden_size": own.after["weight_hh_l0"][0] // gates,
    }
    if getattr(module, "proj_size", 0):
        found["proj_size"] = own.after["weight_hh_l0"][1]
    return found


_RULES: Mapping[str, Callable[[Any, Own], Values]] = {
    "Linear": _linear,
    "Conv1D": _turned,
    "_ConvNd": _convolution,
    "Embedding": _embedding,
    "_NormBase": _statistics,
    "LayerNorm": _layer_norm,
    "RMSNorm": _layer_norm,
    "RmsNorm": _layer_norm,
    "PReLU": _slopes,
    "RNNBase": _recurrent,
}


def attention_changes(one: AttentionModule, cuts: Mapping[str, Cut]) -> Iterator[Change]:
    """What attributes of an attention module become, `nn.MultiheadAttention` aside."""
    (heads, width), (others, _), _ = one.sizes(cuts)
    part = one.rows[0]
    values = {
        **dict.fromkeys(WIDTH, (part.width, width)),
        **dict.fromkeys(HEADS, (part.heads, heads)),
        **dict.fromkeys(KEY_HEADS, (one.rows[1].heads, others)),
        **dict.fromkeys(INNER, (part.heads * part.width, heads * width)),
        "num_key_value_groups": (part.heads // one.rows[1].heads, heads // max(others, 1)),
    }
    for name, (before, after) in values.items():
        if getattr(one.module, name, None) == before and before != after:
            yield one.module, name, after
    if hasattr(one.module, "fused_attn") and hasattr(one.module, "scale") and width:
        yield one.module, "scale", one.module.scale * (part.width / width) ** 0.5


#: What modules call the width of what runs through them.
_WIDTHS = (
    *("hidden_dim", "hidden_size", "embed_dim", "d_model", "dim", "num_features", "n_embd"),
    *("embedding_dim", "head_hidden_size"),
)


def width_changes(
    modules: Mapping[str, Any], widths: Mapping[str, tuple[int, int]]
) -> Iterator[Change]:
    """What containers call their width, where all norms inside agree what becomes of it.

    Args:
        modules: of a network, by name.
        widths: before and after of the norms that go on dividing by the width before.
    """
    for name, module in modules.items():
        inside = {w for n, w in widths.items() if not name or n.startswith(f"{name}.")}
        if _RULES.keys() & kinds(module) or "MultiheadAttention" in kinds(module):
            continue
        for before, after in inside if len(inside) == 1 else ():
            for attribute in _WIDTHS:
                if getattr(module, attribute, None) == before and attribute in vars(module):
                    yield module, attribute, after
