"""A budget for bytes is tightened until the file holds it; all others stay as they were."""

from collections.abc import Mapping

import numpy as np
import pytest
from text_models import perceptron, text_model

from onnxprune.errors import TargetError
from onnxprune.groups.analysis import analyze
from onnxprune.ir import save
from onnxprune.ir.graph import ModelProto
from onnxprune.pipeline.size_budget import FRAMING, excess_bytes, within_size
from onnxprune.surgery.cut import Stage
from onnxprune.surgery.proof import Proof
from onnxprune.types import Plan

ANALYSIS = analyze(perceptron())


def stage(model: ModelProto) -> Stage:
    return Stage(ANALYSIS, [], Plan({}, {}), model, Proof(0.0, True), {}, {}, {})


def table(rows: int) -> ModelProto:
    """A model with so many rows of 16 bytes, and the framing of its file."""
    text = "net (float[N, 4] x) => (float[N, k] y) { y = Gemm <transB = 1> (x, w) }"
    return text_model(text, w=(rows, 4))


class Maker:
    """Makes as many rows as the asked bytes have room for, forgetting the framing."""

    def __init__(self) -> None:
        self.asked = list[Mapping[str, float]]()

    def __call__(self, asked: Mapping[str, float]) -> Stage:
        self.asked.append(asked)
        rows = int(asked.get("size", 1600) // 16)
        if rows < 1:
            raise TargetError("size is out of reach")
        return stage(table(rows))


@pytest.mark.parametrize("limit", [800, 1234, 5000])
def test_a_size_is_tightened_until_the_file_holds_it(limit: int) -> None:
    make = Maker()
    made = within_size({"size": limit, "macs": 7.0}, make)
    assert save.file_bytes(made.model) <= limit
    sizes = [asked["size"] for asked in make.asked]
    assert len(sizes) == 2 and sizes[0] == limit and sizes[1] < limit - FRAMING
    assert all(asked["macs"] == 7.0 for asked in make.asked)


def test_what_fits_at_once_is_made_once() -> None:
    make = Maker()
    within_size({"macs": 5.0}, make)
    within_size({"size": np.inf, "macs": 5.0}, lambda asked: stage(table(3)))
    assert make.asked == [{"macs": 5.0}]


def test_the_budgets_that_were_given_are_not_changed() -> None:
    budgets = {"size": 1000.0}
    within_size(budgets, Maker())
    assert budgets == {"size": 1000.0}


def test_a_size_that_cannot_be_held_ends_with_what_the_maker_says() -> None:
    make = Maker()
    with pytest.raises(TargetError, match="size is out of reach"):
        within_size({"size": 100}, make)
    assert len(make.asked) >= 2


def test_excess_is_what_the_file_has_above_the_budget() -> None:
    model = table(10)
    size = save.file_bytes(model)
    assert excess_bytes(stage(model), {"size": size - 30}) == 30
    assert excess_bytes(stage(model), {"size": size + 30}) == -30
    assert excess_bytes(stage(model), {"macs": 1.0}) == -np.inf


def test_biases_that_will_go_again_are_not_counted() -> None:
    """Zero biases are there for the refit only: those that stay zero are taken out of the file."""
    text = "net (float[N, 4] x) => (float[N, 9] y) { y = MatMul (x, w) }"
    analysis = analyze(text_model(text, w=(4, 9)), biases=True)
    (bias,) = (name for name in analysis.stored if name != "w")
    moved = analysis.with_weights({bias: np.ones(9, np.float32)}).model
    budgets = {"size": 100.0}
    for model, least in ((analysis.model, 9 * 4), (moved, 0)):
        credit = save.file_bytes(model) - 100 - excess_bytes(stage(model), budgets)
        assert credit >= least and (credit > 0) == (least > 0)
