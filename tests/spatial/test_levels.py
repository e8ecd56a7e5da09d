"""Ladders of sizes along axes, and which of them go together."""

import pytest

from onnxprune.spatial.levels import levels, sizes_of
from onnxprune.spatial.space import Space, SpaceAxis


def axis(size: int, stride: int, number: int = 2) -> SpaceAxis:
    return SpaceAxis(number, size, stride, True)


@pytest.mark.parametrize(
    ("size", "stride", "sizes"),
    [
        (32, 4, [32, 28, 24, 20, 16]),
        (128, 32, [128, 112, 96, 80, 64]),
        (224, 32, [224, 192, 160, 128]),
        (49, 2, [49, 45, 41, 37, 33, 29, 25]),
        (64, 64, [64, 32]),
    ],
)
def test_sizes_differ_by_multiples_of_the_stride(size: int, stride: int, sizes: list[int]):
    assert sizes_of(axis(size, stride)) == sizes


def test_long_axes_take_few_steps():
    sizes = sizes_of(axis(16000, 160))
    assert len(sizes) <= 9 and sizes[-1] >= 8000
    assert all((16000 - size) % 160 == 0 for size in sizes)


def test_pairs_of_axes():
    square = levels(Space("x", (axis(32, 4), axis(32, 4, 3)), {}))
    crops = {(e.axes, e.left) for e in square if e.kind == "crop"}
    assert {((2,), (28,)), ((3,), (16,)), ((2, 3), (24, 20)), ((2, 3), (24, 24))} <= crops
    assert ((2, 3), (28, 16)) not in crops
    assert [e.left for e in square if e.kind == "resize"] == [
        (28, 28),
        (24, 24),
        (20, 20),
        (16, 16),
    ]


def test_one_axis_and_three():
    one = levels(Space("x", (axis(49, 2),), {}))
    assert {e.left for e in one} == {(k,) for k in (45, 41, 37, 33, 29, 25)} and len(one) == 12
    three = levels(Space("x", (axis(16, 4), axis(32, 4, 3), axis(32, 4, 4)), {}))
    assert all(len(e.axes) == 1 for e in three)
