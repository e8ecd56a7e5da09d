"""What inspect says of a model."""

import json

import pytest
from networks import NETWORKS

from onnxprune.groups.analysis import analyze
from onnxprune.report.inspection import frozen_rows, group_rows, inspect_text, inspect_values


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
