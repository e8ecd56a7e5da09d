"""What has one width in a module keeps zeros where a plan has several, and computes the same."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from exported_networks import convolutional, exported_convolutional
from onnx_text import run

import onnxprune
from onnxprune.torch.cuts import Cut, cuts_of, sliced
from onnxprune.torch.planned import Planned, planned, read_plan
from onnxprune.torch.representable import Rows, heads_of, representable, with_least
from onnxprune.torch.state import arrays_of, matched

FIRST, SECOND = Rows("conv1.weight", 0, 0, 8), Rows("conv2.weight", 0, 0, 6)


@pytest.fixture(scope="module")
def done() -> Planned:
    """Four of eight channels stay in the first layer, two of six in the second."""
    model = exported_convolutional(convolutional())
    result = onnxprune.prune(
        model,
        {},
        layer_ratio={"Conv_2": 0.5, "Conv_4": 0.34},
        latency=False,
        compensate=False,
        round_to=1,
    )
    return planned(model, read_plan(result))


def exported(done: Planned, equal: list[tuple[Rows, ...]]) -> onnx.ModelProto:
    """The cut checkpoint as a model."""
    state = convolutional()
    matches = matched(done, state, arrays_of(state))
    fits = representable(done, matches, equal)
    cuts = cuts_of(fits.plan, matches, state, fits.silent).entries
    return exported_convolutional(
        {n: sliced(v, cuts.get(n, Cut()), n.endswith("running_var")) for n, v in state.items()}
    )


@pytest.mark.parametrize(
    "equal",
    [[], [(FIRST, SECOND)], [(FIRST, SECOND, SECOND)]],
    ids=["several widths", "one width", "twice in a group"],
)
def test_zeros_change_no_result(done: Planned, equal: list[tuple[Rows, ...]]) -> None:
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)}
    model = exported(done, equal)
    widths = [t.dims[0] for t in model.graph.initializer if len(t.dims) == 4]
    assert widths == ([4, 4] if equal else [4, 2])
    np.testing.assert_allclose(run(model, **feeds)["y"], run(done.model, **feeds)["y"], rtol=1e-5)


def test_a_group_that_goes_whole_keeps_a_channel(done: Planned) -> None:
    empty = replace(done, kept=[np.zeros_like(mask) for mask in done.kept])
    assert [int(mask.sum()) for mask in with_least(empty)] == [1] * len(done.kept)
    assert not any(mask.any() for mask in empty.kept)


def test_heads_keep_as_many_places_each() -> None:
    rows = Rows("q", 0, 4, 16, 3)
    heads, width = heads_of(rows, np.array([0, 1, 4, 5, 13, 15, 17]))
    assert heads.tolist() == [0, 2] and width == 2
    assert heads_of(rows, np.array([4, 8, 9]))[1] == 0
