"""What a target asks for, and what is none."""

import pytest
from click.testing import CliRunner
from paths import MODELS

from onnxprune.allocation.targets import budgets, parse_ratio, parse_shape, parse_target
from onnxprune.cli import main
from onnxprune.errors import InputError

DIGITS = str(MODELS / "digits.onnx")
FULL = (1e6, 1e5, 4e5, 64.0)


def test_targets():
    full = [1000.0, 200.0, 5e6, 64.0]
    parsed = parse_target("macs=50%, size=2MB")
    assert budgets(parsed, full) == {"macs": 500.0, "size": 2e6}
    assert budgets({"params": "120", "macs": 0.25}, full) == {"params": 120.0, "macs": 250.0}
    assert budgets({"macs": "0.5k"}, full) == {"macs": 500.0}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"flops": 0.5}, "unknown target 'flops'. There are: macs, params, size, ratio"),
        ({"macs": 0}, "macs=0 is out of range"),
        ({"macs": 1.5}, "macs=1.5 is out of range"),
        ({"macs": "-1"}, "macs=-1: give a share"),
        ({"macs": "150%"}, "macs=150% is out of range"),
        ({"macs": "half"}, "macs=half: give a share"),
        ({"ratio": "12M"}, "ratio=12M: give the share of channels to keep"),
    ],
)
def test_bad_targets(target, message):
    with pytest.raises(InputError, match=message):
        budgets(target, [1000.0, 200.0, 5e6, 64.0])


def test_a_share_of_nothing_is_refused():
    for metric in ("macs", "params"):
        with pytest.raises(InputError, match=f"{metric}=0.5: the model has no {metric} that could"):
            budgets({metric: 0.5}, [0.0, 0.0, 5e6, 64.0])


def test_shapes_and_ratios():
    for text in ("image:1,3,8,8", "image:[1,3,8,8]", "image:1x3x8x8", "1,3,8,8"):
        assert parse_shape(text, ["image"]) == ("image", (1, 3, 8, 8))
    with pytest.raises(InputError, match="name the input, one of a, b"):
        parse_shape("1,3", ["a", "b"])
    assert parse_ratio("layer1.*=0.5") == ("layer1.*", 0.5)
    for text in ("layer1", "[=0.5", "x=2"):
        with pytest.raises(InputError, match="layer ratio"):
            parse_ratio(text)


@pytest.mark.parametrize("text", ["5ms", "5000us", "0.005s"])
def test_milliseconds(text: str):
    assert budgets({"latency": text}, FULL, lambda: 10.0) == {"latency": pytest.approx(0.5)}


def test_more_time_than_it_takes_is_no_budget():
    assert budgets({"latency": "20ms"}, FULL, lambda: 10.0) == {"latency": 1.0}


@pytest.mark.parametrize("text", ["5", "0", "-1ms", "5MB", "fast", "150%"])
def test_what_is_no_latency(text: str):
    with pytest.raises(InputError, match="latency"):
        budgets({"latency": text}, FULL, lambda: 10.0)


def test_milliseconds_where_only_shares_make_sense():
    with pytest.raises(InputError, match="give a share here"):
        budgets({"latency": "5ms"}, FULL)


@pytest.mark.parametrize("text", ["0", "-8", "often", "2.5"])
def test_what_is_no_step(text: str):
    arguments = ["prune", DIGITS, "out.onnx", "--target", "macs=0.5", "--round-to", text]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "round_to" in done.output
