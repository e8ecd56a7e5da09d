"""How a difference between two models reads."""

import json

from onnxprune.ir.model_changes import Link, ModelChanges, NodeChange, NodeName, WeightChange
from onnxprune.report.difference import Difference

TOTALS = {"macs": (100, 50), "params": (None, 30), "bytes": (2000, 1000), "nodes": (3, 3)}
WEIGHTS = [
    WeightChange("bn.weight", "4", "2", (16, 8)),
    WeightChange("bn.bias", "4", "2", (16, 8)),
    WeightChange("w", "2", "2", (8, 8)),
    WeightChange("old", "1", None, (4, 0)),
    WeightChange("bias", None, "1", (0, 4)),
]
CHANGE = NodeChange(
    NodeName("net/n/Op", "Op"), {"axis": ("1", "-")}, WEIGHTS, [Link(3, "a", "b")], outputs=(1, 2)
)


def test_every_line() -> None:
    changes = ModelChanges(
        gone=[NodeName("g", "Relu")], new=[NodeName("k", "Tanh")], changed=[CHANGE], same=2,
        weights=WEIGHTS[:1], interface={"input x": ("float 1", "float 2")},
        about={"IR version": ("8", "9")},
    )  # fmt: skip
    found = Difference(changes, TOTALS, ["cannot be counted"])
    rest = "w 2 other numbers; old 1 gone; bias 1 new; input 3 a → b; 1 → 2 outputs"
    what = f"axis 1 → -; weight, bias 4 → 2; {rest}"
    whole = f"  net/n/Op  Op  axis 1 → -; bn.{{weight,bias}} 4 → 2; {rest}"
    assert whole in found.text(every=True).splitlines()
    assert not found.equal and found.text().splitlines() == [
        "            before  after  ratio",
        "MACs           100     50  0.500",
        "parameters       ?     30",
        "file          2 kB   1 kB  0.500",
        "nodes            3      3  1.000",
        "nodes     1 changed, 1 gone, 1 new, 2 the same",
        "input     x: float 1 → float 2",
        "model     IR version: 8 → 9",
        "note      cannot be counted",
        "changed (1)",
        f"  net.n  Op  {what}",
        "gone (1)",
        "  Relu  g",
        "new (1)",
        "  Tanh  k",
        "weights by size (1)",
        "  bn.weight  4 → 2  16 B → 8 B",
    ]


def test_long_lists_end_with_how_many_are_left() -> None:
    gone = [NodeName(f"n{k}", "Relu") for k in range(40)]
    found = Difference(ModelChanges(gone=gone, weights=WEIGHTS[:1] * 12), TOTALS)
    text = found.text()
    assert "gone (40)" in text and "n29" in text and "n30" not in text
    assert (
        text.count("--verbose lists them") == 2 and "and 10 more" in text and "and 2 more" in text
    )
    assert "n39" in found.text(every=True) and "--verbose" not in found.text(every=True)


def test_equal_models_and_json() -> None:
    found = Difference(ModelChanges(same=2), TOTALS)
    assert found.equal and "equal     nothing differs but names inside the graph" in found.text()
    values = json.loads(json.dumps(Difference(ModelChanges(changed=[CHANGE]), TOTALS).values()))
    assert values["equal"] is False and values["totals"]["macs"] == {"before": 100, "after": 50}
    (node,) = values["nodes"]["changed"]
    assert node["op"] == "Op" and node["attributes"] == {"axis": ["1", "-"]}
    assert node["weights"][0] == {
        "name": "bn.weight", "before": "4", "after": "2", "bytes": [16, 8]
    }  # fmt: skip
    assert node["inputs"] == [{"number": 3, "before": "a", "after": "b"}]
