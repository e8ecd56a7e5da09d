"""Widths that are worth having, on a clock that is made up."""

import numpy as np
import pytest
from clock import Clock, staircase
from networks import NETWORKS
from paths import MODELS

from onnxprune.allocation.latency.staircase import MOST_WIDTHS, grid
from onnxprune.groups.analysis import analyze
from onnxprune.surgery.cut import narrowed

DIGITS = str(MODELS / "digits.onnx")


def test_only_steps_are_offered(clock: Clock):
    found, stairs = staircase(DIGITS)
    for group, offered in zip(found.groups, stairs.offered, strict=True):
        assert offered[-1] == group.channels
        assert all(width % clock.block == 0 for width in offered.tolist())


def test_widths_that_are_slower_than_wider_ones_are_not_offered(clock: Clock):
    clock.odd = 20.0
    found, stairs = staircase(DIGITS)
    wide = [o for g, o in zip(found.groups, stairs.offered, strict=True) if g.channels % 16 == 0]
    assert wide
    assert all(width % 16 == 0 for offered in wide for width in offered.tolist())


def test_one_group_alone_takes_what_was_measured(clock: Clock):
    found, stairs = staircase(DIGITS)
    full = np.array([group.channels for group in found.groups])
    assert stairs.times.at(full) == pytest.approx(1)
    whole = clock.cost(found.original.SerializeToString())
    for g, offered in enumerate(stairs.offered):
        for width in offered.tolist():
            kept = [np.arange(n) < (width if k == g else n) for k, n in enumerate(full)]
            cut = clock.cost(narrowed(found, kept, None).SerializeToString())
            there = full.copy()
            there[g] = width
            assert stairs.times.at(there) == pytest.approx(cut / whole, abs=0.02)


@pytest.mark.parametrize("name", ["chain", "vision_transformer", "inverted_residual"])
def test_a_grid_holds_few_widths_and_the_full_one(name: str):
    for group in analyze(NETWORKS[name]()).groups:
        widths = grid(group)
        assert widths[-1] == group.channels and widths[0] > 0
        assert (np.diff(widths) > 0).all() and len(widths) <= MOST_WIDTHS + 1
