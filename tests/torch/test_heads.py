"""Attention modules are found by the names of their parts; heads and widths follow the cut."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onnxprune.torch.cuts import Cut, sliced
from onnxprune.torch.heads import AttentionModule, attentions, with_followers


class Conv1D:
    """Of transformers: input channels before output channels."""


class Linear:
    """Of PyTorch."""


class Module(SimpleNamespace):
    """With children and attributes of any name."""

    def named_children(self) -> list[tuple[str, Any]]:
        return list(self.parts.items())


class MultiheadAttention(Module):
    """Of PyTorch."""


def one(module: Module, **shapes: tuple[int, ...]) -> tuple[AttentionModule, dict[str, Any]]:
    arrays = {f"at.{n.replace('__', '.')}": np.ones(s, np.float32) for n, s in shapes.items()}
    (found,) = attentions({"": Module(parts={}), "at": module}, arrays)
    return found, arrays


def separate(**values: Any) -> AttentionModule:
    parts = {name: Linear() for name in ("q_proj", "k_proj", "v_proj")}
    return one(
        Module(parts=parts, head_dim=4, **values),
        q_proj__weight=(24, 8), k_proj__weight=(12, 8), v_proj__weight=(12, 8),
    )[0]  # fmt: skip


def places(found: AttentionModule) -> list[tuple[int, int, int, int]]:
    return [(part.axis, part.start, part.stop, part.heads) for part in found.rows]


def test_separate_projections_may_share_keys() -> None:
    assert places(separate()) == [(0, 0, 24, 6), (0, 0, 12, 3), (0, 0, 12, 3)]


def test_one_projection_holds_all_three() -> None:
    joined, _ = one(
        Module(parts={"c_attn": Conv1D()}, num_heads=2, head_dim=4), c_attn__weight=(8, 24)
    )
    assert places(joined) == [(1, 0, 8, 2), (1, 8, 16, 2), (1, 16, 24, 2)]
    shared, _ = one(
        Module(parts={"qkv_proj": Linear()}, num_heads=4, head_dim=2), qkv_proj__weight=(16, 8)
    )
    assert places(shared) == [(0, 0, 8, 4), (0, 8, 12, 2), (0, 12, 16, 2)]


def test_pytorchs_own_keeps_them_in_a_parameter() -> None:
    fused, _ = one(MultiheadAttention(parts={}, num_heads=2), in_proj_weight=(24, 8))
    assert fused.fused and places(fused) == [(0, 0, 8, 2), (0, 8, 16, 2), (0, 16, 24, 2)]
    apart, _ = one(
        MultiheadAttention(parts={}, num_heads=2),
        q_proj_weight=(8, 8), k_proj_weight=(8, 5), v_proj_weight=(8, 6),
    )  # fmt: skip
    assert [part.entry for part in apart.rows] == [f"at.{k}_proj_weight" for k in "qkv"]


@pytest.mark.parametrize(
    "module",
    [
        Module(parts={"q_proj": Linear(), "k_proj": Linear()}, head_dim=4),
        Module(parts={"qkv": Linear()}),
        Module(parts={"qkv": Linear()}, head_dim=5),
    ],
    ids=["no values", "no heads", "another width"],
)
def test_other_modules_are_none(module: Module) -> None:
    arrays = {f"at.{name}.weight": np.ones((24, 8), np.float32) for name in module.parts}
    assert attentions({"at": module}, arrays) == []


def test_heads_and_widths_behind_a_cut() -> None:
    """Heads 0, 2 and 5 of six stay, with two of four places, each its own."""
    keep = np.array([0, 1, 9, 11, 20, 23])
    cuts = {"at.q_proj.weight": Cut({0: keep}), "at.k_proj.weight": Cut({0: np.arange(12)})}
    assert separate().sizes(cuts) == ((3, 2), (3, 4), (3, 4))
    uneven = {"at.q_proj.weight": Cut({0: np.array([0, 1, 9])})}
    assert separate().sizes(uneven)[0] == (2, 0)


def test_angles_and_tables_of_positions_follow() -> None:
    found = separate()
    arrays = {
        "rotary.inv_freq": np.ones(2),
        "other.inv_freq": np.ones(3),
        "at.relative_attention_bias.weight": np.ones((5, 6)),
    }
    keep = np.array([1, 3, 9, 11, 17, 19])  # heads 0, 2 and 4; places 1 and 3
    cuts = with_followers([found], {"at.q_proj.weight": Cut({0: keep})}, arrays)
    assert cuts["rotary.inv_freq"].keep[0].tolist() == [1]
    assert cuts["at.relative_attention_bias.weight"].keep[1].tolist() == [0, 2, 4]
    assert "other.inv_freq" not in cuts


def test_a_scale_that_follows_the_width_goes_into_the_queries() -> None:
    """A fused product divides by the root of the width that it sees."""
    module = Module(parts={"qkv": Linear()}, num_heads=2, head_dim=4, fused_attn=True)
    found, arrays = one(module, qkv__weight=(24, 8), qkv__bias=(24,))
    keep = np.array([0, 4, 8, 12, 16, 20])
    start = {name: Cut({0: keep}) for name in ("at.qkv.weight", "at.qkv.bias")}
    cuts = with_followers([found], start, arrays)
    rows = sliced(arrays["at.qkv.weight"], cuts["at.qkv.weight"])[:, 0]
    np.testing.assert_allclose(rows, [0.5, 0.5, 1, 1, 1, 1])
    np.testing.assert_allclose(sliced(arrays["at.qkv.bias"], cuts["at.qkv.bias"]), rows)


def test_or_into_the_norm_behind_them() -> None:
    module = Module(parts={"qkv": Linear()}, num_heads=2, head_dim=4, fused_attn=True)
    found, arrays = one(module, qkv__weight=(24, 8), q_norm__weight=(4,), q_norm__bias=(4,))
    start = {"at.qkv.weight": Cut({0: np.array([0, 4, 8, 12, 16, 20])})}
    cuts = with_followers([found], start, arrays)
    assert cuts["at.q_norm.weight"].times == cuts["at.q_norm.bias"].times == 0.5
    assert cuts["at.qkv.weight"].rows is None
