"""Extents in words, in numbers and in plan files."""

import numpy as np
import pytest

from onnxprune.errors import InputError
from onnxprune.spatial.extent import Extent, cropped, described, extent_of, first_node_of, values_of

CROP = Extent("x", "crop", (2, 3), (32, 48), (28, 41))
SMALLER = Extent("x", "resize", (2, 3), (32, 32), (24, 24))


def test_what_a_crop_leaves_out():
    assert (CROP.before, CROP.after) == ((2, 3), (2, 4))
    values = np.arange(32 * 48.0).reshape(1, 1, 32, 48)
    assert np.array_equal(cropped(CROP, values), values[:, :, 2:30, 3:44])


def test_plain_words():
    assert described(CROP, 4) == (
        "2 px of 32 at the top and bottom border, 3 and 4 px of 48 at the left and right border of "
        "'x' are cut off and no longer looked at"
    )
    last = Extent("x", "crop", (1, 2), (32, 32), (32, 24))
    assert "4 px of 32 at the left and right border" in described(last, 4)
    sound = Extent("s", "crop", (2,), (16000,), (12000,))
    assert described(sound, 3).startswith(
        "2000 positions of 16000 at the beginning and end of axis 2"
    )
    assert described(SMALLER, 4) == "'x' is made smaller first, from 32×32 to 24×24"


def test_operators():
    crop, smaller = first_node_of(CROP), first_node_of(SMALLER)
    assert [crop.op, smaller.op] == ["Slice", "Resize"]
    assert smaller.attrs["antialias"] == 1 and smaller.least == 18


@pytest.mark.parametrize("extent", [CROP, SMALLER])
def test_a_plan_file_gives_it_back(extent: Extent):
    assert extent_of(values_of(extent)) == extent


@pytest.mark.parametrize(
    "change", [{"kind": "zoom"}, {"left": [0, 4]}, {"left": [33, 4]}, {"axes": [2]}, {"full": "no"}]
)
def test_what_cannot_be_is_refused(change: dict[str, object]):
    with pytest.raises(InputError, match="the plan's extent"):
        extent_of(values_of(CROP) | change)
    with pytest.raises(InputError, match="lacks or holds a wrong 'left'"):
        extent_of({name: value for name, value in values_of(CROP).items() if name != "left"})
