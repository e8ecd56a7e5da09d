"""What is asked of sparsity, and what contradicts itself."""

import pytest

from onnxprune.errors import InputError
from onnxprune.sparsity.options import Sparsity, checked
from onnxprune.sparsity.patterns import Blocks, NofM


@pytest.mark.parametrize(
    "what",
    [
        Sparsity(sparsity=0.5),
        Sparsity(threshold=0.0),
        Sparsity(pattern="2:4"),
        Sparsity(pattern="4x1", sparsity=0.5),
        Sparsity(layer_sparsity={"conv": 0.5}),
    ],
)
def test_what_can_be_done_stays_as_it_is(what: Sparsity):
    assert checked(what, calibrated=False) == what


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (Sparsity(), "nothing to do"),
        (Sparsity(sparsity=1.0), r"lies in \[0, 1\)"),
        (Sparsity(layer_sparsity={"a": -0.1}), "of 'a'"),
        (Sparsity(threshold=float("inf")), "at least 0"),
        (Sparsity(threshold=0.1, pattern="2:4"), "no sparsity and no pattern"),
        (Sparsity(pattern="2:4", sparsity=0.5), "give no sparsity with it"),
        (Sparsity(pattern="4x1"), "say how much"),
        (Sparsity(sparsity=0.5, scope="some"), "unknown scope 'some'"),
        (Sparsity(sparsity=0.5, misfit="cry"), "unknown misfit 'cry'"),
        (Sparsity(sparsity=0.5, criterion="obs"), "give --calib"),
        (Sparsity(sparsity=0.5, ops="Conv"), "give a list"),
    ],
)
def test_what_cannot(what: Sparsity, message: str):
    with pytest.raises(InputError, match=message):
        checked(what, calibrated=False)


def test_samples_allow_what_looks_at_them():
    assert checked(Sparsity(sparsity=0.5, criterion="wanda"), calibrated=True)


def test_the_form_of_a_pattern():
    assert Sparsity(pattern="2:4").form == NofM(2, 4)
    assert Sparsity(pattern="4x1").form == Blocks(4, 1)
    assert Sparsity(sparsity=0.5).form is None
