"""Short names read well and stay apart."""

import pytest

from onnxprune.report.names import short_names, together

SHORT = [
    (["a.b.weight", "a.c.d.weight"], ["b", "c.d"]),
    (["/layer1/layer1.0/conv1/Conv", "/layer2/layer2.0/conv2/Conv"],
     ["layer1.0.conv1", "layer2.0.conv2"]),
    (["/f/f.0/f.0.1/Conv", "/f/f.1/f.1.0/Conv"], ["0.1", "1.0"]),
    (["a", "b.a"], ["a", "b.a"]),
    (["x.w", "x.w"], ["x.w", "x.w"]),
    (["x.a/b", "x.a.b"], ["x.a/b", "x.a.b"]),
    (["onnx::Conv_1", "onnx::Conv_2"], ["onnx::Conv_1", "onnx::Conv_2"]),
    (["net.layer.weight"], ["net.layer.weight"]),
    (["/", ""], ["/", ""]),
    ([], []),
]  # fmt: skip


@pytest.mark.parametrize(("names", "short"), SHORT)
def test_what_all_share_is_left_out(names: list[str], short: list[str]) -> None:
    assert short_names(names) == short


def test_names_that_differ_stay_different() -> None:
    names = ["m.a.w", "m/a.w", "m.b.w", "m.a/w", "/m/m.a/w"]
    assert len(set(short_names(names))) == len(names)


def test_names_together() -> None:
    assert together(["bn.weight", "bn.bias"]) == "bn.{weight,bias}"
    assert together(["bn.weight"]) == "bn.weight"
    assert together(["a", "b"]) == "a, b"
    assert together(["conv_1", "conv_12"]) == "conv_{1,12}"
