"""A number of blocks as the target: a budget like any other."""

import numpy as np
import pytest
from networks import NETWORKS

from onnxprune.allocation.depth import depth_of, remove_blocks
from onnxprune.errors import InputError, TargetError
from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import channel_rows


@pytest.fixture(scope="module")
def spine():
    analysis = analyze(NETWORKS["vision_transformer"]())
    blocks = {g: block.inside for g, block in analysis.blocks.items()}
    rng = np.random.default_rng(0)
    errors = [np.sort(rng.random(g.channels + 1))[::-1] - 0.0 for g in analysis.groups]
    for own in errors:
        own[-1] = 0
    return analysis, blocks, channel_rows(analysis.groups, errors, blocks)


def test_those_go_first_that_are_missed_least(spine):
    analysis, blocks, rows = spine
    order = sorted(blocks, key=lambda root: rows[root].errors[0])
    for count in range(1, len(blocks) + 1):
        widths = remove_blocks(analysis.cost, rows, count)
        gone = {g for root in order[:count] for g in blocks[root]}
        expected = [0 if g in gone else group.channels for g, group in enumerate(analysis.groups)]
        assert widths.tolist() == expected


def test_more_than_there_are(spine):
    analysis, blocks, rows = spine
    with pytest.raises(TargetError, match=f"blocks=99 is out of reach: only {len(blocks)} res"):
        remove_blocks(analysis.cost, rows, 99)


def test_what_a_target_says():
    assert depth_of({"blocks": "3"}) == 3 and depth_of({"macs": 0.5}) == 0
    with pytest.raises(InputError, match="stands alone"):
        depth_of({"blocks": 1, "macs": 0.5})
    with pytest.raises(InputError, match="give how many"):
        depth_of({"blocks": 0})
