"""Words of the commands for single weights and recipes."""

import pytest

from onnxprune import InputError
from onnxprune.cli_sparsity import parse_share, stages


@pytest.mark.parametrize(("text", "expected"), [("a=0.5", ("a", 0.5)), ("a=b=1e-1", ("a=b", 0.1))])
def test_shares(text: str, expected: tuple[str, float]):
    assert parse_share(text) == expected


@pytest.mark.parametrize("text", ["a", "0.5", "a=", "a=x", "=0.5x"])
def test_what_is_no_share(text: str):
    with pytest.raises(InputError, match=f"layer sparsity '{text}': write REGEX=SHARE"):
        parse_share(text)


def test_stages_that_follow_pruning():
    made = stages({"target": {"macs": 0.5}}, ("sparsify=2:4", "quantise"), {"calib": "samples.npz"})
    assert [stage.kind for stage in made.stages] == ["prune", "sparsify", "quantise"]
    assert made.stages[0].options == {"target": {"macs": 0.5}, "round_to": 4}
    assert made.common == {"calib": "samples.npz"}
    assert stages({}, (), {}).common == {}
