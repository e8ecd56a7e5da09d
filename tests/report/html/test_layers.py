"""How far layers drifted, on a page."""

from pages import prune_values, tree

from onnxprune.report.html.charts import COLUMNS
from onnxprune.report.html.layers import OPEN, layer_divergences

VALUES = prune_values("conv")["layers"]


def test_every_layer_has_a_column_and_a_row() -> None:
    (section,) = layer_divergences("", VALUES)
    made = tree(section)
    assert not made.unbalanced and section.key == "layers"
    titles = [text for tag, text in made.texts if tag == "title"]
    assert titles == ["Divergence of every layer", "conv: 2%", "last: 0.5%"]
    assert "16 samples, conv." in made.text and "conv 2% " in made.text
    assert made.all("details")[0] == {"open": ""}
    columns = [one for one in made.all("rect") if one.get("x")]
    assert [one["height"] for one in columns] == ["100%", "25%"]


def test_very_many_layers_are_one_shape() -> None:
    rows = [{"name": str(k), "divergence": k / 1000} for k in range(COLUMNS + 1)]
    (section,) = layer_divergences("", {**VALUES, "rows": rows})
    made = tree(section)
    assert len(made.all("path")) == 1 and len(rows) > OPEN
    assert made.all("details")[0] == {}


def test_nothing_that_drifted_is_drawn_too_and_nothing_measured_has_no_section() -> None:
    rows = [{"name": "a", "divergence": 0.0}]
    assert "a 0%" in tree(layer_divergences("", {**VALUES, "rows": rows})[0]).text
    assert layer_divergences("", None) == [] == layer_divergences("", {**VALUES, "rows": []})
