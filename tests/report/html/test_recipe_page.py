"""The page of a recipe."""

from pages import about, recipe_values, tree

from onnxprune.report.html.recipe_page import recipe_page


def test_the_last_stage_is_judged_and_all_are_told() -> None:
    page = recipe_page(recipe_values("conv"), about("run"))
    assert page.verdict.tone == "bad" and "50% more time per run" in page.verdict.headline
    assert page.verdict.more == "Pruned, then made sparse, then quantised."
    assert [one.key for one in page.sections] == [
        "stages", "timing", "stage-1", "stage-2", "stage-3", "notes",
    ]  # fmt: skip
    stages = tree(page.sections[0]).text
    assert "1, prune 100 kB −79% 1 ms (−50%) 97.00% 98.0%" in stages
    first = tree(page.sections[2]).text
    assert "Asked for: macs 0.5. It took 1.5 s." in first and "Proof: exact" in first


def test_a_stage_of_an_older_run_and_the_users_score() -> None:
    values = recipe_values("conv")
    for stage in values["stages"]:
        del stage["latency"]
        stage |= {"score": 0.5, "resumed": True}
        stage["details"].pop("sensitivities", None)
    page = recipe_page({**values, "score": 0.75}, about("run"))
    assert [one.key for one in page.sections][1] == "stage-1"
    assert page.verdict.cards[-1].value == "−0.25"
    assert "1, prune (resumed)" in tree(page.sections[0]).text
