"""Which numbers may go together."""

import pytest

from onnxprune.errors import InputError
from onnxprune.sparsity.patterns import Blocks, NofM, parse_pattern


@pytest.mark.parametrize("text", ["", "2", "4:2", "2:2", "0:4", "2:4:8", "x4", "0x4", "a:b"])
def test_no_pattern(text: str):
    with pytest.raises(InputError, match="pattern"):
        parse_pattern(text)


def test_patterns_say_what_does_not_fit():
    assert str(parse_pattern("2:4")) == "2:4" and str(parse_pattern("4x1")) == "4x1"
    assert NofM(2, 4).misfit((8, 9, 6)) == "6 input channels are no multiple of 4"
    assert NofM(2, 4).misfit((8, 9, 1)) == "every result reads one channel only"
    assert not NofM(2, 4).misfit((8, 9, 8))
    assert Blocks(4, 1).misfit((6, 1, 5)) == "6 results are no multiple of 4"
    assert Blocks(1, 2).misfit((6, 1, 5)) == "5 input channels are no multiple of 2"
    assert not Blocks(3, 5).misfit((6, 1, 5))


def test_the_share_that_goes():
    assert NofM(2, 4).sparsity == 0.5 and NofM(1, 4).sparsity == 0.75
