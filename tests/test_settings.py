"""Settings by stage: what they refuse, that editors know them all, and which change a key."""

import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from networks import NETWORKS
from running import samples
from setting_values import setting_values

import onnxprune
from onnxprune import InputError, Settings, settings, user_code
from onnxprune.ir.runtime import Device
from onnxprune.pipeline import recipe
from onnxprune.pipeline.sparsify import SparsifyChanges
from onnxprune.settings import (
    AnalysisSettings,
    ImportanceSettings,
    InputSettings,
    SettingsChanges,
    names_of,
    settings_key,
    settings_of,
)
from onnxprune.sparsity.options import Sparsity

MODEL = NETWORKS["residual_spine"]()
VALUES = setting_values(MODEL, samples(MODEL))
FIELDS = {field.name: field for field in fields(Settings)}
#: What users call with settings as keywords.
VERBS = ("prune", "apply", "sparsify", "run", "check", "bench", "sensitivity_table")
STAGES = [value for value in vars(settings).values() if isinstance(value, type)
          and issubclass(value, InputSettings)]  # fmt: skip


def test_keywords_are_the_fields_type_by_type():
    assert get_type_hints(SettingsChanges) == {
        name: hint for name, hint in get_type_hints(Settings).items() if name in FIELDS
    }
    assert SettingsChanges.__total__ is False
    own = get_type_hints(Sparsity)
    assert get_type_hints(SparsifyChanges) == {**get_type_hints(SettingsChanges), **own}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_are_typed(verb: str):
    kind = "SparsifyChanges" if verb == "sparsify" else "SettingsChanges"
    parameters = inspect.signature(getattr(onnxprune, verb)).parameters
    assert parameters["changes"].annotation == f"Unpack[{kind}]"
    assert parameters["settings"].annotation == "Settings | None"


def test_every_stage_is_part_of_settings():
    assert len(STAGES) == 9
    for stage in STAGES:
        assert issubclass(Settings, stage)
        told = {name for base in stage.__mro__ for name in vars(base).get("__annotations__", {})}
        assert set(names_of(stage)) == told
        doc = stage.__doc__ or ""
        for name in vars(stage).get("__annotations__", {}):
            assert f"{name}: " in doc, f"{stage.__name__} does not say what {name} is"


REFUSED = [
    ({"input_shapes": "x:1"}, "input_shapes 'x:1': give a mapping"),
    ({"layer_ratio": "x=1"}, "layer_ratio 'x=1': give a mapping"),
    ({"layer_ratio": {"x": 0}}, "layer_ratio: the share to keep lies above 0, up to 1"),
    ({"layer_ratio": {"x": 1.1}}, "layer_ratio: the share to keep lies above 0, up to 1"),
    ({"seed": -1}, "seed must be at least 0"),
    ({"batch": 0}, "batch must be at least 1"),
    ({"min_channels": 0}, "min_channels must be at least 1"),
    ({"calib_samples": 0}, "calib_samples and steps must be at least 1"),
    ({"steps": 0}, "calib_samples and steps must be at least 1"),
    ({"distill": -1}, "distill: give True, False or a number of rounds"),
    ({"scope": "all"}, "unknown scope 'all'. There are: global, layer"),
    ({"round_to": 0}, "round_to 0: give a whole number, at least 1, or 'auto'"),
    ({"round_to": True}, "round_to True: give a whole number, at least 1, or 'auto'"),
    ({"round_to": "8"}, "round_to '8': give a whole number, at least 1, or 'auto'"),
    ({"max_drop": 0.1}, "max_drop needs evaluate: a function that scores a session"),
    ({"max_drop": -1.0, "evaluate": str}, "max_drop -1.0: give the largest drop, at least 0"),
    ({"max_drop": float("nan"), "evaluate": str}, "max_drop nan: give the largest drop"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_refusals(changes: dict[str, Any], message: str):
    with pytest.raises(InputError) as caught:
        settings_of(None, changes)
    assert message in str(caught.value)
    with pytest.raises(InputError):
        Settings(**changes)


def test_unknown_names_are_told_apart():
    with pytest.raises(InputError, match=r"unknown setting 'a'. There are: importance, scope"):
        settings_of(None, {"b": 1, "a": 1})


def test_what_people_write_is_taken():
    found = settings_of(Settings(seed=3), {"exclude": "conv", "device": "cpu"})
    assert (found.exclude, found.device, found.seed) == (("conv",), Device("cpu"), 3)
    assert settings_of(Settings(exclude="conv"), {}).exclude == ("conv",)


def test_a_recipe_gives_every_setting_at_one_place():
    assert set(recipe.COMMON).isdisjoint(recipe.SETTINGS_OF["prune"])
    nowhere = set(FIELDS) - set(recipe.COMMON) - set(recipe.SETTINGS_OF["prune"])
    assert nowhere == {
        "cache",
        "device",
        "jobs",
        "latency",
        "max_drop",
        "progress",
        "scratch",
        "timer",
    }
    assert set(recipe.SETTINGS_OF["sparsify"]) <= set(recipe.SETTINGS_OF["prune"])


@pytest.mark.parametrize("name", FIELDS)
def test_a_key_changes_with_what_can_change_a_result(name: str):
    first, second = VALUES[name]
    a = replace(Settings(evaluate=VALUES["evaluate"].first), **{name: first})
    b = replace(a, **{name: second})
    about = FIELDS[name].metadata
    sampled = name == "calib"  # its samples' digest stands for it
    for timed in (False, True):
        keys = [settings_key(s, samples="s", timed=timed) for s in (a, b)]
        counts = not about.get("measure_only") and not sampled
        counts &= timed or not about.get("time_only")
        assert (keys[0] != keys[1]) == counts
    keys = [settings_key(s, stage=ImportanceSettings) for s in (a, b)]
    own = name in names_of(ImportanceSettings)
    assert (keys[0] != keys[1]) == own


def test_a_key_counts_all_facts(monkeypatch: pytest.MonkeyPatch):
    options = Settings()
    keys = [
        settings_key(options),
        settings_key(options, timed=True),
        settings_key(options, samples="a"),
        settings_key(options, "a"),
        settings_key(options, "a", "b"),
        settings_key(options, stage=AnalysisSettings),
    ]
    for place, name, value in (
        (settings, "__version__", "0"),
        (Device, "environment", lambda _: {"provider": "P", "threads": 1, "cpu": "other"}),
        (Device, "environment", lambda _: {"provider": "P", "threads": 1, "onnxruntime": "0"}),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            keys.append(settings_key(options, timed=True))
    assert len(set(keys)) == len(keys)
    assert settings_key(options) == settings_key(Settings())


def test_rules_count_by_what_stands_in_the_file(tmp_path: Path):
    a, b = tmp_path / "a.toml", tmp_path / "b.toml"
    a.write_text("x = 1")
    b.write_text("x = 1")
    key = settings_key(Settings(rules=a))
    assert settings_key(Settings(rules=str(b))) == key
    a.write_text("x = 2")
    assert settings_key(Settings(rules=a)) != key
    a.unlink()
    assert settings_key(Settings(rules=a)) not in (key, settings_key(Settings()))


def test_functions_count_by_their_files(tmp_path: Path):
    file = tmp_path / "score.py"
    file.write_text("def one(session): return 1.0\ndef two(session): return 1.0\n")
    names = [f"{file}:one", f"{file}:two"]
    functions = [user_code.function_of(name, "evaluate").function for name in names]
    given: list[Any] = [*names, *functions]
    before = [settings_key(Settings(evaluate=evaluate)) for evaluate in given]
    assert len(set(before)) == 4
    file.write_text(file.read_text() + "# changed\n")
    after = [settings_key(Settings(evaluate=evaluate)) for evaluate in given]
    assert not set(before) & set(after)


@pytest.mark.parametrize("value", [{"steps": 2**40}, {"distill": 2**31}])
def test_what_would_never_end_is_refused(value: dict[str, Any]):
    with pytest.raises(InputError, match=f"{next(iter(value))}.*at most 1000|rounds up to 100000"):
        Settings(**value)
