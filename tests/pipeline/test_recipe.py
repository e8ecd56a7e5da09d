"""Recipes as they are read: what they mean, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest

from onnxprune import InputError
from onnxprune.pipeline.recipe import KEYS, StageOf, parsed, read, then

WRONG = [
    ("", "a recipe has at least one [[stage]]"),
    ("stage = 3", "a recipe has at least one [[stage]]"),
    ("[[stage]]\nkind = 'prun'", "unknown kind 'prun'; did you mean 'prune'?"),
    ("[[stage]]\ntarget = 3", "stage 1 lacks its kind"),
    ("[[stage]]\nkind = 'sparsify'\nsparcity = 0.5", "stage 1 (sparsify): unknown key 'sparcity'; "
     "did you mean 'sparsity'?"),
    ("[[stage]]\nkind = 'prune'\nseed = 1", "stage 1 (prune): unknown key 'seed'"),
    ("device = 'cpu'\n[[stage]]\nkind = 'prune'", "the recipe: unknown key 'device'"),
    ("calibb = 'x'\n[[stage]]\nkind = 'sparsify'", "unknown key 'calibb'; did you mean 'calib'?"),
    ("[[stage]]\nkind = 'quantise'", "give calib"),
    ("[[stage]]\nkind = 'quantise'\nmode = 'dynamic'\n[[stage]]\nkind = 'sparsify'",
     "quantise must be the last stage"),
    ("[[stage", "no recipe"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[m[:30] for _, m in WRONG])
def test_refusals_name_the_file(text: str, message: str, tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path)
    assert message in str(caught.value) and str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_missing(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read(tmp_path / "no.toml")


def test_files_beside_the_recipe_are_found(tmp_path: Path):
    for name in ("c.npz", "r.toml"):
        (tmp_path / name).write_text("")
    (tmp_path / "r.toml").write_text(
        "calib = 'c.npz'\nmore = 'c.npz'\nrules = 'elsewhere.toml'\nseed = 3\n"
        "[[stage]]\nkind = 'prune'\ntarget = { macs = 0.5 }"
    )
    found = read(tmp_path / "r.toml", {"evaluate": "c.py:f"})
    assert found.common == {
        "calib": f"{tmp_path}/c.npz",
        "more": f"{tmp_path}/c.npz",
        "evaluate": "c.py:f",
        "rules": "elsewhere.toml",
        "seed": 3,
    }
    assert found.stages == (StageOf("prune", {"target": {"macs": 0.5}}),)


STATIC = "[[stage]]\nkind = 'quantise'\nmode = 'static'\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("calib = 'feeds.py:samples'", r"calib = 'feeds.py:samples' names code, .* --calib FILE"),
        ("evaluate = 'score.py:f'", r"evaluate = 'score.py:f' names code, .* --evaluate FILE"),
        ("evaluate = 3", "evaluate = 3 names code"),
    ],
)
def test_a_recipe_names_no_code(tmp_path: Path, line: str, message: str):
    path = tmp_path / "r.toml"
    path.write_text(f"{line}\n[[stage]]\nkind = 'sparsify'\nsparsity = 0.5\n")
    with pytest.raises(InputError, match=f"r.toml: {message}"):
        read(path)


def test_samples_may_come_with_the_command(tmp_path: Path):
    path = tmp_path / "r.toml"
    path.write_text(STATIC)
    assert read(path, {"calib": "feeds.py:samples"}).common == {"calib": "feeds.py:samples"}
    path.write_text(f"calib = 'c.npz'\n{STATIC}")
    with pytest.raises(InputError, match=r"calib is 'c.npz' in the recipe: leave out --calib"):
        read(path, {"calib": "feeds.py:samples"})


def test_stages_understand_what_they_did():
    """Keys of a stage are what recipes hold that people have written."""
    prune = (
        "target importance scope min_channels round_to exclude layer_ratio allow_inexact lossless"
    )
    prune += " compensate distill blocks steps spatial rotate between"
    sparsify = (
        "sparsity scope layer_sparsity threshold pattern criterion ops include misfit storage"
    )
    sparsify += " exclude compensate distill steps"
    assert set(prune.split()) == set(KEYS["prune"])
    assert set(sparsify.split()) <= set(KEYS["sparsify"])
    finetune = (
        "data teacher exclude loss epochs rate warmup batch_size held_out patience augment qat"
    )
    assert set(finetune.split()) == set(KEYS["finetune"])
    assert set(KEYS["quantise"]) == {"mode", "per_channel", "exclude", "full_range"}


@pytest.mark.parametrize(
    ("text", "stage"),
    [("sparsify=2:4", StageOf("sparsify", {"pattern": "2:4"})),
     ("sparsify=0.7", StageOf("sparsify", {"sparsity": 0.7})),
     ("quantise", StageOf("quantise", {"mode": "static"})),
     ("quantise=dynamic", StageOf("quantise", {"mode": "dynamic"})),
     ("finetune", StageOf("finetune", {})),
     ("finetune=a.npz", StageOf("finetune", {"data": "a.npz"})),
     ("finetune=a.npz,epochs=3,rate=0.1", StageOf("finetune", {"data": "a.npz", "epochs": 3,
                                                               "rate": 0.1})),
     ("finetune=a.npz,qat=channel", StageOf("finetune", {"data": "a.npz", "qat": "channel"}))],
)  # fmt: skip
def test_then(text: str, stage: StageOf):
    assert then(text) == stage


@pytest.mark.parametrize("text", ["prune=0.5", "sparsify", "sparsify=", ""])
def test_then_refuses(text: str):
    with pytest.raises(InputError, match=f"then '{text}': give sparsify=2:4"):
        then(text)


def test_widths_are_rounded_for_the_largest_pattern_behind():
    kinds = [{"kind": "prune"}, {"kind": "sparsify", "pattern": "2:4"},
             {"kind": "prune", "round_to": 2}, {"kind": "sparsify", "pattern": "4:8"},
             {"kind": "prune"}, {"kind": "sparsify", "pattern": "4x1"}]  # fmt: skip
    widths = [stage.options.get("round_to") for stage in parsed({"stage": kinds}).stages]
    assert widths == [8, None, 2, None, None, None]


def test_quantize_is_another_spelling_of_quantise() -> None:
    table = {"stage": [{"kind": "quantize", "mode": "dynamic"}]}
    assert parsed(table) == parsed({"stage": [{"kind": "quantise", "mode": "dynamic"}]})
    assert then("quantize=dynamic") == then("quantise=dynamic")


@pytest.mark.parametrize("text", ["finetune=a.npz,epoch=3", "finetune=a.npz,epochs=many"])
def test_options_of_finetune_that_cannot_be(text: str):
    with pytest.raises(InputError, match=f"then '{text}': (unknown key 'epoch'|write epochs=)"):
        then(text)


def test_a_stage_between_the_steps_of_another():
    tune = {"kind": "finetune", "epochs": 3}
    table = {"kind": "prune", "target": {"macs": "25%"}, "steps": 2, "between": tune}
    stages = parsed({"stage": [table, {"kind": "sparsify", "pattern": "2:4"}]}).stages
    assert [stage.kind for stage in stages] == ["prune", "finetune"] * 2 + ["sparsify"]
    assert stages[0] == stages[2] == StageOf("prune", {"round_to": 4, "target": {"macs": 0.5}})
    assert stages[1].options == {"epochs": 3}
    inner = {**table, "steps": 1, "target": {"macs": 0.5}}
    nested = parsed({"stage": [{**table, "between": inner}]}).stages
    assert [stage.kind for stage in nested] == ["prune", "prune", "finetune"] * 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": {"size": "2MB"}}, "between: the target .* is no share .* give one such as"),
        ({"target": 0.5}, "target 0.5: give metrics and amounts"),
        ({"steps": "two"}, "steps 'two': give a whole number"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"between": "finetune"}, "between lacks its kind"),
        ({"between": {"kind": "finetune", "epochs": 0}}, r"between \(finetune\): epochs 0: give"),
    ],
)
def test_what_cannot_stand_between_steps(changed: dict[str, Any], message: str):
    table = {"kind": "prune", "target": {"macs": 0.5}, "between": {"kind": "finetune"}}
    with pytest.raises(InputError, match=message):
        parsed({"stage": [{**table, **changed}]})


def test_options_of_finetune_are_refused_before_any_stage():
    stages = [{"kind": "prune"}, {"kind": "finetune", "rate": 2}]
    with pytest.raises(InputError, match=r"stage 2 \(finetune\): rate 2: give a share"):
        parsed({"stage": stages})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"steps": "two"}, "steps 'two': give a whole number"),
     ({"steps": 0}, "steps must be at least 1"),
     ({"target": "macs=0.5"}, "target 'macs=0.5': give metrics and amounts"),
     ({"target": [0.5]}, r"target \[0.5\]: give metrics and amounts")],
)  # fmt: skip
def test_steps_with_another_between_them_are_checked(wrong: dict[str, Any], message: str):
    table = {"kind": "prune", "target": {"macs": 0.5}, "between": {"kind": "finetune"}, **wrong}
    with pytest.raises(InputError, match=message):
        parsed({"stage": [table]})


def test_a_stage_names_no_code(tmp_path: Path):
    path = tmp_path / "r.toml"
    for line in ("data = 'feed.py:samples'", "loss = { 'own.py:loss' = 1.0 }"):
        path.write_text(f"[[stage]]\nkind = 'finetune'\n{line}\n")
        with pytest.raises(InputError, match=r"r.toml: a stage names the code '\w+.py:\w+', which"):
            read(path)


def test_files_of_a_stage_lie_beside_the_recipe(tmp_path: Path):
    path = tmp_path / "r.toml"
    (tmp_path / "train.npz").write_text("")
    path.write_text("[[stage]]\nkind = 'finetune'\ndata = 'train.npz'\nteacher = 'no.onnx'\n")
    expected = {"data": f"{tmp_path}/train.npz", "teacher": "no.onnx"}
    assert read(path).stages == (StageOf("finetune", expected),)
