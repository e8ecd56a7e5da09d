"""Masks keep exactly what is asked for, whatever the scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxprune.sparsity import masks
from onnxprune.sparsity.patterns import Blocks, NofM

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)
#: Few different values, so that equal scores are common.
VALUES = st.sampled_from([0.0, 0.5, 1.0, 1.5, 3e-39, 7.25])


def arrays(shape):
    """Also in Fortran's order, as transposed weights are."""
    made = hnp.arrays(np.float32, shape, elements=VALUES)
    return st.one_of(made, made.map(np.asfortranarray))


@settings(max_examples=60, deadline=None)
@given(arrays(SHAPES), st.data())
def test_exactly_so_many_of_the_smallest_go(scores, data):
    dropped = data.draw(st.integers(0, scores.size))
    kept = masks.keep_largest(scores, dropped)
    assert (~kept).sum() == dropped
    if 0 < dropped < scores.size:
        assert scores[kept].min() >= scores[~kept].max()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([(1, 2), (2, 4), (1, 4), (4, 8)]),
       st.data())  # fmt: skip
def test_n_of_m_holds_in_every_group(rows, taps, pattern, data):
    form = NofM(*pattern)
    scores = data.draw(arrays((rows, taps, 2 * form.of)))
    kept = masks.n_of_m(scores, form).reshape(-1, form.of)
    assert (kept.sum(1) == form.kept).all()
    groups = scores.reshape(-1, form.of)
    for own, group in zip(kept, groups, strict=True):
        assert group[own].min() >= group[~own].max()


@settings(max_examples=60, deadline=None)
@given(st.lists(SHAPES.flatmap(arrays), min_size=1, max_size=4), st.data())
def test_a_limit_over_many_arrays_drops_exactly_so_many(arrays, data):
    total = sum(a.size for a in arrays)
    dropped = data.draw(st.integers(0, total))
    limit = masks.limit_of(lambda: iter(arrays), dropped)
    kept = []
    for array in arrays:
        mask, limit = masks.by_limit(array, limit)
        kept.append(mask.ravel())
    mask, flat = np.concatenate(kept), np.concatenate([a.ravel() for a in arrays])
    assert (~mask).sum() == dropped
    if 0 < dropped < total:
        assert flat[mask].min() >= flat[~mask].max()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.data())
def test_blocks_stay_or_go_whole(r, c, taps, data):
    blocks = Blocks(r, c)
    scores = data.draw(arrays((2 * r, taps, 3 * c)))
    sums = masks.block_scores(scores, blocks)
    assert sums.shape == (2, taps, 3)
    np.testing.assert_allclose(sums.sum(), scores.sum(), rtol=1e-5)
    mask = masks.expanded(masks.keep_largest(sums, 2), blocks)
    assert mask.shape == scores.shape and (~mask).sum() == 2 * r * c
    per_block = masks.block_scores(mask.astype(np.float32), blocks)
    assert set(np.unique(per_block)) <= {0, r * c}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 40)] * 3), min_size=1, max_size=5),
       st.floats(0.01, 0.95))  # fmt: skip
def test_erk_keeps_the_share_of_all(shapes, sparsity):
    shares = masks.erk(shapes, sparsity)
    sizes = [r * t * c for r, t, c in shapes]
    assert all(-1e-9 <= share < 1 for share in shares)
    gone = sum(share * size for share, size in zip(shares, sizes, strict=True))
    assert gone == pytest.approx(sparsity * sum(sizes), abs=1e-6 * sum(sizes))
