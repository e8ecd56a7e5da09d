"""Cuts of small models: which channels stay, and the model that is left."""

from collections.abc import Collection, Sequence

import numpy as np
from networks import Net
from numpy.typing import NDArray
from onnx import ModelProto

from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.settings import Settings
from onnxprune.surgery.cut import Stage, cut, running

Kept = list[NDArray[np.bool_]]
#: A rule that is wrong: removal changes what Softmax makes of the channels that stay.
WRONG = {"Softmax": {"kind": "elementwise", "override": True}}


def masks_without(analysis: Analysis, **gone: Sequence[int]) -> Kept:
    """All channels of every group, but for those `gone` by the group's name."""
    assert gone.keys() <= {group.name for group in analysis.groups}
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    for group, mask in zip(analysis.groups, kept, strict=True):
        mask[list(gone.get(group.name, ()))] = False
    return kept


def emptied(analysis: Analysis, *groups: int) -> Kept:
    """No channel of some groups, all of the others."""
    kept = masks_without(analysis)
    for g in groups:
        kept[g][:] = False
    return kept


def fewer(analysis: Analysis, inside: Collection[int], rng: np.random.Generator) -> Kept:
    """No channel of the groups in `inside`, of each other group one less than there are."""
    kept = emptied(analysis, *inside)
    for mask in (mask for g, mask in enumerate(kept) if g not in inside and len(mask) > 1):
        mask[rng.integers(len(mask))] = False
    return kept


def drawn_masks(analysis: Analysis, seed: int = 0, share: float = 0.7) -> Kept:
    """Seeded channels of every group, the first one always."""
    rng = np.random.default_rng(seed)
    kept = [rng.random(group.channels) < share for group in analysis.groups]
    for mask in kept:
        mask[0] = True
    return kept


def cut_to(analysis: Analysis, kept: Kept, settings: Settings | None = None) -> Stage:
    """The cut and its proof."""
    options = settings or Settings()
    with running(analysis, options) as original:
        return cut(analysis, kept, options, original)


def softmax_over_channels() -> ModelProto:
    """Group `c2` can be cut; `c0` could only if Softmax treated channels one by one."""
    n = Net(x=("N", 3, 8, 8))
    y = n.op("Softmax", n.relu(n.conv("x", 3, 8)), axis=1)
    return n.model(n.conv(n.relu(n.conv(y, 8, 12)), 12, 4))


def wrongly_analyzed() -> Analysis:
    """That network with the wrong rule: `c0` and `c2` are groups, and `c0` must fail the proof."""
    return analyze(softmax_over_channels(), Settings(rules=WRONG))
