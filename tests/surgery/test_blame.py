"""The search for the group whose cut fails: one among many, and blocks in one piece."""

from collections.abc import Sequence

import numpy as np
import pytest
from cuts import cut_to, drawn_masks, masks_without, wrongly_analyzed
from networks import Net
from text_models import bottleneck

from onnxprune.errors import ProofError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.surgery.blame import blamed
from onnxprune.surgery.proof import Proof
from onnxprune.types import Masks

FAILED = Proof(0.25, False, "y")
FINE = {"y": np.ones(3, np.float32)}


def many_groups() -> Analysis:
    """Nine layers with eight groups between them."""
    n, y = Net(x=("N", 4)), "x"
    for _ in range(9):
        y = n.relu(n.gemm(y, 4, 4))
    return analyze(n.model(y))


class Judge:
    """Passes every cut but those of the guilty, and remembers what it was asked."""

    def __init__(self, guilty: Sequence[int]) -> None:
        self.guilty, self.asked = guilty, list[set[int]]()

    def __call__(self, only: Masks) -> bool:
        self.asked.append({g for g, mask in enumerate(only) if not mask.all()})
        return self.asked[-1].isdisjoint(self.guilty)


@pytest.mark.parametrize("guilty", range(8))
def test_the_one_guilty_group_is_found_among_many(guilty: int) -> None:
    analysis, judge = many_groups(), Judge([guilty])
    assert len(analysis.groups) == 8
    error = blamed(analysis, drawn_masks(analysis, share=0.2), FAILED, FINE, judge)
    name = analysis.groups[guilty].name
    assert error.group == guilty and len(judge.asked) == 3  # 8, 4, 2, 1
    assert str(error) == (
        "proof failed at output 'y': relative error 0.25 between the pruned model and the masked "
        f"original; group '{name}' is cut wrongly. Nothing was written. Leave it out with "
        f"--exclude '{name}' and report the model."
    )


def test_of_several_guilty_groups_one_is_named() -> None:
    analysis = many_groups()
    error = blamed(analysis, drawn_masks(analysis, share=0.2), FAILED, FINE, Judge([2, 3, 7]))
    assert error.group in (2, 3, 7)


def test_what_stays_whole_is_no_suspect() -> None:
    analysis, judge = many_groups(), Judge([5])
    names = [group.name for group in analysis.groups]
    kept = masks_without(analysis, **{names[g]: [0] for g in (1, 5)})
    assert blamed(analysis, kept, FAILED, FINE, judge).group == 5
    assert judge.asked == [{1}]


def test_groups_of_a_block_that_goes_are_tried_together() -> None:
    """Half of a block cannot be removed: what is left would not be the shortcut and a bias."""
    analysis = analyze(bottleneck())
    (block,) = analysis.blocks.values()
    inside = set(block.inside)
    assert len(inside) == 2 and len(analysis.groups) == 3
    kept = masks_without(analysis, w1=range(6), w2=range(5), w0=[0])
    for guilty in (min(inside), next(iter({0, 1, 2} - inside))):
        judge = Judge([guilty])
        error = blamed(analysis, kept, FAILED, FINE, judge)
        assert all(asked & inside in (set(), inside) for asked in judge.asked) and judge.asked
        assert error.group is not None and (error.group in inside) == (guilty in inside)


def test_an_original_that_gives_nan_is_not_the_groups_fault() -> None:
    analysis = many_groups()
    nan = {"y": np.array([np.nan, 1], np.float32)}
    error = blamed(analysis, drawn_masks(analysis), FAILED, nan, Judge(range(8)))
    assert error.group is None
    assert "the original itself gives NaN at output 'y'" in str(error)


def test_where_nothing_was_cut_nobody_is_named() -> None:
    analysis = many_groups()
    error = blamed(analysis, masks_without(analysis), FAILED, FINE, Judge([]))
    assert error.group is None and "group '?' is cut wrongly" in str(error)


def test_the_proof_itself_finds_the_group_of_a_wrong_rule() -> None:
    analysis = wrongly_analyzed()
    names = [group.name for group in analysis.groups]
    with pytest.raises(
        ProofError, match=r"proof failed at output .* group 'c0' is cut wrongly"
    ) as e:
        cut_to(analysis, drawn_masks(analysis))
    assert names == ["c0", "c2"] and e.value.group == 0
