"""What made a page: command, settings, versions."""

from pages import tree

from onnxprune.report.html.about import About, Setting, run_sections


def test_the_command_and_the_settings_that_were_given_come_first() -> None:
    settings = [Setting("--seed", "0"), Setting("--target", "macs=0.5", given=True)]
    made = About("prune", ["a.onnx"], "onnxprune prune a.onnx", settings, {"numpy": "2"})
    repeat, chosen = run_sections(made, {"cpu": "x"})
    assert "onnxprune prune a.onnx" in tree(repeat).text
    text = tree(chosen).text
    assert text.index("--target macs=0.5") < text.index("1 settings with their default")
    assert "numpy 2" in text and "cpu x" in text


def test_what_is_not_known_is_left_out() -> None:
    assert run_sections(About("prune"), {}) == []
    (only,) = run_sections(About("prune"), {"cpu": "x"})
    assert only.key == "settings"
