"""Positions of a crop are found wherever a model keeps them."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from spatial_networks import flattened, pooled, vision_transformer

from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.settings import Settings
from onnxprune.spatial import view
from onnxprune.spatial.extent import Extent
from onnxprune.spatial.positions import Followed, follow
from onnxprune.surgery.cut import Stage, running
from onnxprune.types import Axis


def crop(*left: int, size: int = 16, axes: tuple[int, ...] = (2, 3)) -> Extent:
    return Extent("x", "crop", axes, (size,) * len(left), left)


def stage(analysis: Analysis, extent: Extent) -> Stage:
    with running(analysis, Settings()) as original:
        return view.seeing_less(analysis, view.view(analysis, extent), original)


def sizes(model: onnx.ModelProto) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


@pytest.mark.parametrize("channels_last", [False, True])
def test_columns_behind_a_flatten(channels_last: bool):
    analysis = analyze(flattened(channels_last=channels_last))
    axes = (1, 2) if channels_last else (2, 3)
    extent = crop(8, 8, axes=axes)
    found = follow(analysis, extent)
    ((name, kept),) = found.stored.items()
    grid = np.arange(80).reshape((4, 4, 5) if channels_last else (5, 4, 4))
    left = grid[1:3, 1:3] if channels_last else grid[:, 1:3, 1:3]
    assert found.exact and kept[1].tolist() == left.ravel().tolist()
    made = stage(analysis, extent)
    assert made.proof.passed and sizes(made.model)[name] == [8, 20]


def test_no_multiple_of_the_strides_is_not_proved():
    with pytest.raises(ProofError, match="is not what the original gives"):
        stage(analyze(flattened()), crop(12, 12))


def test_wrong_columns_fail_the_proof(monkeypatch: pytest.MonkeyPatch):
    def wrong(analysis: Analysis, extent: Extent) -> Followed:
        found = follow(analysis, extent)
        stored = {n: {a: at - 1 for a, at in kept.items()} for n, kept in found.stored.items()}
        return replace(found, stored=stored)

    monkeypatch.setattr(view, "follow", wrong)
    with pytest.raises(ProofError, match="is not what the original gives"):
        stage(analyze(flattened()), crop(8, 8))


def test_position_embeddings_lose_rows():
    analysis = analyze(vision_transformer())
    extent = crop(24, 32, size=32)
    found = follow(analysis, extent)
    rows = 1 + np.arange(64).reshape(8, 8)[1:7].ravel()
    assert found.stored.keys() == {"positions"} and not found.exact
    assert found.stored["positions"][1].tolist() == [0, *rows.tolist()]
    made = stage(analysis, extent)
    assert sizes(made.model)["positions"] == [1, 49, 8]
    with pytest.raises(
        InputError, match="'positions' belongs to positions of the input: use a crop"
    ):
        view.view(analysis, Extent("x", "resize", (2, 3), (32, 32), (24, 24)))


def test_pooled_models_store_nothing_for_positions():
    found = follow(analyze(pooled()), crop(24, 28, size=32))
    assert not found.stored and not found.exact
    assert found.plan.keep[Axis("x", 2)].tolist() == list(range(4, 28))
