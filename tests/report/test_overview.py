"""What inspect shows first: a summary, the largest groups by short names, what blocks the most."""

from typing import Any

import onnx
import pytest
from networks import NETWORKS
from text_models import perceptron, text_model, two_heads

from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.report import overview as module
from onnxprune.report.inspection import inspect_text, inspect_values
from onnxprune.report.overview import group_names, overview
from onnxprune.report.parts import plain
from onnxprune.settings import Settings


def lines(model: onnx.ModelProto | Analysis, every: bool = False, **notes: Any) -> list[str]:
    analysis = model if isinstance(model, Analysis) else analyze(model)
    return plain(overview(analysis, inspect_values(analysis) | notes, every)).splitlines()


def test_every_line_of_a_small_model_by_hand() -> None:
    """At one channel 3 + 2 of 20 MACs are left, and 3 + 1 + 2 + 2 of 26 parameters."""
    assert lines(perceptron(), notes=["seen"]) == [
        "model     20 MACs at x 1x3, 26 parameters, 358 B",
        "can go    up to 75.0% of MACs and 69.2% of parameters: 4 channels in 1 groups",
        "blocked   1 weight has channels that cannot be pruned, in layers with 40.0% of MACs",
        "mostly    40.0%: 'y' is an output of the model; it is part of the model's interface",
        "groups (1), and the share of MACs that goes with each",
        "  group  MACs                          parameters  channels",
        "  a      ████████████████████  100.0%       92.3%         4",
        "blocked, by the share of MACs in the layers",
        "  40.0%  c[0] (2 of 2): 'y' is an output of the model; blocked by the interface at y[1]; "
        "it is part of the model's interface",
        "note      seen",
    ]


def test_all_of_it_has_every_line_of_the_long_text() -> None:
    analysis = analyze(two_heads())
    found = lines(analysis, every=True)
    assert found[:4] == lines(analysis)[:4]
    assert found[4:] == inspect_text(inspect_values(analysis)).splitlines()


def test_long_lists_show_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = analyze(NETWORKS["residual_spine"]())
    monkeypatch.setattr(module, "GROUPS", 2)
    found = lines(analysis)
    begin = found.index(
        f"groups ({len(analysis.groups)}), and the share of MACs that goes with each"
    )
    rows = found[begin + 2 : begin + 4]
    shares = sorted((g["macs_share"] for g in inspect_values(analysis)["groups"]), reverse=True)
    shown = sorted((row.split()[-3] for row in rows), key=lambda s: -float(s[:-1]))
    assert shown == [f"{share:.1%}" for share in shares[:2]]
    assert found[begin + 4].startswith(f"  and {len(shares) - 2} smaller ones")


SOFTMAX = """m (float[1, 8] x) => (float[1, 2] y) {
    h = MatMul (x, a)
    p = Softmax <axis = 1> (h)
    q = MatMul (p, b)
    s = Softmax <axis = 1> (q)
    y = MatMul (s, c)
}"""


def test_the_cause_that_blocks_the_most_comes_first() -> None:
    """Both sums of Softmax are one cause, which a setting takes; the output is another."""
    model = text_model(SOFTMAX, a=(8, 6), b=(6, 4), c=(4, 2))
    found = lines(model)
    begin = found.index("blocked, by the share of MACs in the layers") + 1
    first, second = found[begin : begin + 2]
    assert first.startswith("  90.0%  a[1] (6 of 6): removal changes the sum of Softmax")
    assert first.endswith("--allow-inexact takes it (and 1 more weight)")
    assert second.startswith("  10.0%  c[1] (2 of 2): 'y' is an output of the model")
    assert found[3].startswith("mostly    90.0%: removal changes the sum of Softmax")
    taken = "\n".join(lines(analyze(model, Settings(allow_inexact=True))))
    assert "takes it" not in taken and " inexact" in taken


CONVOLUTIONS = """m (float[1, 3, 8, 8] x) => (float[1, 2, 8, 8] y) {
    h = Conv (x, w, b)
    y = Conv (h, v)
}"""


@pytest.mark.parametrize(
    ("weight", "bias", "name"),
    [
        ("onnx::Conv_1", "onnx::Conv_2", "net.0"),  # the node's
        ("val_1", "first.bias", "first"),
        ("first.conv.weight", "b.bias", "first.conv"),
    ],
)
def test_a_layer_is_called_by_what_exporters_did_not_number(
    weight: str, bias: str, name: str
) -> None:
    model = text_model(CONVOLUTIONS, w=(4, 3, 1, 1), b=(4,), v=(2, 4, 1, 1))
    names = {"w": weight, "b": bias}
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    first = model.graph.node[0]
    first.name = "/net/net.0/Conv"
    first.input[1:] = [weight, bias]
    assert group_names(analyze(model)) == [name]


def test_heads_are_told_apart_from_what_lies_in_them() -> None:
    names = group_names(analyze(two_heads()))
    assert len(set(names)) == len(names)


def test_copies_are_counted() -> None:
    assert "note      2 weights are copies of shared ones: --verbose lists them" in lines(
        NETWORKS["shared_zero_bias"]()
    )
