"""Random graphs: what must hold of all of them, and that a wrong rule does not pass.

`python tools/property.py` draws thousands.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from properties import as_built, planted_goes, pruned_is_masked
from random_cases import NEVER, WITH_BODIES, cases_of
from random_graphs import Random, around, graphs

from onnxprune import ops
from onnxprune.errors import OnnxpruneError
from onnxprune.ops.registry import by_key, same_but
from onnxprune.types import Coupling, Edit

repeatable = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
WIDE = (np.float32, np.float32, np.float64)


@settings(repeatable, max_examples=30)
@given(graphs())
def test_graphs_are_what_they_were_built_for(drawn: Random):
    as_built(drawn)


def test_what_stays_computes_what_it_did():
    operators: set[str] = set()
    channels: list[int] = []

    @settings(repeatable, max_examples=150)
    @given(graphs())
    def draw(drawn: Random) -> None:
        operators.update(drawn.operators())
        channels.append(pruned_is_masked(drawn))

    draw()
    assert len(operators) > 60 and sum(n > 0 for n in channels) > 90 and sum(channels) > 600


def test_every_rule_can_be_drawn():
    """A rule that random graphs never hold needs a case, or a reason in `random_cases.NEVER`."""
    missing = {op for op in ops.COUPLINGS if not cases_of(op)} - WITH_BODIES
    assert missing == set(NEVER)


@pytest.mark.parametrize("op", sorted(ops.COUPLINGS.keys() - NEVER.keys() - WITH_BODIES))
def test_every_rule_in_a_graph(op: str):
    """Behind weights and before weights, on reals and on integers."""
    for encodes in (False, True):

        @settings(repeatable, max_examples=1, phases=[Phase.generate])
        @given(around(op, encodes))
        def draw(drawn: Random) -> None:
            assert op in drawn.operators()
            as_built(drawn)
            pruned_is_masked(drawn)

        draw()


@pytest.mark.parametrize("step", ["branches", "loop"])
def test_bodies_in_a_graph(step: str):
    @settings(repeatable, max_examples=3)
    @given(graphs(favour=step))
    def draw(drawn: Random) -> None:
        pruned_is_masked(drawn)

    draw()


@pytest.mark.parametrize("step", ["layer_norm", "group_norm", "fused"])
def test_normalisations_of_what_is_left(step: str):
    @settings(repeatable, max_examples=12)
    @given(graphs(favour=step))
    def draw(drawn: Random) -> None:
        pruned_is_masked(drawn, inexact=True)

    draw()


def test_planted_channels_go():
    """Nearly all: a channel stays where the constants that reach it cannot be folded."""
    counts = np.zeros(2)

    @settings(repeatable, max_examples=70)
    @given(graphs(kinds=WIDE))  # half precision cannot tell a sum from the same in another order
    def draw(drawn: Random) -> None:
        counts[:] += planted_goes(drawn)

    draw()
    planted, gone = counts
    assert planted > 100 and gone > 0.75 * planted


def concat_reversed(node):
    y, axis = node.outputs[0], node.attrs["axis"] % node.outputs[0].rank
    start = y.size(axis) or 0
    for x in node.inputs:
        yield from same_but((axis,), x, y)
        if x.size(axis) and y.size(axis):
            start -= x.size(axis)
            at = np.arange(x.size(axis))
            yield Coupling(x.at(axis), y.at(axis), at, start + at)


def split_all_alike(node):
    """Every result starts at the first position."""
    x = node.inputs[0]
    axis = node.attrs.get("axis", 0) % x.rank
    for y in node.outputs:
        yield from same_but((axis,), x, y)
        at = np.arange(y.size(axis) or 0)
        yield Coupling(x.at(axis), y.at(axis), at, at)


def flatten_tiled(node):
    """Channels repeat, as if they lay inside and not outside."""
    x, y = node.inputs[0], node.outputs[0]
    n, m = x.size(1), y.size(1)
    if node.attrs.get("axis", 1) == 1 and n and m:
        yield by_key(x.at(1), np.arange(n), y.at(1), np.arange(m) % n)


def softmax_elementwise(node):
    yield from same_but((), node.inputs[0], node.outputs[0])


def transpose_ignored(node):
    x, y = node.inputs[0], node.outputs[0]
    yield from same_but((), x, y)


def nothing(node, kept):
    return Edit()


MUTANTS = [
    ("COUPLINGS", "Concat", concat_reversed, "concat"),
    ("COUPLINGS", "Split", split_all_alike, "split"),
    ("COUPLINGS", "Flatten", flatten_tiled, "flatten"),
    ("COUPLINGS", "Softmax", softmax_elementwise, "softmax"),
    ("COUPLINGS", "Transpose", transpose_ignored, "transpose"),
    ("SHRINKS", "Slice", nothing, "slice_"),
    ("SHRINKS", "Reshape", nothing, "reshape"),
    ("SHRINKS", "Gather", nothing, "gather"),
]


@pytest.mark.parametrize(
    ("table", "op", "mutant", "step"), MUTANTS, ids=[f"{m[1]}-{m[2].__name__}" for m in MUTANTS]
)
def test_wrong_rules_are_found(
    table: str,
    op: str,
    mutant: Callable[..., object],
    step: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(getattr(ops, table), op, mutant)

    @settings(repeatable, max_examples=1000, phases=[Phase.generate])
    @given(graphs(favour=step))
    def draw(drawn: Random) -> None:
        if op in drawn.operators():
            pruned_is_masked(drawn)

    with pytest.raises(OnnxpruneError, match="proof failed"):
        draw()
