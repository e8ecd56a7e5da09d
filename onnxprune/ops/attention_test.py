from typing import Any

import numpy as np
import pytest
from oracle import Case, build, case, check_rule, w

from onnxprune import ops
from onnxprune.groups.dependency import dependencies
from onnxprune.ir.shape_inference import describe
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import rewrite

MS = "com.microsoft"
LAST = np.array([4, 4], np.int32)
TOTAL = np.array(5, np.int32)


def standard(
    free: int, attrs: str = "", names: str = "q, k, v", results: str = "y", **sizes: Any
) -> Case:
    """An Attention of opset 23."""
    attrs = attrs or "is_causal=0"
    return case(f"{results} = Attention<{attrs}>({names})", free, 23, **sizes)


def multi(
    free: int, names: str = "q, k, v", results: str = "y", attrs: str = "", **sizes: Any
) -> Case:
    """A MultiHeadAttention of 3 heads, or as many as `attrs` begins with."""
    attrs = attrs or "num_heads=3"
    return case(f"{results} = {MS}.MultiHeadAttention<{attrs}>({names})", free, **sizes)


def grouped(free: int, attrs: str, names: str = "q, k, v", more: str = "", **sizes: Any) -> Case:
    """A GroupQueryAttention over 5 positions."""
    inputs = f"{names}, past, before, last, total{more}"
    sizes = {"past": None, "before": None, **sizes}
    inputs = inputs.replace("past, before", "past, before" if sizes["past"] else ", ")
    given = {name: size for name, size in sizes.items() if size is not None}
    text = f"y, pk, pv = {MS}.GroupQueryAttention<{attrs}>({inputs})"
    return case(text, free, last=LAST, total=TOTAL, **given)


def fused(free: int, names: str, attrs: str, results: str = "y", **sizes: Any) -> Case:
    """The fused Attention of onnxruntime."""
    return case(f"{results} = {MS}.Attention<{attrs}>({names})", free, **sizes)


FLAT = "q_num_heads=3, kv_num_heads=3"
CASES = [
    # heads, query/key width, value width: on axes of their own all at once
    standard(3 + 4 + 5, q=(2, 3, 6, 4), k=(2, 3, 7, 4), v=(2, 3, 7, 5)),
    case("y = Attention(q, k, v)", 3 + 4 + 5, opset=24,
         q=(2, 3, 6, 4), k=(2, 3, 7, 4), v=(2, 3, 7, 5)),
    standard(3 + 4 + 5, "scale=0.3, softcap=2.0, is_causal=1",
             q=(2, 3, 6, 4), k=(2, 3, 6, 4), v=(2, 3, 6, 5)),
    # several query heads read one key: those sets, or the same member of each set
    standard(3 + 4 + 5, q=(2, 6, 6, 4), k=(2, 3, 7, 4), v=(2, 3, 7, 5)),
    standard(3 + 4 + 5, q=(2, 6, 6, 4), k=(2, 2, 7, 4), v=(2, 2, 7, 5)),
    standard(4 + 4 + 5, q=(2, 4, 6, 4), k=(2, 1, 7, 4), v=(2, 1, 7, 5)),
    standard(1 * 4 + 5, q=(2, 1, 6, 4), k=(2, 1, 7, 4), v=(2, 1, 7, 5)),
    # flat: the widest family carries
    standard(4 + 5, FLAT, q=(2, 6, 12), k=(2, 7, 12), v=(2, 7, 15)),
    standard(4, FLAT, q=(2, 6, 12), k=(2, 7, 12), v=(2, 7, 3)),
    standard(5, "q_num_heads=5, kv_num_heads=5", q=(2, 6, 15), k=(2, 7, 15), v=(2, 7, 20)),
    standard(3, "q_num_heads=6, kv_num_heads=3", q=(2, 6, 12), k=(2, 7, 6), v=(2, 7, 6)),
    standard(4, "q_num_heads=8, kv_num_heads=2", q=(2, 6, 16), k=(2, 7, 4), v=(2, 7, 4)),
    standard(4, "q_num_heads=4, kv_num_heads=1", q=(2, 6, 12), k=(2, 7, 3), v=(2, 7, 1)),
    # masks with and without heads, past and present, the scores as a result
    standard(3 + 4 + 5, "", "q, k, v, m",
             q=(2, 3, 6, 4), k=(2, 3, 7, 4), v=(2, 3, 7, 5), m=(3, 6, 7)),
    standard(3 + 4 + 5, "", "q, k, v, m",
             q=(2, 3, 6, 4), k=(2, 3, 7, 4), v=(2, 3, 7, 5), m=(2, 1, 6, 7)),
    standard(3 + 4 + 5, "", "q, k, v, flag",
             q=(2, 6, 6, 4), k=(2, 3, 7, 4), v=(2, 3, 7, 5), flag=(2, 6, 6, 7)),
    standard(3 + 4 + 5, "", "q, k, v, m, pk, pv", "y, nk, nv, s",
             q=(2, 3, 6, 4), k=(2, 3, 7, 4), v=(2, 3, 7, 5), m=(6, 9),
             pk=(2, 3, 2, 4), pv=(2, 3, 2, 5)),
    standard(5, "q_num_heads=5, kv_num_heads=5", "q, k, v, , pk, pv", "y, nk, nv",
             q=(2, 6, 15), k=(2, 7, 15), v=(2, 7, 20), pk=(2, 5, 2, 3), pv=(2, 5, 2, 4)),
    standard(4 + 5, FLAT, "q, k, v, , pk, pv", "y, nk, nv",
             q=(2, 6, 12), k=(2, 7, 12), v=(2, 7, 15), pk=(2, 3, 2, 4), pv=(2, 3, 2, 5)),
    # onnxruntime's own: a bias that holds three parts
    multi(4 + 5, q=(2, 6, 12), k=(2, 7, 12), v=(2, 7, 15)),
    multi(3, q=(2, 6, 6), k=(2, 7, 6), v=(2, 7, 6)),
    multi(4 + 5, "q, k, v, b", q=(2, 6, 12), k=(2, 7, 12), v=(2, 7, 15), b=w(39)),
    multi(6, "q, k, v, b", attrs="num_heads=6",
          q=(2, 6, 12), k=(2, 7, 12), v=(2, 7, 12), b=w(36)),
    multi(6, "q, k, v, b, , m", attrs="num_heads=6, scale=0.3, unidirectional=1",
          q=(2, 7, 12), k=(2, 7, 12), v=(2, 7, 12), b=w(36), m=(1, 6, 7, 7)),
    multi(4, "q, k, v", q=(2, 6, 12), k=(2, 3, 7, 4), v=(2, 3, 7, 4)),
    multi(4, "q, k, v, , , , pk, pv", "y, nk, nv",
          q=(2, 6, 12), k=(2, 6, 12), v=(2, 6, 12), pk=(2, 3, 2, 4), pv=(2, 3, 2, 4)),
    multi(5, "q, k, v, , , , pk, pv", "y, nk, nv", "num_heads=5",
          q=(2, 6, 15), k=(2, 6, 15), v=(2, 6, 15), pk=(2, 5, 2, 3), pv=(2, 5, 2, 3)),
    # head sizes that stay multiples of 8
    grouped(3, "num_heads=6, kv_num_heads=3", q=(2, 5, 48), k=(2, 5, 24), v=(2, 5, 24)),
    grouped(4, "num_heads=8, kv_num_heads=2, scale=0.2",
            q=(2, 5, 64), k=(2, 5, 16), v=(2, 5, 16)),
    grouped(4, "num_heads=4, kv_num_heads=2", q=(2, 5, 128), k=(2, 5, 64), v=(2, 5, 64)),
    grouped(3, "num_heads=6, kv_num_heads=3", "q, , ", q=(2, 5, 96)),
    grouped(4, "num_heads=2, kv_num_heads=2", "q, , ", q=(2, 5, 192)),
    grouped(3, "num_heads=2, kv_num_heads=2, do_rotary=1", "q, k, v", ", cos, sin",
            q=(2, 5, 96), k=(2, 5, 96), v=(2, 5, 96), cos=w(9, 24), sin=w(9, 24)),
    grouped(3, "num_heads=2, kv_num_heads=2, do_rotary=1, rotary_interleaved=1",
            "q, k, v", ", cos, sin",
            q=(2, 5, 96), k=(2, 5, 96), v=(2, 5, 96), cos=w(9, 24), sin=w(9, 24)),
    grouped(3, "num_heads=3, kv_num_heads=3, do_rotary=1", "q, k, v", ", cos, sin",
            q=(2, 5, 48), k=(2, 5, 48), v=(2, 5, 48), cos=w(9, 8), sin=w(9, 8)),
    grouped(3, "num_heads=3, kv_num_heads=3", "q, k, v", ", , , , bias, sink",
            q=(2, 5, 48), k=(2, 5, 48), v=(2, 5, 48), bias=(2, 3, 5, 5), sink=(3,)),
    # the projection inside: input channels, and one family of the three parts
    fused(5 + 9, "x, k, b", "num_heads=9", x=(2, 6, 5), k=w(5, 54), b=w(54)),
    fused(5 + 3 + 3, "x, k, b", "num_heads=4", x=(2, 6, 5), k=w(5, 36), b=w(36)),
    fused(5 + 4 + 5, "x, k, b", "num_heads=2, qkv_hidden_sizes=[8, 8, 10]",
          x=(2, 6, 5), k=w(5, 26), b=w(26)),
    fused(5 + 5, "x, k, b, , , m", "num_heads=5, unidirectional=1",
          x=(2, 6, 5), k=w(5, 30), b=w(30), m=(2, 5, 6, 6)),
    fused(5 + 3, "x, k, b, , p", "num_heads=2", "y, n",
          x=(2, 6, 5), k=w(5, 18), b=w(18), p=(2, 2, 2, 4, 3)),
    fused(5 + 4, "x, k, b, , p", "num_heads=4", "y, n",
          x=(2, 6, 5), k=w(5, 36), b=w(36), p=(2, 2, 4, 4, 3)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)


SHAPES: dict[str, Any] = {"q": (2, 6, 12), "k": (2, 7, 12), "v": (2, 7, 15)}
COUNTED = [
    (standard(0, q=(2, 3, 6, 4), k=(2, 3, 7, 4), v=(2, 3, 7, 5)), 2 * 6 * 7 * 3 * (4 + 5)),
    (standard(0, FLAT, **SHAPES), 2 * 6 * 7 * 3 * (4 + 5)),
    (multi(0, "q, k, v, b", b=w(39), **SHAPES), 2 * 6 * 7 * 3 * (4 + 5)),
    (
        fused(0, "x, k, b", "num_heads=9", x=(2, 6, 5), k=w(5, 54), b=w(54)),
        2 * 6 * 5 * 54 + 2 * 6 * 6 * (18 + 18),
    ),
]


@pytest.mark.parametrize(("c", "macs"), COUNTED, ids=str)
def test_multiplications(c: Case, macs: int) -> None:
    assert (
        sum(work.amount for n in describe(build(c), ops.traits()) for work in ops.works_of(n))
        == macs
    )


@pytest.mark.parametrize("c", CASES, ids=str)
def test_multiplications_follow_the_axes(c: Case) -> None:
    """What is counted of the pruned operator is what its axes' sizes foretell."""
    model = build(c)
    nodes = describe(model, ops.traits())
    groups = dependencies(nodes, ops.COUPLINGS).groups(lambda axes: axes[0].tensor)
    plan = plan_of(groups, [np.arange(g.channels) < max(1, g.channels // 2) for g in groups])
    left = {axis: len(kept) / plan.size[axis] for axis, kept in plan.keep.items()}
    works = [work for node in nodes for work in ops.works_of(node)]
    foretold = sum(work.amount * np.prod([left.get(a, 1) for a in work.axes]) for work in works)
    small = describe(rewrite(model, nodes, plan), ops.traits())
    counted = sum(work.amount for node in small for work in ops.works_of(node))
    assert counted == pytest.approx(foretold)
    assert counted > 0
