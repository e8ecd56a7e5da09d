import numpy as np
import pytest

from onnxprune.ops.extents import RESIZE_OPSET, crop, of_any_size, resize
from onnxprune.types import Node, Tensor


def tensor(name: str, *shape: int | str) -> Tensor:
    return Tensor(name, shape)


def reshape(x: Tensor, sizes: list[int], y: Tensor) -> Node:
    entries = Tensor("s", (len(sizes),), value=np.array(sizes), constant=True)
    return Node("n", "Reshape", (x, entries), (y,))


def test_crops_count_from_both_ends() -> None:
    node = crop([2, 3], [1, 0], [2, 0])
    assert node.stored[1] is not None and node.stored[1].tolist() == [-2, np.iinfo(np.int64).max]
    assert node.op == "Slice" and node.stored[2] is not None


def test_sizes_where_they_are_fixed_and_ratios_where_they_vary() -> None:
    fixed, free = (resize([2, 3], [32, 32], [24, 16], known) for known in (True, False))
    assert [v is None for v in fixed.stored] == [True, True, False]
    assert free.stored[1] is not None and free.stored[1].tolist() == [0.75, 0.5]
    assert fixed.least == RESIZE_OPSET == 18


@pytest.mark.parametrize(
    ("shape", "sizes", "result", "entries"),
    [
        (("N", 8, 1, 1), [-1, 8], ("N", 8), None),  # nothing there follows a size of space
        ((1, 8, 6, 6), [1, 8, 36], (1, 8, 36), [0, 0, -1]),
        (("N", 1, 49, 10), [-1, 1, 49, 10], ("N", 1, 49, 10), [0, 0, 0, 0]),
        (("N", 8, 6, 6), [-1, 288], ("N", 288), [0, -1]),
        ((1, 36, 16), [1, 36, 4, 4], (1, 36, 4, 4), [0, 0, 4, 4]),
        ((2, 6, 4), [12, 4], (12, 4), None),
    ],
)
def test_shapes_copy_sizes(
    shape: tuple[int | str, ...],
    sizes: list[int],
    result: tuple[int | str, ...],
    entries: list[int] | None,
) -> None:
    found = of_any_size(reshape(tensor("x", *shape), sizes, tensor("y", *result)))
    stored = None if found is None else found.stored[0]
    assert (None if stored is None else stored.tolist()) == entries


def test_pools_over_everything() -> None:
    def pool(op: str, window: list[int], **attrs: object) -> str | None:
        node = Node(
            "n",
            op,
            (tensor("x", 1, 8, 4, 6),),
            (tensor("y", 1, 8, 1, 1),),
            {"kernel_shape": window, **attrs},
        )
        found = of_any_size(node)
        return None if found is None else found.op

    assert pool("AveragePool", [4, 6]) == "GlobalAveragePool"
    assert pool("MaxPool", [4, 6], strides=[4, 6]) == "GlobalMaxPool"
    assert pool("LpPool", [4, 6], p=2) == "GlobalLpPool"
    assert pool("AveragePool", [4, 4]) is None
    assert pool("AveragePool", [4, 6], pads=[0, 0, 1, 1]) is None
    assert pool("AveragePool", [4, 6], auto_pad="SAME_UPPER") is None
    assert pool("MaxPool", [4, 6], dilations=[2, 1]) is None
