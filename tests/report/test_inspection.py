"""What inspect says of a model."""

import json

import pytest
from networks import NETWORKS
from text_models import perceptron, two_heads

from onnxprune.groups.analysis import analyze
from onnxprune.report.inspection import frozen_rows, group_rows, inspect_text, inspect_values
from onnxprune.settings import Settings


@pytest.fixture(scope="module")
def analysis():
    return analyze(NETWORKS["residual_spine"]())


def test_groups_with_their_weights_and_shares(analysis):
    values = json.loads(json.dumps(inspect_values(analysis)))
    assert [group["channels"] for group in values["groups"]] == [
        group.channels for group in analysis.groups
    ]
    for group in values["groups"]:
        assert 0 < group["macs_share"] <= 1 and 0 < group["params_share"] <= 1
        assert {m["tensor"] for m in group["members"]} <= analysis.stored.keys()
    spine = max(values["groups"], key=lambda group: len(group["members"]))
    assert spine["channels"] == 16  # the residual stream, which all blocks write to


def test_rows_of_kept_channels(analysis):
    rows = group_rows(analysis, [2] * len(analysis.groups))
    assert [row["name"] for row in rows] == [group.name for group in analysis.groups]
    assert all(row["kept"] == 2 < row["channels"] for row in rows)


def test_what_is_frozen_says_why(analysis):
    """Class scores are an output."""
    rows = frozen_rows(analysis)
    gemm = analysis.nodes[-1].inputs[1].name
    (row,) = (row for row in rows if row["tensor"] == gemm)
    assert (row["blocked"], row["size"]) == (10, 10) and "output of the model" in row["reason"]


def test_the_text_names_every_group_and_frozen_weight(analysis):
    values = inspect_values(analysis)
    text = inspect_text(values)
    for group in values["groups"]:
        assert all(f"{m['tensor']}[{m['axis']}]" in text for m in group["members"])
    assert f"{len(values['frozen'])} weights have channels that cannot be pruned" in text
    assert f"{len(values['groups'])} groups" in text


def test_every_line_of_a_small_model_by_hand() -> None:
    """All MACs and all parameters but the last bias go with the only group."""
    values = inspect_values(analyze(perceptron()))
    assert values["groups"][0]["params_share"] == pytest.approx(24 / 26)
    assert inspect_text(values).splitlines() == [
        "20 MACs at x 1x3, 26 parameters, 358 B",
        "1 groups, shares of MACs and parameters that go with each:",
        "      4 channels  100.0%  92.3%  a[0] b[0] c[1]",
        "1 weights have channels that cannot be pruned:",
        "  c[0] (2 of 2): 'y' is an output of the model; blocked by the interface at y[1]; "
        "it is part of the model's interface",
    ]


def test_heads_positions_and_copies_are_told() -> None:
    text = inspect_text(inspect_values(analyze(two_heads())))
    assert "a[1]*2 c[0]*2  each of 2 heads its own" in text and "a[1]*3 scale[0] c[0]*3" in text
    shared = inspect_text(inspect_values(analyze(NETWORKS["shared_zero_bias"]())))
    assert shared.count("is a copy of shared zero") == 2


def test_groups_that_change_what_stays_are_told() -> None:
    settings = Settings(allow_inexact=True)
    text = inspect_text(inspect_values(analyze(NETWORKS["shares_of_channels"](), settings)))
    assert "inexact: changes the sum of Softmax" in text
