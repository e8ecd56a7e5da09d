"""Groups: widths, curves, what was reached, what is frozen."""

from pages import prune_values, sensitivity_values, tree

from onnxprune.report.html.groups import curves_of, frozen, reached, sensitivities, widths

VALUES = prune_values("conv.weight")


def test_widths_of_every_group() -> None:
    (section,) = widths("", VALUES["groups"], VALUES["blocks"])
    made = tree(section)
    assert "48 of 72 channels in 2 groups are kept. Widths lie on blocks" in made.text
    assert "conv.weight" in made.text and "62.5%" in made.text
    assert made.all("details")[0] == {"open": ""}
    many = [{"name": str(k), "channels": 8, "kept": 4} for k in range(40)]
    assert tree(widths("", many)[0]).all("details")[0] == {}
    assert widths("", []) == []


def test_curves_of_both_reports() -> None:
    (chosen,) = curves_of(VALUES["sensitivities"])
    assert chosen.kept == (0.625, 0.01) and chosen.points[-1] == (1 / 64, 2.0)
    assert chosen.measured == [(1.0, 0.0), (0.5, 0.02)]
    first, _ = curves_of(sensitivity_values()["groups"])
    assert first.kept is None and first.measured == [(1.0, 0.0), (0.5, 0.1)]
    assert first.points[0] == (1.0, 0.0) and len(first.points) == 8


def test_the_dearest_groups_come_first() -> None:
    rows = [
        {"name": name, "channels": 8, "kept": 4, "measured": [4], "divergence": {"8": 0.0, "4": at}}
        for name, at in (("little", 0.001), ("much", 0.5))
    ]
    (section,) = sensitivities("", rows)
    text = tree(section).text
    assert text.index("much 50%") < text.index("little 50%")
    assert sensitivities("", []) == []
    flat = [{**rows[0], "divergence": {"8": 0.0, "4": 0.0}}]
    assert sensitivities("", flat) == []


def test_what_was_reached_and_why_not_the_rest() -> None:
    (section,) = reached("", VALUES["calibration"])
    text = tree(section).text
    assert "layers refitted 18 20" in text and "1 layers: it is int8" in text
    assert "parameters" not in text and reached("", None) == []


def test_frozen_by_reason_the_most_frequent_first() -> None:
    row = VALUES["frozen"][0]
    rows = [row, {**row, "reason": "a shape", "node": ""}, {**row, "reason": "a shape"}]
    (section,) = frozen("", rows)
    text = tree(section).text
    assert "3 weights have channels that stay" in text
    assert text.index("2 weights: a shape") < text.index("1 weight: 'conv.weight' is an output")
    assert "conv.weight[0]: 10 of 10, blocked by conv.weight" in text
    assert "It is the interface." in text and frozen("", []) == []
