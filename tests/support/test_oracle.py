"""The oracle itself: rules and shrink functions that are wrong must not pass."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracle import Case, build, case, check_rule, described, freed, ints, w

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.groups.dependency import Constraints
from onnxprune.ops.registry import by_key, free, same, same_but
from onnxprune.types import Coupling, Edit, Fact, Kept, Node, Tensor


def read(node: Node) -> list[Tensor]:
    """What an operator reads where nothing is omitted."""
    return [tensor for tensor in node.inputs if tensor is not None]


def concat_reversed(node: Node) -> Iterator[Fact]:
    (a, b), y = read(node), node.outputs[0]
    for x in (a, b):
        yield from same_but((1,), x, y)
    yield Coupling(b.at(1), y.at(1), np.arange(4), np.arange(4))
    yield Coupling(a.at(1), y.at(1), np.arange(3), np.arange(3) + 4)


def conv_swapped(node: Node) -> Iterator[Fact]:
    (x, k, _), y = read(node), node.outputs[0]
    yield from same(x, 0, y, 0)
    yield from same(k, 0, x, 1)
    yield from same(k, 1, y, 1)


def conv_bias_forgotten(node: Node) -> Iterator[Fact]:
    (x, k, b), y = read(node), node.outputs[0]
    yield from same(k, 0, y, 1)
    yield from same(k, 1, x, 1)
    yield from same(b, 0, b, 0)


def softmax_all_axes(node: Node) -> Iterator[Fact]:
    yield from same_but((), read(node)[0], node.outputs[0])


def reduce_prod_frees_the_reduced(node: Node) -> Iterator[Fact]:
    reduced = read(node)[0].at(1)
    yield Coupling(reduced, reduced, np.arange(3), np.arange(3))


def flatten_tiled(node: Node) -> Iterator[Fact]:
    yield by_key(read(node)[0].at(1), np.arange(7), node.outputs[0].at(1), np.arange(42) % 7)


def gather_identity(node: Node) -> Iterator[Fact]:
    yield Coupling(read(node)[0].at(1), node.outputs[0].at(1), np.arange(3), np.arange(3))


def split_sizes_kept(_node: Node, _kept: Kept) -> Edit:
    return Edit()


def slice_start_kept(_node: Node, _kept: Kept) -> Edit:
    return Edit()


def depth_to_space_wrong_mode(node: Node) -> Iterator[Fact]:
    x, y = read(node)[0], node.outputs[0]
    yield by_key(y.at(1), np.arange(3), x.at(1), np.repeat(np.arange(3), 4))


CONV = case("y = Conv(x, k, b)", 0, x=(2, 4, 5, 5), k=w(4, 4, 3, 3), b=w(4))
#: Numbers that differ; a shrunken model that does not run, or not load.
DIFFERS, FAILS = (AssertionError, "Not equal to tolerance"), "onnxruntime cannot run the model.*"
MUTANTS = [
    ("COUPLINGS", concat_reversed, case("y = Concat<axis=1>(a, b)", 0, a=(1, 3, 2), b=(1, 4, 2)),
     DIFFERS),
    ("COUPLINGS", conv_swapped, CONV, (InputError, f"{FAILS}Conv.*hannels")),
    ("COUPLINGS", conv_bias_forgotten, CONV, (InputError, f"{FAILS}bias")),
    ("COUPLINGS", softmax_all_axes, case("y = Softmax(x)", 0, x=(2, 5)), DIFFERS),
    ("COUPLINGS", reduce_prod_frees_the_reduced, case("y = ReduceProd<axes=[1]>(x)", 0, x=(2, 3)),
     DIFFERS),
    ("COUPLINGS", flatten_tiled, case("y = Flatten(x)", 0, x=(2, 7, 2, 3)), DIFFERS),
    ("COUPLINGS", gather_identity, case("y = Gather<axis=1>(x, i)", 0, x=(2, 5), i=ints(4, 0, 2)),
     (InputError, f"{FAILS}Gather.*bounds")),
    ("COUPLINGS", depth_to_space_wrong_mode,
     case("y = DepthToSpace<blocksize=2>(x)", 0, x=(2, 12, 2, 2)), DIFFERS),
    ("SHRINKS", split_sizes_kept,
     case("a, b = Split<axis=1>(x, s)", 0, x=(2, 7), s=ints(3, 4)),
     (InputError, "cannot load the model.*Split.*'split' \\(7\\)")),
    ("SHRINKS", slice_start_kept,
     case("y = Slice(x, s, e, a)", 0, x=(2, 7), s=ints(1), e=ints(5), a=ints(1)),
     (AssertionError, r"'y' is \(\d, \d\), the reference cut \(\d, \d\)")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "mutant", "c", "failure"), MUTANTS, ids=lambda v: getattr(v, "__name__", "")
)
def test_mutants_are_caught(
    table: str,
    mutant: Callable[..., Any],
    c: Case,
    failure: tuple[type[Exception], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mutant fails as it must, with the count of channels that it frees itself."""
    monkeypatch.setitem(getattr(ops, table), next(iter(c.ops)), mutant)
    count = sum(group.channels for group in freed(described(build(c)), Constraints()))
    assert count, "the mutant frees nothing, so nothing is tested"
    kind, message = failure
    with pytest.raises(kind, match=message):
        check_rule(replace(c, free=count))


def test_completeness_is_checked() -> None:
    with pytest.raises(AssertionError, match="frees 9 channels, expected 8"):
        check_rule(case("y = Conv(x, k)", 8, x=(2, 3, 5, 5), k=w(4, 3, 3, 3)))


def test_a_case_that_no_engine_runs_fails_unless_it_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ops.COUPLINGS, "Mystery", lambda node: free(node.inputs[0]))
    c = case("y = Mystery(x)", 2 + 3, x=(2, 3))
    with pytest.raises(AssertionError, match="neither onnxruntime nor onnx runs it"):
        check_rule(c)
    with pytest.raises(pytest.skip.Exception, match="only on paper"):
        check_rule(c, {c.text: "only on paper"})


def test_a_case_that_runs_must_not_be_listed() -> None:
    c = case("y = Relu(x)", 2 + 3, x=(2, 3))
    with pytest.raises(AssertionError, match="SKIPPED must not list it"):
        check_rule(c, {c.text: "only on paper"})
