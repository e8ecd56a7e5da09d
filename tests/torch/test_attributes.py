"""Attributes say what parameters are: every class of layer, norms with their ε, heads."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxprune.torch.attributes import Own, attention_changes, changes, width_changes
from onnxprune.torch.cuts import Cut
from onnxprune.torch.heads import AttentionModule
from onnxprune.torch.representable import Rows


def module(kind: str, **values: Any) -> Any:
    """An object whose class derives from one of that name."""
    return type("Own", (type(kind, (SimpleNamespace,), {}),), {})(**values)


def own(shape: tuple[int, ...], keep: dict[int, list[int]], times: float = 1.0, **more: Any) -> Own:
    cut = Cut({axis: np.array(at) for axis, at in keep.items()}, times=times)
    after = tuple(len(keep.get(axis, range(size))) for axis, size in enumerate(shape))
    return Own(
        {"weight": shape, **{n: v[0] for n, v in more.items()}},
        {"weight": after, **{n: v[1] for n, v in more.items()}},
        {"weight": cut},
    )


CASES: dict[str, tuple[Any, Own, dict[str, Any]]] = {
    "linear": (
        module("Linear"), own((6, 4), {0: [0, 3]}), {"out_features": 2, "in_features": 4}
    ),
    "transformers": (module("Conv1D"), own((6, 4), {0: [0, 3]}), {"nf": 4, "nx": 2}),
    "convolution": (
        module("_ConvNd", groups=1, transposed=False), own((6, 4, 3), {1: [1, 2]}),
        {"groups": 1, "in_channels": 2, "out_channels": 6},
    ),
    "depthwise": (
        module("_ConvNd", groups=6, transposed=False), own((6, 1, 3, 3), {0: [1, 2, 5]}),
        {"groups": 3, "in_channels": 3, "out_channels": 3},
    ),
    "grouped": (
        module("_ConvNd", groups=3, transposed=False), own((6, 2, 3, 3), {0: [0, 1, 4, 5]}),
        {"groups": 2, "in_channels": 4, "out_channels": 4},
    ),
    "transposed": (
        module("_ConvNd", groups=2, transposed=True), own((6, 4, 3, 3), {1: [0, 1, 2]}),
        {"groups": 2, "in_channels": 6, "out_channels": 6},
    ),
    "embedding": (
        module("Embedding", padding_idx=0), own((6, 4), {1: [1]}),
        {"num_embeddings": 6, "embedding_dim": 1},
    ),
    "words": (
        module("Embedding", padding_idx=3), own((6, 4), {0: [1, 3]}),
        {"num_embeddings": 2, "embedding_dim": 4, "padding_idx": 1},
    ),
    "statistics": (module("_NormBase"), own((6,), {0: [1, 3]}), {"num_features": 2}),
    "layer norm": (module("LayerNorm", eps=1e-5), own((6,), {0: [1]}), {"normalized_shape": (1,)}),
    "exact": (
        module("LayerNorm", eps=1e-5), own((8,), {0: [1, 3]}, times=2.0),
        {"normalized_shape": (2,), "eps": pytest.approx(4e-5)},
    ),
    "no epsilon": (
        module("RMSNorm", eps=None), own((8,), {0: [1, 3]}, times=2.0),
        {"normalized_shape": (2,), "eps": pytest.approx(4 * np.finfo(np.float32).eps)},
    ),
    "of llama": (
        module("LlamaRMSNorm", variance_epsilon=1e-6), own((8,), {0: [1, 3]}, times=2.0),
        {"variance_epsilon": pytest.approx(4e-6)},
    ),
    "whole groups": (
        module("GroupNorm", num_groups=3, num_channels=6), own((6,), {0: [0, 1, 4, 5]}),
        {"num_channels": 4, "num_groups": 2},
    ),
    "channels of each group": (
        module("GroupNorm", num_groups=3, num_channels=6), own((6,), {0: [0, 2, 5]}),
        {"num_channels": 3, "num_groups": 3},
    ),
    "slopes": (module("PReLU"), own((6,), {0: [0]}), {"num_parameters": 1}),
    "recurrent": (
        module("RNNBase", hidden_size=6),
        own((1,), {}, weight_ih_l0=((18, 5), (9, 4)), weight_hh_l0=((18, 6), (9, 3))),
        {"input_size": 4, "hidden_size": 3},
    ),
    "projected": (
        module("RNNBase", hidden_size=6, proj_size=2),
        own((1,), {}, weight_ih_l0=((24, 5), (12, 4)), weight_hh_l0=((24, 2), (12, 1))),
        {"input_size": 4, "hidden_size": 3, "proj_size": 1},
    ),
    "of the user": (module("Scale"), own((6,), {0: [1]}), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_attributes_say_what_parameters_are(name: str) -> None:
    layer, parameters, expected = CASES[name]
    found = list(changes(layer, parameters))
    assert {attribute: value for _, attribute, value in found} == expected
    assert all(place is layer for place, _, _ in found)


def test_heads_of_attention() -> None:
    rows = (Rows("q", 0, 0, 24, 6), Rows("k", 0, 0, 12, 3), Rows("v", 0, 0, 12, 3))
    layer = SimpleNamespace(
        num_heads=6, head_dim=4, num_key_value_heads=3, num_key_value_groups=2, attn_dim=24,
        embed_dim=24, scale=0.5, fused_attn=True,
    )  # fmt: skip
    cuts = {
        "q": Cut({0: np.array([0, 4, 8, 12])}),
        "k": Cut({0: np.array([1, 5])}),
        "v": Cut({0: np.array([1, 5])}),
    }
    found = {name: v for _, name, v in attention_changes(AttentionModule("at", layer, rows), cuts)}
    assert found == {
        "num_heads": 4, "head_dim": 1, "num_key_value_heads": 2, "attn_dim": 4, "scale": 1.0,
    }  # fmt: skip


def test_containers_follow_norms_that_agree() -> None:
    inner, outer = module("Block", hidden_dim=8, depth=8), module("Net", hidden_size=8, dim=9)
    parts = {"": outer, "a": inner, "a.norm": module("LayerNorm", dim=8)}
    found = [(name, value) for _, name, value in width_changes(parts, {"a.norm": (8, 6)})]
    assert found == [("hidden_size", 6), ("hidden_dim", 6)]
    assert not list(width_changes(parts, {"a.norm": (8, 6), "b.norm": (8, 5)}))[1:]
