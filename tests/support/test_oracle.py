"""The oracle itself: rules and shrink functions that are wrong must not pass."""

import numpy as np
import pytest
from oracle import Case, case, check_rule, ints, w

from onnxprune import ops
from onnxprune.errors import OnnxpruneError
from onnxprune.ops.registry import by_key, same, same_but
from onnxprune.types import Coupling, Edit


def concat_reversed(node):
    (a, b), y = node.inputs, node.outputs[0]
    for x in (a, b):
        yield from same_but((1,), x, y)
    yield Coupling(b.at(1), y.at(1), np.arange(4), np.arange(4))
    yield Coupling(a.at(1), y.at(1), np.arange(3), np.arange(3) + 4)


def conv_swapped(node):
    x, k, y = node.inputs[0], node.inputs[1], node.outputs[0]
    yield from same(x, 0, y, 0)
    yield from same(k, 0, x, 1)
    yield from same(k, 1, y, 1)


def conv_bias_forgotten(node):
    x, k, y = node.inputs[0], node.inputs[1], node.outputs[0]
    yield from same(k, 0, y, 1)
    yield from same(k, 1, x, 1)
    yield from same(node.inputs[2], 0, node.inputs[2], 0)


def softmax_all_axes(node):
    yield from same_but((), node.inputs[0], node.outputs[0])


def reduce_mean_frees_the_reduced(node):
    yield Coupling(node.inputs[0].at(1), node.inputs[0].at(1), np.arange(3), np.arange(3))


def flatten_tiled(node):
    x, y = node.inputs[0], node.outputs[0]
    yield by_key(x.at(1), np.arange(7), y.at(1), np.arange(42) % 7)


def gather_identity(node):
    x, y = node.inputs[0], node.outputs[0]
    yield Coupling(x.at(1), y.at(1), np.arange(3), np.arange(3))


def split_sizes_kept(node, kept):
    return Edit()


def slice_start_kept(node, kept):
    return Edit()


def depth_to_space_wrong_mode(node):
    x, y = node.inputs[0], node.outputs[0]
    yield by_key(y.at(1), np.arange(3), x.at(1), np.repeat(np.arange(3), 4))


CONV = case("y = Conv(x, k, b)", 0, x=(2, 4, 5, 5), k=w(4, 4, 3, 3), b=w(4))
MUTANTS = [
    ("COUPLINGS", concat_reversed, case("y = Concat<axis=1>(a, b)", 0, a=(1, 3, 2), b=(1, 4, 2))),
    ("COUPLINGS", conv_swapped, CONV),
    ("COUPLINGS", conv_bias_forgotten, CONV),
    ("COUPLINGS", softmax_all_axes, case("y = Softmax(x)", 0, x=(2, 5))),
    ("COUPLINGS", reduce_mean_frees_the_reduced, case("y = ReduceMean<axes=[1]>(x)", 0, x=(2, 3))),
    ("COUPLINGS", flatten_tiled, case("y = Flatten(x)", 0, x=(2, 7, 2, 3))),
    ("COUPLINGS", gather_identity, case("y = Gather<axis=1>(x, i)", 0, x=(2, 5), i=ints(4, 0, 2))),
    ("COUPLINGS", depth_to_space_wrong_mode,
     case("y = DepthToSpace<blocksize=2>(x)", 0, x=(2, 12, 2, 2))),
    ("SHRINKS", split_sizes_kept,
     case("a, b = Split<axis=1>(x, s)", 0, x=(2, 7), s=ints(3, 4))),
    ("SHRINKS", slice_start_kept,
     case("y = Slice(x, s, e, a)", 0, x=(2, 7), s=ints(1), e=ints(5), a=ints(1))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "mutant", "c"), MUTANTS, ids=lambda v: getattr(v, "__name__", "")
)
def test_mutants_are_caught(table: str, mutant, c: Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(getattr(ops, table), next(iter(c.ops)), mutant)
    free = _freed(c)
    with pytest.raises((AssertionError, OnnxpruneError, ValueError, IndexError)):
        check_rule(Case(c.text, free, c.tensors, c.opset))


def test_completeness_is_checked():
    with pytest.raises(AssertionError, match="frees 9 channels, expected 8"):
        check_rule(case("y = Conv(x, k)", 8, x=(2, 3, 5, 5), k=w(4, 3, 3, 3)))


def _freed(c: Case) -> int:
    from oracle import build

    from onnxprune.groups.dependency import dependencies
    from onnxprune.ir.shape_inference import describe

    groups = dependencies(describe(build(c), ops.traits()), ops.COUPLINGS, {}, ()).groups(
        lambda axes: axes[0].tensor
    )
    assert groups, "the mutant frees nothing, so nothing is tested"
    return sum(group.channels for group in groups)
