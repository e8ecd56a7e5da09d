"""Recipes as they are read: what they may say, what is refused, and which paths they mean."""

from pathlib import Path
from typing import Any

import pytest

from onnxprune.errors import InputError
from onnxprune.pipeline.recipe import KEYS, StageOf, parsed, read, then

PRUNE = {"kind": "prune", "target": {"macs": 0.5}}
SPARSIFY = {"kind": "sparsify", "pattern": "2:4"}
DYNAMIC = {"kind": "quantise", "mode": "dynamic"}
WHOLE = """
calib = "samples.npz"
data = "test.npz"
seed = 3

[[stage]]
kind = "prune"
target = { macs = 0.5 }

[[stage]]
kind = "quantise"
"""


def recipe(*stages: Any, **common: Any) -> dict[str, Any]:
    return {"stage": list(stages), **common}


def test_stages_come_in_order_with_their_options() -> None:
    made = parsed(recipe(PRUNE, DYNAMIC, seed=3))
    assert made.stages == (
        StageOf("prune", {"target": {"macs": 0.5}}),
        StageOf("quantise", {"mode": "dynamic"}),
    )
    assert made.common == {"seed": 3}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "a recipe has at least one [[stage]]"),
    (recipe(), "a recipe has at least one [[stage]]"),
    ({"stage": 3}, "a recipe has at least one [[stage]]"),
    (recipe(3), "stage 1 lacks its kind: prune, sparsify, quantise"),
    (recipe(PRUNE, {"target": 3}), "stage 2 lacks its kind"),
    (recipe({"kind": "prun"}), "stage 1: unknown kind 'prun'; did you mean 'prune'?"),
    (recipe({**SPARSIFY, "sparcity": 0.5}),
     "stage 1 (sparsify): unknown key 'sparcity'; did you mean 'sparsity'?"),
    (recipe({**PRUNE, "calib": "x"}), "stage 1 (prune): unknown key 'calib'"),
    (recipe(PRUNE, calibb="x"), "the recipe: unknown key 'calibb'; did you mean 'calib'?"),
    (recipe({"kind": "quantise"}),
     "a static quantise stage takes ranges from samples: give calib"),
    (recipe(DYNAMIC, SPARSIFY),
     "quantise must be the last stage: what is quantised is no longer refitted"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WRONG, ids=[m[:40] for _, m in WRONG])
def test_what_cannot_be_meant_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        parsed(content)
    assert message in str(error.value)


def test_samples_are_needed_for_ranges_alone() -> None:
    parsed(recipe(DYNAMIC))
    parsed(recipe({"kind": "quantise"}, calib="random"))


def test_what_holds_for_all_stages_is_no_option_of_one() -> None:
    shared = {
        "calib",
        "calib_samples",
        "data",
        "evaluate",
        "seed",
        "input_shapes",
        "batch",
        "rules",
    }
    assert all(shared.isdisjoint(keys) for keys in KEYS.values())
    assert {"importance", "exclude", "steps", "compensate"} <= set(KEYS["prune"])
    assert {"exclude", "steps", "compensate"} <= set(KEYS["sparsify"])
    assert not {"latency", "device", "progress", "scratch", "cache"} & set(KEYS["prune"])


@pytest.mark.parametrize(
    ("later", "own", "expected"),
    [
        ("2:4", {}, 4),
        ("4:8", {}, 8),
        ("2:4", {"round_to": 16}, 16),  # what the recipe says counts
        ("4x1", {}, None),  # blocks of outputs need no multiple of inputs
    ],
)
def test_pruned_widths_fit_a_later_pattern(
    later: str, own: dict[str, int], expected: int | None
) -> None:
    made = parsed(recipe({**PRUNE, **own}, {"kind": "sparsify", "pattern": later}))
    assert made.stages[0].options.get("round_to") == expected
    before = parsed(recipe({"kind": "sparsify", "pattern": later}, {**PRUNE, **own}))
    assert before.stages[1].options.get("round_to") == own.get("round_to")


@pytest.mark.parametrize(
    ("text", "kind", "options"),
    [
        ("sparsify=2:4", "sparsify", {"pattern": "2:4"}),
        ("sparsify=0.7", "sparsify", {"sparsity": 0.7}),
        ("quantise=dynamic", "quantise", {"mode": "dynamic"}),
        ("quantise", "quantise", {"mode": "static"}),
    ],
)
def test_a_stage_in_one_word(text: str, kind: str, options: dict[str, Any]) -> None:
    assert then(text) == StageOf(kind, options)


@pytest.mark.parametrize("text", ["shrink=2", "sparsify", "sparsify=", "prune=0.5", ""])
def test_a_word_that_is_no_stage_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"then '{text}': give sparsify=2:4, sparsify=0.7, quan"):
        then(text)


def test_paths_count_from_the_folder_of_the_recipe(tmp_path: Path) -> None:
    """What lies beside the recipe is meant; other words stay as they are."""
    (tmp_path / "samples.npz").touch()
    (tmp_path / "score.py").touch()
    file = tmp_path / "r.toml"
    file.write_text(WHOLE.replace("seed = 3", 'seed = 3\nevaluate = "score.py:accuracy"'))
    common = read(file).common
    assert common["calib"] == str(tmp_path / "samples.npz")
    assert common["evaluate"] == f"{tmp_path / 'score.py'}:accuracy"
    assert (common["data"], common["seed"]) == ("test.npz", 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[stage", "no recipe: "),
        ("calibb = 1\n[[stage]]\nkind = 'prune'", "the recipe: unknown key 'calibb'"),
        (None, "cannot be read: No such file"),
        (b"\xff\xfe", "no recipe: "),
    ],
)
def test_a_file_that_is_no_recipe_is_named(
    content: str | bytes | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "r.toml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read(file)
    assert str(error.value).startswith(f"{file}: {message}")
